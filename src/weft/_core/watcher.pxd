cimport cython
from weft._core.driver cimport Sink
from weft._core.handle cimport Handle
from weft._core.scheduler cimport Scheduler

@cython.final
cdef class Watcher(Sink):
    cdef Scheduler loop
    cdef Handle reader
    cdef Handle writer
    cdef list readers
    cdef list writers
    cdef object socket
    cdef bint may_read
    cdef bint may_write
    cdef bint has_ended
    cdef bint is_stream

    cdef int settle(self) except -1
    cdef int on_short_read(self) except -1
    cdef object until_readable(self)
    cdef object until_writable(self)

cdef Watcher new_watcher(Scheduler loop, int fd)
cdef Watcher known_watcher(Scheduler loop, object sock)
cdef Watcher watcher_of(Scheduler loop, object sock)
