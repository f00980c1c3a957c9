cimport cython
from weft._core.channel cimport FlowChannel

cdef class DatagramTransport(FlowChannel):
    cdef object packets
    cdef Py_ssize_t packets_size
    cdef object peer
    cdef bint is_connected
    cdef object datagram_received

    cdef bint send_one(self, bytes data, object address) except -1
    cdef int send_waiting(self) except -1
    cdef int tell_error(self, object error) except -1
