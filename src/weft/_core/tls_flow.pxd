cimport cython
from weft._core.channel cimport Channel, FlowChannel
from weft._core.receiver cimport Receiver
from weft._core.stream cimport StreamTransport
from weft._core.tls_engine cimport Engine

cdef enum TlsState:
    FRESH, HANDSHAKE, WRAPPED, FLUSHING, SHUTDOWN, UNWRAPPED

cdef class TlsFlow(FlowChannel):
    cdef Engine engine
    cdef TlsState state
    cdef object below  # the transport below, while it lives
    cdef Channel channel  # the same, where it is one of ours
    cdef StreamTransport stream  # the same, where it is that
    cdef Receiver receiver
    cdef object data_received
    cdef object get_buffer
    cdef object buffer_updated
    cdef object failure  # of a read that gave something first
    cdef bint is_pumping
    cdef bint is_eof  # nothing comes from below any more
    cdef bint is_eof_told
    cdef bint is_below_full
    cdef bint is_below_paused

    cdef int pump(self) except -1
    cdef int decrypt(self) except -1
    cdef Py_ssize_t decrypt_to_block(self) except -2
    cdef Py_ssize_t decrypt_to_buffer(self) except -2
    cdef Py_ssize_t fill(self, char* where, Py_ssize_t room, Py_ssize_t* filled) except -2
    cdef int deliver(self, char* data, Py_ssize_t size) except -1
    cdef int tell_eof(self) except -1
    cdef bint may_write(self) except -1
    cdef int encrypt(self) except -1
    cdef Py_ssize_t encrypt_some(self) except -2
    cdef int send_below(self) except -1
    cdef int steer_below(self) except -1
