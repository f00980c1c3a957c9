cimport cython
from weft._core.sys.linux cimport iovec
from weft._core.sys.python cimport PyObject

ctypedef struct Part:
    PyObject* owner
    char* data
    Py_ssize_t size

@cython.final
cdef class WriteQueue:
    cdef Part* parts
    cdef Py_ssize_t head
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef readonly Py_ssize_t size

    cdef int push(self, bytes data, Py_ssize_t offset) except -1
    cdef int gather(self, iovec* vector, int most) noexcept
    cdef void copy(self, char* where) noexcept
    cdef void consume(self, Py_ssize_t sent) noexcept
    cdef void clear(self) noexcept
    cdef int make_room(self) except -1

cdef bytes freeze(object data)
