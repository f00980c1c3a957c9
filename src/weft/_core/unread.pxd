cimport cython
from weft._core.sys.python cimport PyObject

@cython.final
cdef class Unread:
    cdef PyObject* block  # owned: a bytes object, or NULL
    cdef char* start  # the first unread byte, in the block
    cdef readonly Py_ssize_t size  # how many bytes are unread
    cdef Py_ssize_t room  # how many more fit behind them
    cdef bint is_ours  # nobody else has seen the block: it may be written to

    cdef int hold(self, bytes data) except -1
    cdef int append(self, const char* data, Py_ssize_t size, Py_ssize_t wanted) except -1
    cdef int make_room(self, Py_ssize_t size, Py_ssize_t wanted) except -1
    cdef bytes take(self, Py_ssize_t size)
    cdef int shrink(self) except -1
    cdef bytes copy(self)
    cdef int clear(self) except -1
    cdef Py_ssize_t find(self, bytes what, Py_ssize_t start) noexcept
