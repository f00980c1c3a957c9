cimport cython
from weft._core.lines cimport LoopBound, Wait
from weft._core.operation cimport Operation

cdef class LockCore(LoopBound):
    cdef object line  # None until somebody has to wait
    cdef bint is_locked
    cdef bint is_plain  # of exactly our class: nothing is overridden

    cdef bint may_take(self) except -1
    cdef int give_back(self) except -1
    cdef int wake_first(self) except -1

@cython.final
cdef class Acquire(Wait):
    cdef LockCore lock
    cdef bint is_entering  # for `async with`, which gets None

@cython.final
cdef class Leave(Operation):
    cdef LockCore lock

cdef class EventCore(LoopBound):
    cdef object line
    cdef bint value
    cdef bint is_plain

@cython.final
cdef class EventWait(Wait):
    cdef EventCore event

cdef class SemaphoreCore(LoopBound):
    cdef object line  # None until somebody has to wait
    cdef object value
    cdef object bound
    cdef bint is_plain
    cdef bint is_bounded

    cdef bint may_take(self) except -1
    cdef int give_back(self) except -1
    cdef bint wake_next(self) except -1
    cdef int pass_on(self) except -1

@cython.final
cdef class Take(Wait):
    cdef SemaphoreCore semaphore
    cdef bint is_entering

@cython.final
cdef class GiveBack(Operation):
    cdef SemaphoreCore semaphore

cdef Acquire new_acquire(LockCore lock, bint is_entering)
cdef Take new_take(SemaphoreCore semaphore, bint is_entering)
cdef EventCore new_event(bint is_set)
cdef Leave leaving(LockCore lock)
