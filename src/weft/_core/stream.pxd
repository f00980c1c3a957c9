cimport cython
from weft._core.channel cimport FlowChannel
from weft._core.receiver cimport Receiver
from weft._core.sys.python cimport PyObject

cdef class StreamTransport(FlowChannel):
    cdef Receiver receiver
    cdef object data_received
    cdef object get_buffer
    cdef object buffer_updated
    cdef Py_buffer offered
    cdef PyObject* block  # owned: a bytes object to receive into, while much comes
    cdef bint is_bulk
    cdef object empty_waiter
    cdef bint is_eof_written

    cdef int check_writable(self) except -1
    cdef int push(self, object data) except -1
    cdef int shut_down(self) except -1
    cdef int on_empty(self) except -1

cdef object fill_names(dict extra, object sock)
cdef int send_without_delay(object sock) except -1
