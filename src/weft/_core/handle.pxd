cimport cython
from weft._core.sys.python cimport PyObject

cdef extern from "weft_pool.h":
    void weft_pool_type(object type)

cdef class Runnable:
    cdef int run(self, PyObject* argument) except -1
    cdef object describe(self, PyObject* argument)
    cdef int report(self, object loop, PyObject* argument, object error) except -1
    cdef int drop(self) except -1
    cdef bint is_void(self) noexcept
    cdef void leave_heap(self) noexcept


cdef class Handle(Runnable):
    cdef object loop
    cdef object callback
    cdef tuple args
    cdef object context
    cdef object source_traceback
    cdef str text
    cdef bint is_cancelled
    cdef bint is_kept
    cdef object __weakref__

    cdef object callback_text(self)
    cdef object timing(self)


@cython.final
cdef class ThreadSafeHandle(Handle):
    cdef unsigned long runner  # the thread in which the callback runs; 0: it does not
    cdef list waiting  # the locks of the threads that wait for its end

    cdef int wait_for_runner(self) except -1

cdef Handle new_handle(object loop, object callback, tuple args, object context, bint debug)
cdef Handle new_threadsafe_handle(object loop, object callback, tuple args, object context, bint debug)
cdef int fill(Handle handle, object loop, object callback, tuple args, object context, bint debug) except -1
