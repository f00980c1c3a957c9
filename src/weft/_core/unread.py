"""What has come over a connection and was not read: one piece of memory, with as few copies as there can be.

The bytes lie in one ``bytes`` object: either the very object that came, held as it is, or a block of ours that grows.
The invariant: ``start[:size]`` are the unread bytes and lie in ``block``; a block that anybody else has seen is never
written to. Whoever takes all that there is gets the block itself where it fits.

Used by ``StreamReader``.
"""

import cython
from cython.cimports.libc.string import memchr, memcpy, memmove
from cython.cimports.weft._core.sys.linux import memmem
from cython.cimports.weft._core.sys.python import (
    Py_INCREF,
    Py_XDECREF,
    PyBytes_FromStringAndSize,
    PyBytes_NewBlock,
    PyBytes_START,
    PyObject,
    weft_cut_bytes,
)

# A block that somebody waits for grows at least to this at once; glibc keeps blocks of this size (weft_sys.h).
FIRST_STEP = cython.declare(cython.Py_ssize_t, 256 * 1024)
# A block larger than this (bytes) is given up as soon as only one part in so many of it is unread.
LARGE = cython.declare(cython.Py_ssize_t, 16 * 1024)
LITTLE = cython.declare(cython.Py_ssize_t, 8)


class Unread:
    def __dealloc__(self):
        # SAFETY: the block is ours alone by now.
        Py_XDECREF(self.block)

    def hold(self, data):
        """Keep ``data`` as it is; only where nothing is unread."""
        self.clear()
        # SAFETY: the reference is taken here and dropped by clear(), or given away by take().
        self.block = cython.cast(cython.pointer(PyObject), data)
        Py_INCREF(self.block)
        self.start = PyBytes_START(self.block)
        self.size = len(data)
        return 0

    def append(self, data, size, wanted):
        """Add a copy of ``data[:size]``; ``wanted`` is the length that somebody waits for, a hint."""
        if size > self.room:
            self.make_room(size, wanted)
        memcpy(self.start + self.size, data, size)
        self.size += size
        self.room -= size
        return 0

    def make_room(self, size, wanted):
        needed: cython.Py_ssize_t = self.size + size
        capacity: cython.Py_ssize_t = 0
        if self.is_ours:
            capacity = bytes_size(self.block)
            begin: cython.p_char = PyBytes_START(self.block)
            if needed <= capacity and self.size <= self.start - begin:
                # At least half of what is in use is read already: what moves is less than what was read since.
                memmove(begin, self.start, self.size)
                self.start = begin
                self.room = capacity - self.size
                return 0
        capacity = needed + needed // 2
        if wanted >= needed:
            capacity = min(wanted, max(capacity, FIRST_STEP))
        block: cython.pointer(PyObject) = PyBytes_NewBlock(cython.NULL, capacity)
        if self.size > 0:
            memcpy(PyBytes_START(block), self.start, self.size)
        # SAFETY: the old block goes; the new one is ours.
        Py_XDECREF(self.block)
        self.block = block
        self.start = PyBytes_START(block)
        self.room = capacity - self.size
        self.is_ours = True
        return 0

    def take(self, size):
        """The first ``size`` bytes, of which there must be as many; they are not unread any more."""
        taken: bytes
        capacity: cython.Py_ssize_t
        if size == 0:
            return b""
        if size < self.size:
            taken = PyBytes_FromStringAndSize(self.start, size)
            self.start += size
            self.size -= size
            if self.size < bytes_size(self.block) // LITTLE and bytes_size(self.block) > LARGE:
                self.shrink()
            return taken
        capacity = bytes_size(self.block)
        if self.start == PyBytes_START(self.block) and (capacity == size or (self.is_ours and capacity <= 2 * size)):
            # SAFETY: the reference goes over to `taken`; to be cut, the block must be ours alone, which it is.
            block: cython.pointer(PyObject) = self.block
            self.block = cython.NULL
            self.clear()
            taken = weft_cut_bytes(block, size)
            return taken
        taken = PyBytes_FromStringAndSize(self.start, size)
        self.clear()
        return taken

    def shrink(self):
        """Little is left in a large block, and may stay for long: move it to a block of its own."""
        rest: bytes = PyBytes_FromStringAndSize(self.start, self.size)
        return self.hold(rest)

    def copy(self):
        """All of it, left where it is."""
        return PyBytes_FromStringAndSize(self.start, self.size) if self.size > 0 else b""

    def clear(self):
        block: cython.pointer(PyObject) = self.block
        self.block = cython.NULL
        self.start = cython.NULL
        self.size = 0
        self.room = 0
        self.is_ours = False
        # SAFETY: nothing points into the block any more.
        Py_XDECREF(block)
        return 0

    def find(self, what, start):
        """Where ``what``, which is not empty, begins for the first time from ``start`` on; -1 if nowhere."""
        found: cython.p_char
        length: cython.Py_ssize_t = len(what)
        left: cython.Py_ssize_t = self.size - start
        if left < length:
            return -1
        text: cython.p_char = what
        # SAFETY: both calls return a pointer into the bytes that were searched, or NULL.
        if length == 1:
            found = cython.cast(cython.p_char, memchr(self.start + start, text[0], left))
        else:
            found = cython.cast(cython.p_char, memmem(self.start + start, left, text, length))
        return -1 if found == cython.NULL else found - self.start


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def bytes_size(block: cython.pointer(PyObject)) -> cython.Py_ssize_t:
    # SAFETY: a block is always a bytes object that is alive.
    return len(cython.cast(bytes, block))
