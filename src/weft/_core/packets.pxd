cimport cython
from weft._core.sys.datagram cimport mmsghdr, weft_address, weft_packet, weft_peer
from weft._core.sys.linux cimport iovec

cdef enum:
    BY_METHODS = -1

@cython.final
cdef class Inbox:
    cdef char* memory
    cdef mmsghdr* headers
    cdef iovec* parts
    cdef weft_address* names
    cdef weft_peer* peers
    cdef Py_ssize_t stride
    cdef int count
    cdef int next
    cdef bint is_full
    cdef bint is_complete

    cdef int receive(self, int fd, int family) noexcept
    cdef bytes take_data(self)
    cdef object take_address(self)
    cdef list take_rest(self)
    cdef void forget(self) noexcept

@cython.final
cdef class PacketQueue:
    cdef weft_packet* packets
    cdef Py_ssize_t head
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef readonly Py_ssize_t size

    cdef int family
    cdef bint is_connected
    cdef bint is_being_sent

    cdef int push(self, bytes data, object address) except -1
    cdef int make_room(self) except -1
    cdef weft_packet* first(self) noexcept
    cdef int run(self, Py_ssize_t most) noexcept
    cdef bint is_odd(self) noexcept
    cdef bytes odd_data(self)
    cdef object odd_address(self)
    cdef void drop(self, Py_ssize_t count) noexcept
    cdef void clear(self) noexcept
