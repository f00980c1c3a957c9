cimport cython
from weft._core.handle cimport Runnable
from weft._core.stepper cimport TaskScheduler

@cython.final
cdef class Gathering(Runnable):
    cdef object outer  # None while the children are made
    cdef list children
    cdef list early  # those that were done before the outer future was there
    cdef object context
    cdef object waiting_task  # on 3.14 and later: for the await graph
    cdef TaskScheduler spawner  # the running loop, where its tasks are made by a C call
    cdef Py_ssize_t total
    cdef Py_ssize_t finished
    cdef bint keeps_errors

    cdef int on_done(self, object future) except -1
    cdef int conclude(self) except -1
    cdef object outcome_of(self, object child)
    cdef object add(self, object argument, object loop)

cdef object new_child(object argument, object loop, TaskScheduler spawner)
