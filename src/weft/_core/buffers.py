"""The write queue of a transport: what was written and has not left yet.

The queue keeps ``bytes`` objects by reference, never copies them, and hands them to the driver as an iovec. The
invariant: ``size`` is the sum of the unsent bytes of ``count`` parts, each of which owns one reference. Callers freeze
whatever could still change (a bytearray, a view) before it is queued: the bytes leave after ``write()`` has returned.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy, memmove
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, PyObject

FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 8)


class WriteQueue:
    def __dealloc__(self) -> None:
        if self.parts != cython.NULL:
            self.clear()
            free(self.parts)

    def push(self, data, offset):
        """Queue ``data[offset:]``; nothing happens when that is empty."""
        left: cython.Py_ssize_t = PyBytes_GET_SIZE(data) - offset
        if left <= 0:
            return 0
        if self.head + self.count == self.capacity:
            self.make_room()
        part: cython.pointer(Part) = cython.address(self.parts[self.head + self.count])
        # SAFETY: the part owns this reference until consume() or clear() drops it; `data` points into that object,
        # whose bytes never move or change.
        part.owner = cython.cast(cython.pointer(PyObject), data)
        Py_INCREF(part.owner)
        part.data = PyBytes_AS_STRING(data) + offset
        part.size = left
        self.count += 1
        self.size += left
        return 0

    def make_room(self):
        """Move the parts to the front where at least half of the block is free, else double the block."""
        if self.head > 0 and self.head * 2 >= self.capacity:
            memmove(self.parts, self.parts + self.head, self.count * cython.sizeof(Part))
            self.head = 0
            return 0
        capacity: cython.Py_ssize_t = 2 * self.capacity if self.capacity else FIRST_CAPACITY
        parts: cython.pointer(Part) = cython.cast(
            cython.pointer(Part), realloc(self.parts, capacity * cython.sizeof(Part))
        )
        if parts == cython.NULL:
            raise MemoryError(f"no memory for {capacity} queued writes")
        self.parts = parts
        self.capacity = capacity
        return 0

    def gather(self, vector, most):
        """Fill ``vector`` with the oldest parts, ``most`` at the most; returns how many."""
        n: cython.int = cython.cast(cython.int, self.count if self.count < most else most)
        i: cython.int
        for i in range(n):
            vector[i].iov_base = self.parts[self.head + i].data
            vector[i].iov_len = self.parts[self.head + i].size
        return n

    def copy(self, where):
        """Write all that is queued, ``size`` bytes, to ``where``."""
        i: cython.Py_ssize_t
        for i in range(self.head, self.head + self.count):
            memcpy(where, self.parts[i].data, self.parts[i].size)
            where += self.parts[i].size

    def consume(self, sent):
        """Drop the first ``sent`` bytes, which may end in the middle of a part."""
        part: cython.pointer(Part)
        self.size -= sent
        while sent > 0:
            part = cython.address(self.parts[self.head])
            if sent < part.size:
                part.data += sent
                part.size -= sent
                return
            sent -= part.size
            self.head += 1
            self.count -= 1
            # SAFETY: the part is cut off by head and count already; a destructor that writes sees a whole queue.
            Py_DECREF(part.owner)
        if self.count == 0:
            self.head = 0

    def clear(self):
        part: cython.pointer(Part)
        while self.count > 0:
            part = cython.address(self.parts[self.head])
            self.head += 1
            self.count -= 1
            # SAFETY: cut off by head and count already.
            Py_DECREF(part.owner)
        self.head = 0
        self.size = 0


def freeze(data):
    """``data`` as bytes: itself when it is bytes, else a copy; TypeError for what is not bytes-like, as in asyncio."""
    if type(data) is bytes:
        return data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return bytes(data)
