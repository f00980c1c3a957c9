cimport cython
from weft._core.channel cimport FlowChannel

cdef class DatagramTransport(FlowChannel):
    cdef object peer
    cdef object datagram_received

    cdef int tell_error(self, object error) except -1
