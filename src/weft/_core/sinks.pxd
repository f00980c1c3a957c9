cimport cython
from weft._core.sys.python cimport PyObject, visitproc

@cython.final
cdef class SinkList:
    cdef PyObject** items
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    cdef int push(self, object sink) except -1
    cdef object get(self, Py_ssize_t place)
    cdef void clear(self) noexcept
    cdef int traverse(self, visitproc visit, void* data) noexcept
