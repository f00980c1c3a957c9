from weft._core.operation cimport Operation
from weft._core.scheduler cimport Scheduler
from weft._core.waiter cimport Waiter

cdef object new_line()
cdef bint is_done(object waiting) except -1
cdef bint is_cancelled(object waiting) except -1
cdef int wake(object waiting, object value) except -1
cdef bint wake_next(object line) except -1
cdef Py_ssize_t wake_some(object line, Py_ssize_t count, object value) except -1
cdef int leave(object line, object waiting) except -1

cdef class LoopBound:
    cdef object loop
    cdef Scheduler scheduler  # the same, where it is ours

    cdef object bind(self)
    cdef int refuse(self, dict unexpected) except -1
    cdef int settle(self) except -1
    cdef tuple state_names(self)
    cdef Py_ssize_t waiting_count(self) except -1

cdef class Wait(Operation):
    cdef object stand(self, LoopBound owner, object line)
    cdef bint abandon(self, object line) except -1
