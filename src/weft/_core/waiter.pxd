cimport cython

cdef enum WaiterState:
    WAITING, WOKEN, GIVEN_UP

@cython.final
@cython.freelist(256)
cdef class Waiter:
    cdef object loop
    cdef object waker  # the task that is parked here
    cdef list callbacks  # of those that are no tasks of ours: (callback, context)
    cdef object message
    cdef WaiterState state
    cdef bint is_blocking

    cdef int wake(self) except -1
    cdef int settle(self) except -1
    cdef object error(self)

cdef Waiter new_waiter(object loop)
