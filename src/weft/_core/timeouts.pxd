cimport cython
from weft._core.handle cimport Runnable
from weft._core.operation cimport Operation
from weft._core.timers cimport TimerHeap

cdef class TimeoutCore(Runnable):
    cdef object moment
    cdef object state
    cdef object task
    cdef object handle  # on a loop that keeps time its own way, and where it is due at once
    cdef object cancelling
    cdef TimerHeap heap  # where this stands in it
    cdef bint was_in_heap
    cdef bint is_stopped  # what is in the heap is to be passed over

    cdef int start(self, object loop) except -1
    cdef int stop(self) except -1
    cdef int enter(self) except -1
    cdef object expire(self)
    cdef int leave(self, object kind, object error) except -1

@cython.final
cdef class Enter(Operation):
    cdef TimeoutCore timeout

@cython.final
cdef class Exit(Operation):
    cdef TimeoutCore timeout
    cdef object kind
    cdef object error
