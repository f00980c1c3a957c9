cimport cython
from weft._core.handle cimport Runnable

cdef class Listening:
    cdef int on_done(self, object future) except -1

@cython.final
cdef class Listener(Runnable):
    cdef Listening target

@cython.final
cdef class Gathering(Listening):
    cdef object outer  # None while the children are made
    cdef list children
    cdef list early  # those that were done before the outer future was there
    cdef object context
    cdef Listener listener
    cdef object waiting_task  # on 3.14 and later: for the await graph
    cdef Py_ssize_t total
    cdef Py_ssize_t finished
    cdef bint keeps_errors

    cdef int conclude(self) except -1
    cdef object outcome_of(self, object child)
    cdef object add(self, object argument, object loop)

cdef Listener new_listener(Listening target)
cdef object new_child(object argument, object loop)
