cimport cython
from weft._core.operation cimport Operation
from weft._core.scheduler cimport Scheduler
from weft._core.timers cimport TimerHeap

@cython.final
cdef class Sleep(Operation):
    cdef object delay
    cdef object value
    cdef object handle  # the timer, on a loop that keeps time its own way
    cdef TimerHeap heap  # where this stands in it
    cdef bint is_over

    cdef int stop(self) except -1

cdef Scheduler clock_of(object loop)
