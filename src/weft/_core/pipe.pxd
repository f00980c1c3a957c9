cimport cython
from weft._core.channel cimport Channel, FlowChannel

cdef class ReadPipeTransport(Channel):
    cdef object data_received

cdef class WritePipeTransport(FlowChannel):
    cdef bint is_watched
