"""Datagrams on their way: those that the kernel gave in one call, and those that wait to be given to it.

``Inbox`` is a driver's memory for one batch of received datagrams; the invariant: what it holds is what the last
``receive`` brought, from ``next`` on not delivered yet. ``PacketQueue`` is what a transport has not sent; the
invariant: ``size`` is the sum of the lengths of ``count`` packets and of ``HEADER_SIZE`` for each, which own their
references. Both know how addresses look to the kernel and to Python.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import calloc, free, malloc, realloc
from cython.cimports.libc.string import memmove
from cython.cimports.weft._core.sys.datagram import (
    AF_UNIX,
    WEFT_BATCH,
    WEFT_PEERS,
    mmsghdr,
    weft_address,
    weft_pack_address,
    weft_packet,
    weft_peer,
    weft_peer_address,
    weft_receive_batch,
)
from cython.cimports.weft._core.sys.linux import ENOMEM, iovec
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, Py_XDECREF, PyBytes_FromStringAndSize, PyObject

# The largest UDP payload is 65,507 bytes; a Unix datagram may be larger (asyncio: 256 KiB).
SLOTS = cython.declare(cython.int, 32)
SLOT_SIZE = cython.declare(cython.Py_ssize_t, 64 * 1024)
LARGE_SLOT_SIZE = cython.declare(cython.Py_ssize_t, 256 * 1024)
# Slots that lie a power of two apart share the same few lines of the processor's caches.
COLOUR = cython.declare(cython.Py_ssize_t, 33 * 64)
# What the kernel keeps beside each datagram, so that empty ones count too (asyncio: 8 bytes from 3.12 on).
HEADER_SIZE = cython.declare(cython.Py_ssize_t, 8)
FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 8)


class Inbox:
    def __cinit__(self):
        # Taken from the heap, but not touched: a page that no datagram reaches costs nothing.
        self.memory = cython.cast(cython.p_char, malloc(SLOTS * (SLOT_SIZE + COLOUR)))
        self.headers = cython.cast(cython.pointer(mmsghdr), calloc(SLOTS, cython.sizeof(mmsghdr)))
        self.parts = cython.cast(cython.pointer(iovec), calloc(SLOTS, cython.sizeof(iovec)))
        self.names = cython.cast(cython.pointer(weft_address), calloc(SLOTS, cython.sizeof(weft_address)))
        self.peers = cython.cast(cython.pointer(weft_peer), calloc(WEFT_PEERS, cython.sizeof(weft_peer)))
        self.is_complete = (
            self.memory != cython.NULL
            and self.headers != cython.NULL
            and self.parts != cython.NULL
            and self.names != cython.NULL
            and self.peers != cython.NULL
        )

    def __dealloc__(self):
        i: cython.int
        if self.peers != cython.NULL:
            for i in range(WEFT_PEERS):
                # SAFETY: owned by the table, which nobody can reach any more.
                Py_XDECREF(self.peers[i].object)
        free(self.memory)
        free(self.headers)
        free(self.parts)
        free(self.names)
        free(self.peers)

    def receive(self, fd, family):
        """Receive a batch; returns how many datagrams came, or ``-errno``."""
        self.count = self.next = 0
        if not self.is_complete:
            return -ENOMEM
        slot: cython.Py_ssize_t = LARGE_SLOT_SIZE if family == AF_UNIX else SLOT_SIZE
        self.stride = slot + COLOUR
        most: cython.int = cython.cast(cython.int, SLOTS * (SLOT_SIZE + COLOUR) // self.stride)
        n: cython.int = weft_receive_batch(
            fd, self.memory, self.stride, slot, most, self.headers, self.parts, self.names
        )
        if n > 0:
            self.count = n
            self.is_full = n == most
        return n

    def take_data(self):
        """The next datagram; its address is that of ``take_address()``, which goes on to the one behind it."""
        return PyBytes_FromStringAndSize(self.memory + self.next * self.stride, self.headers[self.next].msg_len)

    def take_address(self):
        """Who has sent it, as ``socket.recvfrom`` says it."""
        i: cython.int = self.next
        self.next += 1
        return weft_peer_address(self.peers, cython.address(self.names[i]), self.headers[i].msg_hdr.msg_namelen)

    def take_rest(self):
        """All that has not been delivered, as pairs of data and address."""
        rest: list = []
        while self.next < self.count:
            data: bytes = self.take_data()
            rest.append((data, self.take_address()))
        return rest

    def forget(self):
        """Nothing that was received will be delivered."""
        self.count = self.next = 0


class PacketQueue:
    def __dealloc__(self):
        if self.packets != cython.NULL:
            self.clear()
            free(self.packets)

    # `family`: of the socket; BY_METHODS where the socket is to be asked by its methods.

    def push(self, data, address):
        """Queue a datagram to ``address``, which counts unless the socket is connected."""
        if self.head + self.count == self.capacity:
            self.make_room()
        packet: cython.pointer(weft_packet) = cython.address(self.packets[self.head + self.count])
        packet.length = 0
        packet.odd = cython.NULL
        if not self.is_connected:
            packet.length = weft_pack_address(address, self.family, packet)
            if packet.length == 0:
                # SAFETY: the packet owns this reference and the next until drop() or clear().
                packet.odd = cython.cast(cython.pointer(PyObject), address)
                Py_INCREF(packet.odd)
        # SAFETY: as above.
        packet.owner = cython.cast(cython.pointer(PyObject), data)
        Py_INCREF(packet.owner)
        self.count += 1
        self.size += PyBytes_GET_SIZE(data) + HEADER_SIZE
        return 0

    def make_room(self):
        """Move the packets to the front where at least half of the block is free, else double the block."""
        if self.head > 0 and self.head * 2 >= self.capacity:
            memmove(self.packets, self.packets + self.head, self.count * cython.sizeof(weft_packet))
            self.head = 0
            return 0
        capacity: cython.Py_ssize_t = 2 * self.capacity if self.capacity else FIRST_CAPACITY
        packets: cython.pointer(weft_packet) = cython.cast(
            cython.pointer(weft_packet), realloc(self.packets, capacity * cython.sizeof(weft_packet))
        )
        if packets == cython.NULL:
            raise MemoryError(f"no memory for {capacity} queued datagrams")
        self.packets = packets
        self.capacity = capacity
        return 0

    def first(self):
        """The oldest packets in a row."""
        return self.packets + self.head

    def run(self, most):
        """How many of the oldest can go in one call, ``most`` at the most; 0 where the first goes by the socket."""
        n: cython.int = 0
        if self.family == BY_METHODS:
            return 0
        most = min(most, WEFT_BATCH, self.count)
        while n < most and self.packets[self.head + n].odd == cython.NULL:
            n += 1
        return n

    def is_odd(self):
        """Whether the oldest packet has an address that only the socket module understands."""
        return self.packets[self.head].odd != cython.NULL

    def odd_data(self):
        """The data of the oldest packet."""
        # SAFETY: the packet's reference keeps it alive while it is cast; the result is a reference of its own.
        return cython.cast(bytes, self.packets[self.head].owner)

    def odd_address(self):
        """The address of the oldest packet, where ``is_odd()``."""
        # SAFETY: as above.
        return cython.cast(object, self.packets[self.head].odd)

    def drop(self, count):
        """Let go of the oldest ``count`` packets."""
        packet: weft_packet
        while count > 0 and self.count > 0:
            # A copy: what an address runs when it goes may push, and so move the block.
            packet = self.packets[self.head]
            self.head += 1
            self.count -= 1
            self.size -= PyBytes_GET_SIZE(cython.cast(bytes, packet.owner)) + HEADER_SIZE  # SAFETY: owned, see push()
            if self.count == 0:
                self.head = 0
            # SAFETY: the packet is cut off by head and count already.
            Py_DECREF(packet.owner)
            Py_XDECREF(packet.odd)
            count -= 1

    def clear(self):
        self.drop(self.count)
