"""The ready ring: what the loop runs next, first in, first out.

An entry is two pointers by value, a runnable and its argument (NULL for none), so that making a task ready allocates
nothing. The invariant: the ring owns one reference to each pointer of its ``count`` entries, and to nothing else.
The scheduler is its only user, and always holds the GIL.
"""

import cython
from cython.cimports.libc.stdlib import calloc, free, malloc
from cython.cimports.weft._core.handle import Runnable
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, Py_XDECREF, PyObject

SPARE = cython.declare(cython.Py_ssize_t, 4096)  # entries: 64 KiB are not worth giving back
FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 256)  # a power of two, as every capacity after it


class Ring:
    def __cinit__(self) -> None:
        self.entries = cython.cast(cython.pointer(Entry), calloc(FIRST_CAPACITY, cython.sizeof(Entry)))
        if self.entries == cython.NULL:
            raise MemoryError("no memory for the ready ring")
        self.mask = FIRST_CAPACITY - 1

    def __dealloc__(self) -> None:
        if self.entries != cython.NULL:
            self.clear()
            free(self.entries)

    def __len__(self) -> int:
        return self.count

    def resize(self, capacity):
        """Have room for ``capacity`` entries, a power of two; they move to the front of the new block in order."""
        block: cython.pointer(Entry) = cython.cast(cython.pointer(Entry), malloc(capacity * cython.sizeof(Entry)))
        if block == cython.NULL:
            raise MemoryError(f"no memory for {capacity} ready callbacks")
        i: cython.Py_ssize_t
        for i in range(self.count):
            block[i] = self.entries[(self.head + i) & self.mask]
        free(self.entries)
        self.entries = block
        self.head = 0
        self.mask = capacity - 1
        return 0

    def relax(self):
        """Called once a turn: give a large block back that is nearly empty.

        By three quarters at a time, so that a loop which has a rush every other turn hardly copies.
        """
        if self.mask > SPARE + 16 * self.count:
            try:
                return self.resize((self.mask + 1) >> 2)
            except MemoryError:
                return 0  # nothing is lost by keeping it
        return 0

    def push(self, runnable, argument):
        if self.count > self.mask:
            self.resize(2 * (self.mask + 1))
        entry: cython.pointer(Entry) = cython.address(self.entries[(self.head + self.count) & self.mask])
        # SAFETY: the entry owns these two references until take() hands them on or clear() drops them.
        entry.runnable = cython.cast(cython.pointer(PyObject), runnable)
        Py_INCREF(entry.runnable)
        entry.argument = argument
        if argument != cython.NULL:
            Py_INCREF(argument)
        self.count += 1
        return 0

    def take(self):
        """The oldest entry; its two references are the caller's now. Only for a ring that is not empty."""
        entry: Entry = self.entries[self.head]
        self.head = (self.head + 1) & self.mask
        self.count -= 1
        return entry

    def clear(self):
        entry: Entry
        while self.count > 0:
            entry = self.take()
            # SAFETY: take() handed both references over.
            cython.cast(Runnable, entry.runnable).drop()
            Py_DECREF(entry.runnable)
            Py_XDECREF(entry.argument)

    def traverse(self, visit, data):
        """Show the garbage collector what the entries refer to, on behalf of the loop that owns the ring."""
        i: cython.Py_ssize_t
        for i in range(self.count):
            entry: Entry = self.entries[(self.head + i) & self.mask]
            seen: cython.int = visit(entry.runnable, data)
            if seen == 0 and entry.argument != cython.NULL:
                seen = visit(entry.argument, data)
            if seen != 0:
                return seen
        return 0
