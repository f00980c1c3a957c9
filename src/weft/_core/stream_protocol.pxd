cimport cython
from weft._core.channel cimport Channel
from weft._core.operation cimport Operation
from weft._core.reader cimport StreamReader
from weft._core.receiver cimport Receiver

cdef class StreamProtocol(Receiver):
    cdef readonly object _loop
    cdef public bint _is_server
    cdef StreamReader reader
    cdef object transport
    cdef object error
    cdef list waiting  # for room to write, or for the end of the connection
    cdef bint is_paused
    cdef bint is_lost
    cdef bint is_over_tls

    cdef object drain(self, object transport, Channel channel, StreamReader reader)
    cdef object closed(self)
    cdef int wake_all(self) except -1

cdef class Ending(Operation):
    cdef StreamProtocol protocol

    cdef object wait(self)

@cython.final
cdef class Drain(Ending):
    cdef object transport
    cdef Channel channel  # the same, where it is one of ours
    cdef StreamReader reader
    cdef bint has_given_way
    cdef bint has_waited

    cdef bint is_closing(self) except -1
    cdef object give_way(self)

@cython.final
cdef class Closed(Ending):
    pass
