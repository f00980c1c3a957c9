cimport cython
from weft._core.driver cimport Sink
from weft._core.handle cimport Handle
from weft._core.scheduler cimport Scheduler
from weft._core.waiter cimport Waiter

@cython.final
cdef class Watcher(Sink):
    cdef Scheduler loop
    cdef Handle reader
    cdef Handle writer
    cdef list readers
    cdef list writers
    cdef bint may_read  # whether trying to read makes more sense than asking the kernel first

    cdef int settle(self) except -1
    cdef int wait(self) except -1
    cdef int await_readable(self, Waiter waiter) except -1
    cdef int await_writable(self, Waiter waiter) except -1

cdef Watcher new_watcher(Scheduler loop, int fd)
cdef Watcher watcher_at(Scheduler loop, int number)
cdef Watcher watcher_of(Scheduler loop, object sock)
