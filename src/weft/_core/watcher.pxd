cimport cython
from weft._core.driver cimport Sink
from weft._core.handle cimport Handle
from weft._core.scheduler cimport Scheduler

@cython.final
cdef class Watcher(Sink):
    cdef Scheduler loop
    cdef Handle reader
    cdef Handle writer

    cdef int settle(self) except -1
