from weft._core.handle cimport Runnable
from weft._core.waiter cimport Waiter

cdef enum Stage:
    FRESH, PARKED, ENDED

cdef object PAUSE

cdef class Operation(Runnable):
    cdef Waiter waiter
    cdef Stage stage

    cdef object begin(self)
    cdef object resume(self)
    cdef object give_up(self, object error)
    cdef str name(self)
    cdef object park(self, object loop)
    cdef object go(self)

ctypedef object (*go_function)(object)

cdef extern from "weft_operation.h":
    void weft_install_operation(object type, object waiter_type, object pause, go_function go)
