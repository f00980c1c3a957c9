cimport cython
from weft._core.sys.python cimport PyObject, visitproc

ctypedef struct Entry:
    PyObject* runnable
    PyObject* argument

@cython.final
cdef class Ring:
    cdef Entry* entries
    cdef Py_ssize_t head
    cdef Py_ssize_t count
    cdef Py_ssize_t mask

    cdef int resize(self, Py_ssize_t capacity) except -1
    cdef int relax(self) except -1
    cdef int push(self, object runnable, PyObject* argument) except -1
    cdef Entry take(self) noexcept
    cdef void clear(self) noexcept
    cdef int traverse(self, visitproc visit, void* data) noexcept
