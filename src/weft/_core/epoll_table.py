"""Which sink owns which descriptor, and what epoll(7) was told about it.

One table, indexed by descriptor; with each entry a generation that grows whenever the descriptor is released. The
generation travels with every event, so that an event for a descriptor that was closed and handed out anew in the same
batch reaches nobody. The invariant: ``events`` is what epoll watches, so that a call that changes nothing makes no
system call; and the table owns one reference to each sink in it, save for collectable ones, which it owns exactly while
epoll watches something for them.

``EpollDriver`` is built on it.
"""

import os

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memset
from cython.cimports.weft._core.driver import Sink
from cython.cimports.weft._core.sys.linux import (
    EEXIST,
    ENOENT,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    weft_check_open,
    weft_epoll_ctl,
)
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, PyObject


class EpollTable:
    def __cinit__(self):
        self.epoll_fd = -1

    def __dealloc__(self):
        self.release_all()
        free(self.watches)

    def reserve(self, fd):
        """Make the table reach ``fd``, which must be open: nobody but the kernel limits how large a number can be."""
        failed: cython.int = weft_check_open(fd)
        if failed < 0:
            raise OSError(-failed, f"cannot watch file descriptor {fd}: {os.strerror(-failed)}")
        capacity: cython.int = self.capacity if self.capacity else 64
        while capacity <= fd:
            capacity *= 2
        watches: cython.pointer(Watch) = cython.cast(
            cython.pointer(Watch), realloc(self.watches, capacity * cython.sizeof(Watch))
        )
        if watches == cython.NULL:
            raise MemoryError(f"no memory to watch file descriptor {fd}")
        memset(watches + self.capacity, 0, (capacity - self.capacity) * cython.sizeof(Watch))
        self.watches = watches
        self.capacity = capacity
        return 0

    def register(self, sink):
        fd: cython.int = sink.fd
        if fd >= self.capacity:
            self.reserve(fd)
        watch: cython.pointer(Watch) = cython.address(self.watches[fd])
        known: cython.pointer(PyObject) = watch.sink
        # SAFETY: here and below: a sink in the table is alive, and `sink` is the caller's.
        if known == cython.cast(cython.pointer(PyObject), sink):
            return 0
        if known != cython.NULL:
            stale: Sink = cython.cast(Sink, known)  # SAFETY: in the table, so alive
            if stale.is_transport() or not (sink.is_transport() or stale.is_once):
                raise RuntimeError(f"file descriptor {fd} is already watched for {stale!r}")
            # A transport owns its descriptor, so whoever watched one of this number has closed it. And sock_* is done
            # with what it watches once: only the memory of a socket that may long be closed is left of it.
            self.release(stale)
            stale.on_evicted()
            watch = cython.address(self.watches[fd])  # the destructor of a callback may have made the table grow
        # SAFETY: borrowed from a collectable sink, which releases itself at its end; else owned, by the count below.
        watch.sink = cython.cast(cython.pointer(PyObject), sink)
        watch.events = 0
        if not sink.is_collectable:
            # SAFETY: the table owns this reference until release().
            Py_INCREF(watch.sink)
        return 0

    def update(self, sink):
        """Tell epoll what ``sink`` now wants of its descriptor."""
        self.register(sink)
        watch: cython.pointer(Watch) = cython.address(self.watches[sink.fd])
        before: uint32_t = watch.events
        wanted: uint32_t = (EPOLLIN if sink.is_receiving else 0) | (EPOLLOUT if sink.is_sending else 0)
        if wanted != before:
            self.control(sink.fd, watch, wanted)
            if sink.is_collectable:
                self.hold(sink, before, wanted)
        return 0

    def watch_once(self, sink, reading, writing):
        self.register(sink)
        sink.is_once = True
        # Told each time, also what is told already: the kernel looks, and says at once what is so by now.
        events: uint32_t = (EPOLLIN if reading else 0) | (EPOLLOUT if writing else 0) | EPOLLONESHOT
        return self.control(sink.fd, cython.address(self.watches[sink.fd]), events)

    def hold(self, sink, before, now):
        """Own a reference to a collectable sink exactly while epoll watches something for it."""
        # SAFETY: the caller holds a reference, so dropping the table's cannot be the end of the sink.
        if before == 0 and now != 0:
            Py_INCREF(cython.cast(cython.pointer(PyObject), sink))
        elif before != 0 and now == 0:
            Py_DECREF(cython.cast(cython.pointer(PyObject), sink))

    def control(self, fd, watch, events):
        data: uint64_t = cython.cast(uint64_t, watch.generation) << 32 | cython.cast(uint32_t, fd)
        failed: cython.int
        if events == 0:
            # A closed descriptor has left epoll by itself; any other failure leaves nothing to watch either.
            weft_epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, fd, 0, 0)
            watch.events = 0
            return 0
        failed = weft_epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD if watch.events else EPOLL_CTL_ADD, fd, events, data)
        if failed == -ENOENT:
            # The user closed the descriptor behind our back, and the number is in use again.
            failed = weft_epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, events, data)
        elif failed == -EEXIST:
            failed = weft_epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, fd, events, data)
        if failed < 0:
            raise OSError(-failed, f"cannot watch file descriptor {fd}: {os.strerror(-failed)}")
        watch.events = events
        return 0

    def watch_again(self):
        """Tell a new epoll set what the old one watched."""
        fd: cython.int
        events: uint32_t
        for fd in range(self.capacity):
            events = self.watches[fd].events
            if self.watches[fd].sink != cython.NULL and events:
                self.watches[fd].events = 0
                self.control(fd, cython.address(self.watches[fd]), events)
        return 0

    def release(self, sink):
        fd: cython.int = sink.fd
        if fd < 0 or fd >= self.capacity:
            return 0
        watch: cython.pointer(Watch) = cython.address(self.watches[fd])
        # SAFETY: only compared.
        if watch.sink != cython.cast(cython.pointer(PyObject), sink):
            return 0
        before: uint32_t = watch.events
        if before:
            self.control(fd, watch, 0)
        watch.sink = cython.NULL
        watch.generation += 1
        sink.is_receiving = False
        sink.is_sending = False
        sink.is_once = False
        if sink.is_collectable:
            self.hold(sink, before, 0)
        else:
            # SAFETY: the table's reference, taken in register(); the caller holds one of its own.
            Py_DECREF(cython.cast(cython.pointer(PyObject), sink))
        return 0

    def sink_of(self, fd):
        if fd < 0 or fd >= self.capacity or self.watches[fd].sink == cython.NULL:
            return None
        return cython.cast(Sink, self.watches[fd].sink)  # SAFETY: in the table, so alive

    def release_all(self):
        fd: cython.int
        for fd in range(self.capacity):
            if self.watches[fd].sink != cython.NULL:
                # SAFETY: a sink in the table is alive: held by it, or collectable and releasing itself at its end.
                sink: Sink = cython.cast(Sink, self.watches[fd].sink)
                self.release(sink)
        return 0

    def traverse(self, visit, data):
        seen: cython.int = 0
        watch: cython.pointer(Watch)
        fd: cython.int
        for fd in range(self.capacity):
            watch = cython.address(self.watches[fd])
            # SAFETY: in the table, so alive.
            if watch.sink != cython.NULL and (watch.events or not cython.cast(Sink, watch.sink).is_collectable):
                seen = visit(watch.sink, data)
                if seen != 0:
                    return seen
        return 0
