cimport cython
from libc.stdint cimport int64_t
from weft._core.epoll cimport EpollDriver

cdef class VirtualDriver(EpollDriver):
    cdef int64_t moment
    cdef object on_turn_hook
    cdef int64_t read_clock(self) noexcept
    cdef int wait(self, int64_t timeout) except -1
