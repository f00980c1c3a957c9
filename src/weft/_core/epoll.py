"""The driver on epoll(7): level-triggered readiness turned into completions.

Which sink an event is for says the table that it is built on (``EpollTable``). The invariant: between two calls of
``deliver`` nothing is read from a descriptor, and only ``send_now`` and ``flush`` write to one.

The scheduler calls ``wait``, ``deliver``, ``flush`` and ``read_clock``; transports call the rest.
"""

import os

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.weft._core.driver import (
    IN_ACCEPT,
    IN_DATAGRAM,
    IN_PIPE,
    IN_READY,
    IN_SOCKET,
    OUT_DATAGRAM,
    OUT_READY,
    OUT_SOCKET,
    Sink,
)
from cython.cimports.weft._core.epoll_table import EpollTable
from cython.cimports.weft._core.packets import BY_METHODS, Inbox, PacketQueue
from cython.cimports.weft._core.plain_sockets import accept_from
from cython.cimports.weft._core.sinks import SinkList
from cython.cimports.weft._core.sys.datagram import weft_send_batch
from cython.cimports.weft._core.sys.linux import (
    EAGAIN,
    EINTR,
    EPOLL_CTL_ADD,
    EPOLLIN,
    EPOLLOUT,
    close,
    epoll_event,
    iovec,
    weft_epoll_ctl,
    weft_epoll_new,
    weft_epoll_wait,
    weft_keep_freed_memory,
    weft_monotonic_ns,
    weft_read,
    weft_recv,
    weft_sendv,
    weft_ticks_in,
    weft_wake_drain,
    weft_wake_new,
    weft_wake_write,
    weft_writev,
)
from cython.cimports.weft._core.sys.python import PyErr_CheckSignals
from cython.cimports.weft._core.sys.watch import weft_watch_advance, weft_watch_rouse

EVENTS_PER_WAIT = cython.declare(cython.int, 256)
# asyncio asks for 256 KiB in each recv(); here the memory is shared by all transports, so it stays in the cache.
RECEIVE_SIZE = cython.declare(cython.Py_ssize_t, 256 * 1024)
# How many datagrams one readiness may bring before others get their turn.
DATAGRAMS_PER_EVENT = cython.declare(cython.int, 32)
# Linux takes 1,024 parts (UIO_MAXIOV); past 64 the call is no longer what costs.
PARTS_PER_SEND = cython.declare(cython.int, 64)
# Up to here (bytes) a copy in the cache costs less than what the kernel does to read a list of parts.
JOIN_SIZE = cython.declare(cython.Py_ssize_t, 8 * 1024)
# What answers to one batch of events may wait to be sent, in sinks: held back for all of 256 events, answers of 16 KiB
# outgrow the cache and glibc's M_TRIM_THRESHOLD, which then gives the memory back after each turn (measured: one page
# fault per message, and 40 % of the rate).
SINKS_PER_FLUSH = cython.declare(cython.Py_ssize_t, 8)
# While callbacks are ready, how long they may run before the kernel is asked again: asking takes about 0.3 us.
POLL_INTERVAL = cython.declare(int64_t, 20_000)


