cimport cython
from libc.stdint cimport int64_t, uint64_t
from weft._core.buffers cimport WriteQueue
from weft._core.packets cimport PacketQueue
from weft._core.sinks cimport SinkList
from weft._core.sys.python cimport visitproc
from weft._core.sys.watch cimport weft_watched

cpdef enum Incoming:
    IN_NONE, IN_SOCKET, IN_PIPE, IN_DATAGRAM, IN_ACCEPT, IN_READY

cpdef enum Outgoing:
    OUT_NONE, OUT_SOCKET, OUT_PIPE, OUT_DATAGRAM, OUT_READY

cdef class Sink:
    cdef int fd
    cdef object sock
    cdef Incoming incoming
    cdef Outgoing outgoing
    cdef bint is_receiving
    cdef bint is_sending
    cdef bint is_flushing
    cdef bint is_collectable
    cdef bint is_once
    cdef WriteQueue queue
    cdef PacketQueue packets

    cdef int drop_unsent(self) except -1
    cdef int offer_buffer(self, char** where, Py_ssize_t* size) except -1
    cdef int withdraw_buffer(self) except -1
    cdef int on_received(self, char* data, Py_ssize_t size) except -1
    cdef int on_eof(self) except -1
    cdef int on_receive_failed(self, int code) except -1
    cdef int on_datagram(self, bytes data, object address) except -1
    cdef int keep_datagrams(self, list rest) except -1
    cdef int on_datagram_failed(self, object error) except -1
    cdef int on_accepted(self, object connection, object address) except -1
    cdef int on_sent(self) except -1
    cdef int on_send_failed(self, int code) except -1
    cdef int on_readable(self) except -1
    cdef int on_writable(self) except -1
    cdef int on_once(self, bint readable, bint writable) except -1
    cdef bint is_transport(self) noexcept
    cdef int on_evicted(self) except -1

cdef class Driver:
    cdef uint64_t poll_interval
    cdef SinkList unsent
    cdef bint is_delivering
    cdef weft_watched* watched
    cdef int64_t read_clock(self) noexcept
    cdef int wait(self, int64_t timeout) except -1
    cdef int deliver(self) except -1
    cdef void wake(self) noexcept
    cdef int register(self, Sink sink) except -1
    cdef int receive(self, Sink sink) except -1
    cdef int unreceive(self, Sink sink) except -1
    cdef int send(self, Sink sink) except -1
    cdef int send_now(self, Sink sink) except -1
    cdef int await_writable(self, Sink sink) except -1
    cdef int unsend(self, Sink sink) except -1
    cdef int watch_once(self, Sink sink, bint reading, bint writing) except -1
    cdef int flush(self) except -1
    cdef int release(self, Sink sink) except -1
    cdef Sink sink_of(self, int fd)
    cdef int close(self) except -1
    cdef int traverse(self, visitproc visit, void* data) noexcept
