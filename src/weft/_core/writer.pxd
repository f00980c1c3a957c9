from weft._core.channel cimport Channel
from weft._core.reader cimport StreamReader
from weft._core.stream_protocol cimport StreamProtocol

cdef class StreamWriter:
    cdef readonly object _loop
    cdef readonly object _transport
    cdef readonly StreamProtocol _protocol
    cdef readonly StreamReader _reader
    cdef Channel channel  # the transport, where it is one of ours
    cdef object transport_write
    cdef object __weakref__

    cdef int use(self, object transport) except -1
