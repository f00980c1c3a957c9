"""``timeout``, ``timeout_at`` and ``Timeout``: asyncio's, where the timeout itself stands in the timer heap.

Its methods to enter and leave are operations, so that ``async with timeout(10)`` makes three objects and no frame. The
invariant: it goes into the heap once, at most, and once it has been left it cancels nobody.
"""

import asyncio
from asyncio import get_running_loop, timeouts
from asyncio.exceptions import CancelledError

import cython
from cython.cimports.weft._core.clock import to_ns, to_seconds
from cython.cimports.weft._core.handle import Runnable
from cython.cimports.weft._core.operation import Operation
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sleeping import clock_of

from weft import versions

RUNNING_LOOP = cython.declare(object, get_running_loop)
CURRENT_TASK = cython.declare(object, asyncio.current_task)
# Up to 3.13 asyncio keeps a loop's current task in this dict.
CURRENT_TASKS = cython.declare(object, versions.CURRENT_TASKS)
STATES = cython.declare(object, timeouts._State)
CREATED = cython.declare(object, STATES.CREATED)
ENTERED = cython.declare(object, STATES.ENTERED)
EXPIRING = cython.declare(object, STATES.EXPIRING)
EXPIRED = cython.declare(object, STATES.EXPIRED)
EXITED = cython.declare(object, STATES.EXITED)
# From 3.13 on a timeout leaves its mark in an exception that came of the cancellation.
INSERT_TIMEOUT_ERROR = cython.declare(object, getattr(timeouts.Timeout, "_insert_timeout_error", None))


class TimeoutCore(Runnable):
    def __init__(self, when):
        self.moment = when
        self.state = CREATED

    # asyncio's private attributes.

    @property
    def _state(self):
        return self.state

    @property
    def _when(self):
        return self.moment

    @property
    def _task(self):
        return self.task

    def when(self):
        """The moment it is due on the loop's clock, in seconds; None for never."""
        return self.moment

    def expired(self):
        """Whether it was due before the block had ended."""
        return self.state is EXPIRING or self.state is EXPIRED

    def reschedule(self, when):
        """Set another moment, or None for never.

        Raises:
            RuntimeError: it has not been entered, or is over.
        """
        if self.state is not ENTERED:
            if self.state is CREATED:
                raise RuntimeError("Timeout has not been entered")
            raise RuntimeError(f"Cannot change state of {self.state.value} Timeout")
        self.moment = when
        self.stop()
        if when is not None:
            self.start(RUNNING_LOOP())

    def __aenter__(self):
        entering: Enter = Enter.__new__(Enter)
        entering.timeout = self
        return entering

    def __aexit__(self, kind, error, traceback):
        leaving: Exit = Exit.__new__(Exit)
        leaving.timeout = self
        leaving.kind = kind
        leaving.error = error
        return leaving

    # -- the clock -----------------------------------------------------------------------------------------------------

    def start(self, loop):
        clock: Scheduler = clock_of(loop)
        if self.moment <= (loop.time() if clock is None else to_seconds(clock._driver.read_clock())):
            self.handle = loop.call_soon(expire, self)
            return 0
        if clock is None or self.was_in_heap:
            # The slot of before may still be there, and would be taken for the new one.
            self.handle = loop.call_at(self.moment, expire, self)
            return 0
        clock.check()
        self.was_in_heap = True
        clock.timers.push(to_ns(self.moment), self)
        self.heap = clock.timers
        return 0

    def stop(self):
        if self.heap is not None:
            heap, self.heap = self.heap, None
            self.is_stopped = True
            heap.on_cancel(self)
        if self.handle is not None:
            handle, self.handle = self.handle, None
            handle.cancel()
        return 0

    def run(self, argument):
        if not self.is_stopped:
            self.expire()
        return 0

    def is_void(self):
        return self.is_stopped

    def leave_heap(self):
        self.heap = None

    def report(self, loop, argument, error):
        loop.call_exception_handler({"message": f"Exception when {self!r} was due", "exception": error})
        return 0

    # -- what happens to it --------------------------------------------------------------------------------------------

    def enter(self):
        if self.state is not CREATED:
            raise RuntimeError("Timeout has already been entered")
        loop: object = RUNNING_LOOP()
        task: object = CURRENT_TASK(loop) if CURRENT_TASKS is None else CURRENT_TASKS.get(loop)
        if task is None:
            raise RuntimeError("Timeout should be used inside a task")
        self.state = ENTERED
        self.task = task
        self.cancelling = task.cancelling()
        if self.moment is not None:
            self.start(loop)
        return 0

    def expire(self):
        self.task.cancel()
        self.state = EXPIRING
        self.handle = None  # at once: the handle holds this

    def leave(self, kind, error):
        self.stop()
        if self.state is ENTERED:
            self.state = EXITED
            return 0
        if self.state is not EXPIRING:
            raise AssertionError(f"{self!r} is left without being entered")
        self.state = EXPIRED
        if self.task.uncancel() > self.cancelling or kind is None:
            return 0
        if (kind is CancelledError) if INSERT_TIMEOUT_ERROR is None else issubclass(kind, CancelledError):
            # Nobody else has asked for it.
            raise TimeoutError from error
        if INSERT_TIMEOUT_ERROR is not None and error is not None:
            INSERT_TIMEOUT_ERROR(error)
            if isinstance(error, ExceptionGroup):
                for inner in error.exceptions:
                    INSERT_TIMEOUT_ERROR(inner)
        return 0


def expire(timeout: TimeoutCore):
    timeout.expire()


class Enter(Operation):
    def name(self):
        return "Timeout.__aenter__"

    def begin(self):
        self.timeout.enter()
        return self.timeout


class Exit(Operation):
    def name(self):
        return "Timeout.__aexit__"

    def begin(self):
        # What is raised here must not lead back to here.
        error, self.error = self.error, None
        self.timeout.leave(self.kind, error)


class Timeout(TimeoutCore, timeouts.Timeout):
    """:class:`asyncio.Timeout`: cancels the task that is in its block when the moment comes.

    Args:
        when: a moment on the loop's clock, in seconds; None for never.
    """


def timeout(delay):
    """An ``async with`` block that may take *delay* seconds; see :func:`asyncio.timeout`.

    Args:
        delay: seconds; None for no limit.

    Raises:
        RuntimeError: no loop is running.
        TimeoutError: out of the block, when it took longer.
    """
    loop: object = RUNNING_LOOP()
    return Timeout(None if delay is None else loop.time() + delay)


def timeout_at(when):
    """An ``async with`` block that may take until the moment *when*; see :func:`asyncio.timeout_at`.

    Args:
        when: a moment on the loop's clock, in seconds; None for no limit.

    Raises:
        TimeoutError: out of the block, when it took longer.
    """
    return Timeout(when)


timeout.__annotations__ = {"delay": float | None, "return": Timeout}
timeout_at.__annotations__ = {"when": float | None, "return": Timeout}
Timeout.__module__ = timeout.__module__ = timeout_at.__module__ = "weft"
