cimport cython
from weft._core.lines cimport LoopBound, Wait
from weft._core.locks cimport Acquire, LockCore

cdef class ConditionCore(LoopBound):
    cdef object line
    cdef object lock
    cdef LockCore own  # the same, where both it and this are of exactly our classes

@cython.final
cdef class ConditionWait(Wait):
    cdef ConditionCore condition
    cdef Acquire acquiring  # taking the lock again
    cdef object error  # to be raised with the lock in hand

    cdef object take_again(self)
    cdef object finish(self)
    cdef int pass_on(self) except -1