class EpollDriver:
    def __cinit__(self):
        weft_keep_freed_memory()
        self.poll_interval = weft_ticks_in(POLL_INTERVAL)
        self.flushing = SinkList()
        self.wake_fd = -1
        self.events = cython.cast(cython.pointer(epoll_event), malloc(EVENTS_PER_WAIT * cython.sizeof(epoll_event)))
        self.buffer = cython.cast(cython.p_char, malloc(RECEIVE_SIZE))
        self.joined = cython.cast(cython.p_char, malloc(JOIN_SIZE))
        if self.events == cython.NULL or self.buffer == cython.NULL or self.joined == cython.NULL:
            raise MemoryError("no memory for an event loop's buffers")

    def __init__(self):
        self.open()

    def __dealloc__(self):
        # The lists are not touched: the garbage collector may have taken them already, and they clear themselves. Our
        # own descriptors go before the table does: see close().
        self.close_own()
        free(self.events)
        free(self.buffer)
        free(self.joined)

    def open(self):
        self.epoll_fd = weft_epoll_new()
        self.wake_fd = weft_wake_new()
        failed: cython.int = min(self.epoll_fd, self.wake_fd)
        if failed < 0:
            self.close_own()
            raise OSError(-failed, f"a new event loop needs two file descriptors: {os.strerror(-failed)}")
        failed = weft_epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.wake_fd, EPOLLIN, self.wake_fd)
        if failed < 0:
            raise OSError(-failed, os.strerror(-failed))
        return 0

    def close(self):
        # Our own descriptors first: in a forked child the epoll set is the parent's too, and keeps what it watches.
        self.close_own()
        return self.forget_all()

    def forget_all(self):
        """None of the sinks will hear of anything again."""
        self.release_all()
        self.unsent.clear()
        self.flushing.clear()
        return 0

    def close_own(self):
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        if self.wake_fd >= 0:
            close(self.wake_fd)
        self.epoll_fd = -1
        self.wake_fd = -1
        return 0

    def after_fork(self, was_running):
        fd: cython.int
        if self.epoll_fd < 0:
            return 0  # closed
        self.close_own()
        self.open()
        if not was_running:
            return self.watch_again()
        # What is watched is not in the new set: nothing comes any more, and control() can cope.
        self.found = 0
        if self.inbox is not None:
            self.inbox.forget()
        self.unsent.clear()
        self.flushing.clear()
        for fd in range(self.capacity):
            sink: Sink = self.sink_of(fd)
            if sink is not None:
                sink.drop_unsent()
        return 0

    def read_clock(self):
        return weft_monotonic_ns()

    def wake(self):
        # One system call per sleep: the first caller wakes the loop, the others find it awake.
        if self.is_sleeping:
            self.is_sleeping = False
            weft_wake_write(self.wake_fd)

    # -- waiting and dispatch ------------------------------------------------------------------------------------------

    def wait(self, timeout):
        return self.poll(0 if self.unsent.count > 0 else timeout)

    def poll(self, timeout):
        count: cython.int
        self.found = 0
        if timeout == 0:
            # Cannot block, so the GIL stays: giving it up costs more than the call.
            count = weft_epoll_wait(self.epoll_fd, self.events, EVENTS_PER_WAIT, 0)
        else:
            self.is_sleeping = True
            with cython.nogil:
                count = weft_epoll_wait(self.epoll_fd, self.events, EVENTS_PER_WAIT, timeout)
            self.is_sleeping = False
            if self.watched != cython.NULL:
                weft_watch_rouse(self.watched)  # what comes next may be a signal handler, which can block
        PyErr_CheckSignals()
        if count < 0:
            if count == -EINTR:
                return 0
            raise OSError(-count, f"epoll_wait failed: {os.strerror(-count)}")
        self.found = count
        return count

    def deliver(self):
        i: cython.int = 0
        self.is_delivering = True
        try:
            while i < self.found:  # not range(): what forks in a protocol finds nothing more in the child
                if self.watched != cython.NULL:
                    weft_watch_advance(self.watched)
                self.dispatch(cython.address(self.events[i]))
                i += 1
                if self.unsent.count >= SINKS_PER_FLUSH:
                    self.flush()
                    self.is_delivering = True
        finally:
            self.is_delivering = False
        return 0

    def dispatch(self, event):
        fd: cython.int = cython.cast(cython.int, cython.cast(uint32_t, event.data.u64))
        generation: uint32_t = cython.cast(uint32_t, event.data.u64 >> 32)
        if fd == self.wake_fd:
            weft_wake_drain(fd)
            return 0
        if fd >= self.capacity or self.watches[fd].generation != generation or self.watches[fd].sink == cython.NULL:
            return 0
        # SAFETY: epoll watches something for it, so the table holds a reference.
        sink: Sink = cython.cast(Sink, self.watches[fd].sink)
        happened: uint32_t = event.events
        if sink.is_once:
            return sink.on_once(happened & ~EPOLLOUT != 0, happened & ~EPOLLIN != 0)
        # Errors and hang-ups come unasked; the read or write that follows says what they are.
        if sink.is_receiving and happened & ~EPOLLOUT:
            self.deliver_to(sink)
        if sink.is_sending and happened & ~EPOLLIN and sink.fd == fd:
            self.continue_sending(sink)
        return 0

    def deliver_to(self, sink):
        if sink.incoming == IN_SOCKET or sink.incoming == IN_PIPE:
            self.deliver_bytes(sink)
        elif sink.incoming == IN_READY:
            sink.on_readable()
        elif sink.incoming == IN_DATAGRAM:
            self.deliver_datagrams(sink)
        elif sink.incoming == IN_ACCEPT:
            self.deliver_connections(sink)
        return 0

    def deliver_bytes(self, sink):
        where: cython.p_char = cython.NULL
        size: cython.Py_ssize_t = 0
        fd: cython.int = sink.fd
        sink.offer_buffer(cython.address(where), cython.address(size))
        if self.sink_of(fd) is not sink:
            # The protocol's get_buffer() failed, or closed the transport.
            if where != cython.NULL:
                sink.withdraw_buffer()
            return 0
        if where == cython.NULL:
            where = self.buffer
            size = RECEIVE_SIZE
        n: cython.Py_ssize_t
        if sink.incoming == IN_SOCKET:
            n = weft_recv(sink.fd, where, size)
        else:
            n = weft_read(sink.fd, where, size)
        if where != self.buffer:
            sink.withdraw_buffer()
            if self.sink_of(fd) is not sink:
                return 0  # giving the buffer back ran code that closed the transport
        if n > 0:
            sink.on_received(where, n)
        elif n == 0:
            sink.on_eof()
        elif n != -EAGAIN:
            sink.on_receive_failed(cython.cast(cython.int, -n))
        return 0

    def deliver_batch(self, sink):
        """Receive many at once and deliver them, until none is left or others get their turn."""
        count: cython.int = 0
        n: cython.int
        if self.inbox is None:
            self.inbox = Inbox()
        while sink.is_receiving and count < DATAGRAMS_PER_EVENT:
            n = self.inbox.receive(sink.fd, sink.packets.family)
            if n < 0:
                return 0 if n == -EAGAIN else sink.on_receive_failed(-n)
            self.deliver_inbox(sink)
            if not self.inbox.is_full:
                return 0
            count += n
        return 0

    def deliver_inbox(self, sink):
        data: bytes
        try:
            # A transport that is closed hears of no more; what forks in a protocol finds nothing more in the child.
            while self.inbox.next < self.inbox.count and sink.is_receiving:
                data = self.inbox.take_data()
                sink.on_datagram(data, self.inbox.take_address())
        except BaseException:
            # It leaves the loop, and these have left the kernel.
            if sink.is_receiving:
                sink.keep_datagrams(self.inbox.take_rest())
            raise
        return 0

    def deliver_datagrams(self, sink):
        """The same by the methods of the socket: for those that are no plain ones, or of a rare family."""
        if sink.packets.family != BY_METHODS:
            return self.deliver_batch(sink)
        if self.datagram_buffer is None:
            self.datagram_buffer = bytearray(RECEIVE_SIZE)
        count: cython.int = 0
        while sink.is_receiving and count < DATAGRAMS_PER_EVENT:
            try:
                received, address = sink.sock.recvfrom_into(self.datagram_buffer)
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as error:
                return sink.on_receive_failed(error.errno)
            sink.on_datagram(bytes(memoryview(self.datagram_buffer)[:received]), address)
            count += 1
        return 0

    def deliver_connections(self, sink):
        while sink.is_receiving:
            try:
                accepted = accept_from(sink.sock)
            except OSError as error:
                return sink.on_receive_failed(error.errno)
            if accepted is None:
                return 0
            sink.on_accepted(accepted[0], accepted[1])
        return 0

    # -- receiving -----------------------------------------------------------------------------------------------------

    def receive(self, sink):
        if not sink.is_receiving:
            sink.is_receiving = True
            try:
                self.update(sink)
            except BaseException:
                sink.is_receiving = False
                raise
        return 0

    def unreceive(self, sink):
        if sink.is_receiving:
            sink.is_receiving = False
            self.update(sink)
        return 0

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, sink):
        if sink.is_sending or sink.is_flushing:
            return 0
        self.unsent.push(sink)
        sink.is_flushing = True
        return 0

    def flush(self):
        """Send for every sink of the list; what resumed protocols write meanwhile is left for the next turn."""
        self.unsent, self.flushing = self.flushing, self.unsent
        self.is_delivering = True
        done: cython.Py_ssize_t = 0
        try:
            while done < self.flushing.count:
                sink: Sink = self.flushing.get(done)
                done += 1
                sink.is_flushing = False
                if sink.fd >= 0 and not sink.is_sending:
                    self.transmit(sink)
        finally:
            self.is_delivering = False
            # A KeyboardInterrupt in one protocol keeps nothing of what the others wrote.
            while done < self.flushing.count:
                left: Sink = self.flushing.get(done)
                done += 1
                left.is_flushing = False
                self.send(left)
            self.flushing.clear()
        return 0

    def send_now(self, sink):
        if not sink.is_sending and sink.fd >= 0:
            self.transmit(sink)
        return 0

    def await_writable(self, sink):
        if not sink.is_sending:
            sink.is_sending = True
            try:
                self.update(sink)
            except BaseException:
                sink.is_sending = False
                raise
        return 0

    def unsend(self, sink):
        if sink.is_sending:
            sink.is_sending = False
            self.update(sink)
        return 0

    def continue_sending(self, sink):
        if sink.outgoing == OUT_READY:
            return sink.on_writable()
        return self.transmit(sink)

    def transmit(self, sink):
        """Send what is queued, if anything is, as far as the kernel takes it."""
        if sink.outgoing == OUT_DATAGRAM:
            return self.transmit_datagrams(sink) if sink.packets.count > 0 else 0
        return self.transmit_bytes(sink) if sink.queue.size > 0 else 0

    def transmit_bytes(self, sink):
        """Write until the queue is empty or the kernel's buffer full, and watch for room exactly as long as needed."""
        vector: iovec[64]
        i: cython.int
        offered: cython.Py_ssize_t
        sent: cython.Py_ssize_t
        while sink.queue.size > 0:
            parts: cython.int
            if sink.queue.count > 1 and sink.queue.size <= JOIN_SIZE:
                sink.queue.copy(self.joined)
                vector[0].iov_base = self.joined
                vector[0].iov_len = sink.queue.size
                parts = 1
            else:
                parts = sink.queue.gather(vector, PARTS_PER_SEND)
            if sink.outgoing == OUT_SOCKET:
                sent = weft_sendv(sink.fd, vector, parts)
            else:
                sent = weft_writev(sink.fd, vector, parts)
            if sent == -EAGAIN:
                break
            if sent < 0:
                self.unsend(sink)
                return sink.on_send_failed(cython.cast(cython.int, -sent))
            offered = 0
            for i in range(parts):
                offered += vector[i].iov_len
            sink.queue.consume(sent)
            if sent < offered:
                break
        if sink.queue.size > 0:
            return self.await_room(sink)
        self.unsend(sink)
        return sink.on_sent()

    def transmit_datagrams(self, sink):
        """Send in order, many in a call, until none is left or one has to wait; an error costs one."""
        packets: PacketQueue = sink.packets
        if packets.is_being_sent:
            return 0  # a protocol that answers an error by sending
        packets.is_being_sent = True
        try:
            if not self.send_packets(sink, packets):
                return self.await_room(sink)
        finally:
            packets.is_being_sent = False
        self.unsend(sink)
        if packets.count > 0:
            self.send(sink)
        return sink.on_sent()

    def send_packets(self, sink, packets):
        """Send what is queued now; False when the next has to wait."""
        left: cython.Py_ssize_t = packets.count  # what is queued meanwhile, in answer to an error, gets its own turn
        n: cython.int
        error: object
        while left > 0 and packets.count > 0:
            n = packets.run(left)
            if n > 0:
                n = weft_send_batch(sink.fd, packets.first(), n)
                error = None
            else:
                error = self.send_by_socket(sink)
                n = 1 if error is None else -EAGAIN if isinstance(error, BlockingIOError) else -1
            if n == -EAGAIN:
                return False
            packets.drop(max(n, 1))
            left -= max(n, 1)
            if n < 0:
                sink.on_datagram_failed(OSError(-n, os.strerror(-n)) if error is None else error)
        return True

    def send_by_socket(self, sink):
        """Send the oldest datagram by the socket's methods; returns what they raised, or None."""
        try:
            if sink.packets.is_odd():
                sink.sock.sendto(sink.packets.odd_data(), sink.packets.odd_address())
            else:
                sink.sock.send(sink.packets.odd_data())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            return error
        return None

    def await_room(self, sink):
        """Some is left: wait until the kernel has room for more."""
        try:
            self.await_writable(sink)
        except OSError as error:
            # No memory, or a watch too many for this user (epoll(7)): this connection's loss, not the loop's.
            return sink.on_send_failed(error.errno)
        return sink.on_sent()

    def traverse(self, visit, data):
        seen: cython.int = EpollTable.traverse(self, visit, data)
        if seen != 0 or self.unsent is None or self.flushing is None:
            return seen  # None: the collector has been here
        return self.unsent.traverse(visit, data) or self.flushing.traverse(visit, data)
