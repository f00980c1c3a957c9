cimport cython
from libc.stdint cimport int64_t
from weft._core.driver cimport Sink
from weft._core.epoll_table cimport EpollTable
from weft._core.packets cimport Inbox, PacketQueue
from weft._core.sinks cimport SinkList
from weft._core.sys.linux cimport epoll_event

cdef class EpollDriver(EpollTable):
    cdef int wake_fd
    cdef bint is_sleeping
    cdef epoll_event* events
    cdef int found
    cdef char* buffer
    cdef char* joined
    cdef Inbox inbox
    cdef bytearray datagram_buffer
    cdef SinkList flushing

    cdef int open(self) except -1
    cdef int poll(self, int64_t timeout) except -1
    cdef int dispatch(self, epoll_event* event) except -1
    cdef int forget_all(self) except -1
    cdef int close_own(self) except -1
    cdef int deliver_to(self, Sink sink) except -1
    cdef int deliver_bytes(self, Sink sink) except -1
    cdef int deliver_datagrams(self, Sink sink) except -1
    cdef int deliver_batch(self, Sink sink) except -1
    cdef int deliver_inbox(self, Sink sink) except -1
    cdef int deliver_connections(self, Sink sink) except -1
    cdef int continue_sending(self, Sink sink) except -1
    cdef int transmit(self, Sink sink) except -1
    cdef int transmit_bytes(self, Sink sink) except -1
    cdef int transmit_datagrams(self, Sink sink) except -1
    cdef bint send_packets(self, Sink sink, PacketQueue packets) except -1
    cdef object send_by_socket(self, Sink sink)
    cdef int await_room(self, Sink sink) except -1
