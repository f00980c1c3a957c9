"""Timers: a binary heap of C structs ordered by moment, then by order of arrival.

Cancelling is lazy: the handle stays in the heap, empty, until its moment comes, or until more than half of the heap is
cancelled and one pass drops them all. The commonest case needs neither: a timer that is cancelled while it is still the
last slot (a timeout around something quick) is taken out at once. The invariant: the heap owns one reference to the
handle of each slot, and ``cancelled`` counts those of them that are cancelled. The scheduler is its only user.
"""

import asyncio

import cython
from cython.cimports.libc.stdlib import free, malloc, realloc
from cython.cimports.weft._core.handle import Handle, Runnable, fill
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, PyObject

FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 64)
SPARE = cython.declare(cython.Py_ssize_t, 4096)  # slots: 96 KiB are not worth giving back
# asyncio: 100 timers and half of them cancelled.
COMPACT_FROM = cython.declare(cython.Py_ssize_t, 100)


class TimerHandle(Handle):
    """A callback that the loop will run at a moment; see :class:`asyncio.TimerHandle`."""

    @property
    def __class__(self):
        return asyncio.TimerHandle

    def when(self) -> float:
        """The moment it is due, in seconds on the loop's clock (:meth:`asyncio.loop.time`)."""
        return self.scheduled

    @property
    def _when(self):
        return self.scheduled

    @property
    def _scheduled(self):
        return self.heap is not None

    def cancel(self) -> None:
        """Keep the callback from running, where it has not run yet."""
        if self.is_cancelled:
            return
        self.is_cancelled = True
        # The heap hears of it first: what drop() lets go of may cancel other timers of the same heap.
        heap: TimerHeap = self.heap
        if heap is not None:
            heap.on_cancel(self)
        self.drop()

    def is_void(self):
        return self.is_cancelled

    def leave_heap(self):
        self.heap = None

    def __lt__(self, other):
        return self.scheduled < other.when()

    def __le__(self, other):
        return self.scheduled <= other.when()

    def __gt__(self, other):
        return self.scheduled > other.when()

    def __ge__(self, other):
        return self.scheduled >= other.when()

    def timing(self):
        return f"when={self.scheduled}"


weft_pool_type(TimerHandle)


