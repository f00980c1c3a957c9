cimport cython
from weft._core.tls_flow cimport TlsFlow

cdef class TlsTransport(TlsFlow):
    cdef object layer  # the protocol of the transport below
    cdef object answers  # the transport below, for get_extra_info(), also when it has gone
    cdef object waiter
    cdef object timer
    cdef object handshake_timeout  # seconds, as given: they stand in the message
    cdef object shutdown_timeout
    cdef double started

    # the transport below, by the layer
    cdef int on_below_made(self, object below) except -1
    cdef int on_ciphertext(self, const char* data, Py_ssize_t size) except -1
    cdef bint on_below_eof(self) except -1
    cdef int on_below_lost(self, object error) except -1
    cdef int on_below_full(self) except -1
    cdef int on_below_drained(self) except -1

    cdef int advance(self) except -1
    cdef int exchange(self) except -1
    cdef int do_handshake(self) except -1
    cdef int end_handshake(self) except -1
    cdef int fail_handshake(self, object error) except -1
    cdef int wake(self, object error) except -1
    cdef int start_shutdown(self) except -1
    cdef int do_shutdown(self) except -1
    cdef int set_timer(self, object seconds, object callback) except -1
    cdef int give_up(self) except -1
    cdef int fail_below(self, object error) except -1
