"""``sleep``: asyncio's, with the operation itself in the timer heap; no future, handle or context per sleep.

The invariant: a sleep that has ended, in whatever way, is no longer waited for: one that was cancelled stays in the
heap as a void slot until the heap drops it, as a cancelled timer does.
"""

from asyncio import get_running_loop
from collections.abc import Coroutine
from typing import Any

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.weft._core.clock import FOREVER, to_ns
from cython.cimports.weft._core.operation import PAUSE, Operation
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sys.python import Py_TYPE, PyTypeObject
from cython.cimports.weft._core.waiter import Waiter

from weft import versions
from weft._core.scheduler import Scheduler as SchedulerClass

REFUSES_NAN = cython.declare(cython.bint, versions.SLEEP_REFUSES_NAN)
RUNNING_LOOP = cython.declare(object, get_running_loop)
CLOCK_METHODS = cython.declare(tuple, ("call_later", "call_at", "time"))
# The class of loop that was asked about last.
known_class = cython.declare(object, None)
known_type = cython.declare(cython.pointer(PyTypeObject), cython.NULL)


def clock_of(loop):
    """The scheduler whose heap may be used directly; None for a loop that is not ours or keeps time its own way."""
    global known_class, known_type
    if Py_TYPE(loop) != known_type:
        cls: object = type(loop)
        if not isinstance(loop, Scheduler):
            return None
        for name in CLOCK_METHODS:
            if getattr(cls, name) is not getattr(SchedulerClass, name):
                return None
        known_class = cls
        known_type = cython.cast(cython.pointer(PyTypeObject), cls)  # SAFETY: held by the line above
    # SAFETY: of the class that was found to derive from it.
    return cython.cast(Scheduler, loop)


class Sleep(Operation):
    def name(self):
        return "sleep"

    def begin(self):
        delay: object = self.delay
        if delay <= 0:
            return PAUSE
        if REFUSES_NAN and delay != delay:
            raise ValueError("Invalid delay: NaN (not a number)")
        loop: object = RUNNING_LOOP()
        clock: Scheduler = clock_of(loop)
        self.park(loop)
        if clock is None:
            self.handle = loop.call_later(delay, wake, self.waiter)
            return self.waiter
        clock.check()
        wait: int64_t = to_ns(delay)
        now: int64_t = clock._driver.read_clock()
        clock.timers.push(now + wait if wait < FOREVER - now else FOREVER, self)
        self.heap = clock.timers
        return self.waiter

    def resume(self):
        self.stop()
        return self.value

    def give_up(self, error):
        self.stop()
        raise error

    def stop(self):
        """Nothing is to come any more."""
        heap, self.heap = self.heap, None
        self.is_over = True
        if heap is not None:
            heap.on_cancel(self)
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None
        return 0

    # In the heap.

    def run(self, argument):
        if not self.is_over:
            self.waiter.wake()
        return 0

    def is_void(self):
        return self.is_over

    def leave_heap(self):
        self.heap = None

    def report(self, loop, argument, error):
        loop.call_exception_handler({"message": f"Exception when {self!r} was to end", "exception": error})
        return 0


def wake(waiter: Waiter):
    waiter.wake()


def sleep(delay, result=None):
    """Wait for *delay* seconds, and return *result*; to be awaited. See :func:`asyncio.sleep`.

    Args:
        delay: seconds; 0 or less lets the others run, for one turn of the loop.
        result: what it returns.

    Raises:
        ValueError: *delay* is not a number (NaN; from Python 3.13 on).
    """
    sleeping: Sleep = Sleep.__new__(Sleep)
    sleeping.delay = delay
    sleeping.value = result
    return sleeping


sleep.__annotations__ = {"delay": float, "result": Any, "return": Coroutine}
versions.mark_coroutine_function(sleep)
sleep.__module__ = "weft"
