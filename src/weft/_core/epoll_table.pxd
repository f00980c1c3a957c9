cimport cython
from libc.stdint cimport uint32_t
from weft._core.driver cimport Driver, Sink
from weft._core.sys.python cimport PyObject, visitproc

ctypedef struct Watch:
    PyObject* sink
    uint32_t generation
    uint32_t events

cdef class EpollTable(Driver):
    cdef int epoll_fd
    cdef Watch* watches
    cdef int capacity

    cdef int reserve(self, int fd) except -1
    cdef int release_all(self) except -1
    cdef int watch_again(self) except -1
    cdef int hold(self, Sink sink, uint32_t before, uint32_t now) except -1
    cdef int update(self, Sink sink) except -1
    cdef int control(self, int fd, Watch* watch, uint32_t events) except -1