class TimerHeap:
    def __dealloc__(self) -> None:
        if self.slots != cython.NULL:
            self.clear()
            free(self.slots)

    def __len__(self) -> int:
        return self.count - self.cancelled

    def grow(self):
        capacity: cython.Py_ssize_t = 2 * self.capacity if self.capacity else FIRST_CAPACITY
        slots: cython.pointer(Slot) = cython.cast(
            cython.pointer(Slot), realloc(self.slots, capacity * cython.sizeof(Slot))
        )
        if slots == cython.NULL:
            raise MemoryError(f"no memory for {capacity} timers")
        self.slots = slots
        self.capacity = capacity
        return 0

    def shrink(self):
        """Give half of the slots back where few are in use."""
        if self.capacity > SPARE and self.count * 8 < self.capacity:
            slots: cython.pointer(Slot) = cython.cast(
                cython.pointer(Slot), realloc(self.slots, (self.capacity >> 1) * cython.sizeof(Slot))
            )
            if slots != cython.NULL:  # else nothing is lost by keeping them
                self.slots = slots
                self.capacity >>= 1

    def push(self, when, handle):
        if self.count == self.capacity:
            self.grow()
        slot: cython.pointer(Slot) = cython.address(self.slots[self.count])
        slot.when = when
        slot.sequence = self.sequence
        # SAFETY: the slot owns this reference until pop(), on_cancel(), compact() or clear() gives it back.
        slot.handle = cython.cast(cython.pointer(PyObject), handle)
        Py_INCREF(slot.handle)
        self.sequence += 1
        self.count += 1
        self.has_news = True
        self.sift_up(self.count - 1)
        return 0

    def next_when(self):
        """When the earliest slot is due, cancelled or not. Only for a heap that is not empty."""
        return self.slots[0].when

    def pop(self):
        """Take out the earliest slot; returns its handle, cancelled or not. Only for a heap that is not empty."""
        # SAFETY: the local holds a reference of its own, so the slot's can go.
        handle: Runnable = cython.cast(Runnable, self.slots[0].handle)
        Py_DECREF(self.slots[0].handle)
        self.count -= 1
        if self.count > 0:
            self.slots[0] = self.slots[self.count]
            self.sift_down(0)
        handle.leave_heap()
        if handle.is_void():
            self.cancelled -= 1
        self.shrink()
        return handle

    def on_cancel(self, handle):
        last: cython.Py_ssize_t = self.count - 1
        # SAFETY: only compared.
        if self.slots[last].handle == cython.cast(cython.pointer(PyObject), handle):
            self.count = last
            handle.leave_heap()
            # SAFETY: the caller holds a reference; the slot's is no longer reachable.
            Py_DECREF(cython.cast(cython.pointer(PyObject), handle))
            return
        self.cancelled += 1
        if self.count > COMPACT_FROM and self.cancelled * 2 > self.count:
            self.compact()

    def compact(self):
        """Drop every cancelled slot and order the rest anew, in linear time.

        Dropping a handle can run any code, this heap's methods among it: the heap is whole again before the first goes.
        """
        dropped: cython.pointer(cython.pointer(PyObject)) = cython.cast(
            cython.pointer(cython.pointer(PyObject)), malloc(self.cancelled * cython.sizeof(cython.p_void))
        )
        if dropped == cython.NULL:
            return  # nothing is lost by compacting later
        kept: cython.Py_ssize_t = 0
        gone: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        for i in range(self.count):
            # SAFETY: the slot's reference keeps the handle alive, and moves on into `dropped` where it goes.
            handle: Runnable = cython.cast(Runnable, self.slots[i].handle)
            if handle.is_void():
                handle.leave_heap()
                dropped[gone] = self.slots[i].handle
                gone += 1
            else:
                self.slots[kept] = self.slots[i]
                kept += 1
        self.count = kept
        self.cancelled = 0
        self.shrink()
        for i in range(kept // 2 - 1, -1, -1):
            self.sift_down(i)
        for i in range(gone):
            # SAFETY: the references that the slots owned; no slot points there any more.
            Py_DECREF(dropped[i])
        free(dropped)

    def sift_up(self, place):
        moving: Slot = self.slots[place]
        parent: cython.Py_ssize_t
        while place > 0:
            parent = (place - 1) >> 1
            if not is_before(moving, self.slots[parent]):
                break
            self.slots[place] = self.slots[parent]
            place = parent
        self.slots[place] = moving

    def sift_down(self, place):
        moving: Slot = self.slots[place]
        child: cython.Py_ssize_t = 2 * place + 1
        while child < self.count:
            if child + 1 < self.count and is_before(self.slots[child + 1], self.slots[child]):
                child += 1
            if not is_before(self.slots[child], moving):
                break
            self.slots[place] = self.slots[child]
            place = child
            child = 2 * place + 1
        self.slots[place] = moving

    def clear(self):
        handle: Runnable
        while self.count > 0:
            self.count -= 1
            # SAFETY: the slot is cut off by the count already; the local holds a reference of its own.
            handle = cython.cast(Runnable, self.slots[self.count].handle)
            handle.leave_heap()
            handle.drop()
            Py_DECREF(self.slots[self.count].handle)
        self.cancelled = 0

    def traverse(self, visit, data):
        """Show the garbage collector the handles, on behalf of the loop that owns the heap."""
        i: cython.Py_ssize_t
        for i in range(self.count):
            seen: cython.int = visit(self.slots[i].handle, data)
            if seen != 0:
                return seen
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_before(a: Slot, b: Slot) -> cython.bint:
    return a.when < b.when or (a.when == b.when and a.sequence < b.sequence)


def new_timer(heap, when, scheduled, loop, callback, args, context, debug):
    """A fresh timer in ``heap``, due at ``when`` nanoseconds; ``scheduled`` is that moment as the caller gave it."""
    handle: TimerHandle = TimerHandle.__new__(TimerHandle)
    fill(handle, loop, callback, args, context, debug)
    handle.scheduled = scheduled
    heap.push(when, handle)
    handle.heap = heap
    return handle
