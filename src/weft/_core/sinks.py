"""A list of sinks in C, for the driver: pushing to it allocates nothing once it has grown.

The invariant: the list owns one reference to each of its ``count`` sinks. Letting go of a sink can run any code, this
list's methods among it, so ``clear`` cuts the list before each reference goes.
"""

import cython
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, PyObject

FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 64)


class SinkList:
    def __dealloc__(self):
        self.clear()
        free(self.items)

    def push(self, sink):
        if self.count == self.capacity:
            capacity: cython.Py_ssize_t = 2 * self.capacity if self.capacity else FIRST_CAPACITY
            items: cython.pointer(cython.pointer(PyObject)) = cython.cast(
                cython.pointer(cython.pointer(PyObject)), realloc(self.items, capacity * cython.sizeof(cython.p_void))
            )
            if items == cython.NULL:
                raise MemoryError(f"no memory for {capacity} transports with unsent data")
            self.items = items
            self.capacity = capacity
        # SAFETY: the list owns this reference until clear().
        self.items[self.count] = cython.cast(cython.pointer(PyObject), sink)
        Py_INCREF(self.items[self.count])
        self.count += 1
        return 0

    def get(self, place):
        # SAFETY: the list's reference keeps it alive while it is cast, and the result is a reference of its own.
        return cython.cast(object, self.items[place])

    def clear(self):
        while self.count > 0:
            self.count -= 1
            # SAFETY: the list's reference; nothing reaches it any more.
            Py_DECREF(self.items[self.count])

    def traverse(self, visit, data):
        """Show the garbage collector the sinks, on behalf of the loop that owns the driver."""
        i: cython.Py_ssize_t
        for i in range(self.count):
            seen: cython.int = visit(self.items[i], data)
            if seen != 0:
                return seen
        return 0
