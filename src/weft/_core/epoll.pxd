cimport cython
from libc.stdint cimport int64_t, uint32_t
from weft._core.driver cimport Driver, Sink
from weft._core.sinks cimport SinkList
from weft._core.sys.linux cimport epoll_event
from weft._core.sys.python cimport PyObject

ctypedef struct Watch:
    PyObject* sink
    uint32_t generation
    uint32_t events

cdef class EpollDriver(Driver):
    cdef int epoll_fd
    cdef int wake_fd
    cdef bint is_sleeping
    cdef Watch* watches
    cdef int capacity
    cdef epoll_event* events
    cdef int found
    cdef char* buffer
    cdef bytearray datagram_buffer
    cdef SinkList flushing

    cdef int open(self) except -1
    cdef int poll(self, int64_t timeout) except -1
    cdef int dispatch(self, epoll_event* event) except -1
    cdef int reserve(self, int fd) except -1
    cdef int forget_all(self) except -1
    cdef int release_all(self) except -1
    cdef int close_own(self) except -1
    cdef int hold(self, Sink sink, uint32_t before, uint32_t now) except -1
    cdef int update(self, Sink sink) except -1
    cdef int control(self, int fd, Watch* watch, uint32_t events) except -1
    cdef int deliver_to(self, Sink sink) except -1
    cdef int deliver_bytes(self, Sink sink) except -1
    cdef int deliver_datagrams(self, Sink sink) except -1
    cdef int deliver_connections(self, Sink sink) except -1
    cdef int continue_sending(self, Sink sink) except -1
    cdef int transmit(self, Sink sink) except -1
