"""The scheduler: what runs next, and when.

Three stores feed one loop: the ready ring (first in, first out, a promise), the timer heap, and the driver, which turns
I/O into calls of its sinks. One turn: ask the driver, run what was ready before (a snapshot, so that callbacks which
schedule callbacks cannot starve I/O), deliver what the driver found, run due timers, send what the turn wrote. The
invariant: everything here happens in the thread that runs the loop; the one door for other threads is
``call_soon_threadsafe``.

The mixins of ``weft.loop`` build the event loop on it, and ``_core.stepper`` adds tasks.
"""

import asyncio
import inspect
from asyncio.log import logger

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.weft._core.clock import FOREVER, to_ns, to_seconds
from cython.cimports.weft._core.driver import Driver
from cython.cimports.weft._core.epoll import EpollDriver
from cython.cimports.weft._core.handle import Handle, Runnable, new_handle, new_threadsafe_handle
from cython.cimports.weft._core.ring import Entry, Ring
from cython.cimports.weft._core.sys.linux import weft_ticks
from cython.cimports.weft._core.sys.python import (
    Py_DECREF,
    Py_TYPE_OF,
    Py_XDECREF,
    PyCallable_Check,
    PyObject,
    PyThread_get_thread_ident,
    weft_as_double,
)
from cython.cimports.weft._core.sys.watch import weft_watch_begin, weft_watch_rest, weft_watch_rouse
from cython.cimports.weft._core.timers import TimerHeap, new_timer
from cython.cimports.weft._core.watchdog import ended, enter, leave

from weft import versions
from weft.errors import LoopClosedError, WrongThreadError

PORTION = cython.declare(cython.Py_ssize_t, 1024)  # callbacks; a matter of memory alone
HANDLE_WAITS = cython.declare(cython.bint, versions.THREADSAFE_HANDLE_CANCEL_WAITS)


class Scheduler:
    def __cinit__(self, *args, **kwargs):
        self.ring = Ring()
        self.due = Ring()
        self.timers = TimerHeap()
        self.slow_callback_duration = 0.1  # seconds, as in asyncio
        # Closed until its making has gone well, so that a loop that never came to be behaves like one.
        self._driver = Driver()
        self.closed = True

    def _start_with(self, driver) -> None:
        """The first thing in the making of a loop: its driver (None: epoll)."""
        self._driver = EpollDriver() if driver is None else driver
        self._driver.watched = cython.address(self.watched)
        self.closed = False

    # -- state ---------------------------------------------------------------------------------------------------------

    def is_running(self) -> bool:
        """Whether the loop is running."""
        return self.thread_id != 0

    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self.closed

    def get_debug(self) -> bool:
        """Whether debug mode is on."""
        return self.debug

    @property
    def _ready_count(self):
        """How many callbacks are ready to run."""
        return self.ring.count

    def time(self) -> float:
        """The loop's clock in seconds: CLOCK_MONOTONIC, as :func:`time.monotonic`."""
        return to_seconds(self._driver.read_clock())

    @property
    def stall_threshold(self):
        """How long a callback may take, in seconds, before it is reported; None when the loop is not watched."""
        return to_seconds(self.watched.threshold) if self.watched.threshold > 0 else None

    @stall_threshold.setter
    def stall_threshold(self, seconds):
        self.check_thread()
        if seconds is not None and not seconds > 0:
            raise ValueError(f"stall_threshold is a number of seconds above 0, or None; not {seconds!r}")
        self.watched.threshold = 0 if seconds is None else max(to_ns(seconds), 1)
        if self.thread_id != 0:
            leave(cython.address(self.watched))
            enter(cython.address(self.watched), self)

    def stop(self) -> None:
        """End :meth:`run_forever` after the callbacks that are ready now."""
        self.is_stopping = True

    def _check_closed(self) -> None:
        if self.closed:
            raise LoopClosedError

    def _check_thread(self) -> None:
        self.check_thread()

    def check_thread(self):
        """Refuse a call from a thread other than the one that runs the loop."""
        if self.thread_id != 0 and self.thread_id != PyThread_get_thread_ident():
            self.wrong_thread()
        return 0

    def check(self):
        """The check of every call that changes the loop: two compares where all is well."""
        if self.closed:
            raise LoopClosedError
        return self.check_thread()

    def wrong_thread(self):
        raise WrongThreadError(
            f"Non-thread-safe operation invoked on an event loop other than the current one: {self!r} runs in thread "
            f"{self.thread_id}, this is thread {PyThread_get_thread_ident()}"
        )

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def soon(self, callback, args, context):
        """What ``call_soon`` does with an ordinary callback; the task layer owns that method."""
        if self.debug or not PyCallable_Check(callback):
            check_callback(callback, "call_soon")
        handle: Handle = new_handle(self, callback, args, context, self.debug)
        self.ring.push(handle, cython.NULL)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As :meth:`call_soon`, from any thread or signal handler; wakes the loop where it sleeps."""
        if self.closed:
            raise LoopClosedError
        if self.debug or not PyCallable_Check(callback):
            check_callback(callback, "call_soon_threadsafe")
        handle: Handle
        if HANDLE_WAITS:
            handle = new_threadsafe_handle(self, callback, args, context, self.debug)
        else:
            handle = new_handle(self, callback, args, context, self.debug)
        # The GIL makes the push atomic: nothing between two bytecodes of the loop's thread holds the ring half changed.
        self.ring.push(handle, cython.NULL)
        self._driver.wake()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Run ``callback(*args)`` in ``delay`` seconds; see :meth:`call_at`."""
        if delay is None:
            raise TypeError("delay must not be None")
        self.check()
        if self.debug or not PyCallable_Check(callback):
            check_callback(callback, "call_later")
        seconds: cython.double = weft_as_double(delay)
        now: int64_t = self._driver.read_clock()
        wait: int64_t = to_ns(seconds)
        return new_timer(
            self.timers,
            now + wait if wait < FOREVER - now else FOREVER,
            to_seconds(now) + seconds,
            self,
            callback,
            args,
            context,
            self.debug,
        )

    def call_at(self, when, callback, *args, context=None):
        """Run ``callback(*args)`` at the moment ``when`` of the loop's clock (:meth:`time`), in seconds.

        Callbacks of the same moment run in the order in which they were scheduled.

        Returns:
            A handle with ``cancel()`` and ``when()``.

        Raises:
            RuntimeError: when the loop is closed, or runs in another thread.
            TypeError: when ``when`` is None or ``callback`` is not callable.
        """
        if when is None:
            raise TypeError("when cannot be None")
        self.check()
        if self.debug or not PyCallable_Check(callback):
            check_callback(callback, "call_at")
        moment: cython.double = weft_as_double(when)
        return new_timer(self.timers, to_ns(moment), moment, self, callback, args, context, self.debug)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _run(self, thread_id):
        """Turn until :meth:`stop`; at least once. The caller has checked that the loop may run, and says where."""
        self.thread_id = thread_id
        self.verdict = None  # a run that a KeyboardInterrupt has ended leaves it behind
        enter(cython.address(self.watched), self)
        try:
            while True:
                self.turn()
                if self.is_stopping:
                    break
        finally:
            try:
                if self.watched.wanted:
                    self.stalled()
                self.before_callback()
                self._driver.flush()
            finally:
                leave(cython.address(self.watched))
                self.is_stopping = False
                self.looked = 0
                self.thread_id = 0
        if self.verdict is not None:
            verdict, self.verdict = self.verdict, None
            raise verdict

    def turn(self):
        """Ask the kernel, run what was ready before, then what the kernel said, then due timers: asyncio's order."""
        driver: Driver = self._driver
        if weft_watch_begin(cython.address(self.watched)):
            self.stalled()
        asks: cython.bint = self.is_time_to_look()
        if asks:
            self.look()
        elif self.timers.has_news:
            self.collect_due(driver.read_clock())
        self.run_ready()
        if self.watched.wanted:
            self.stalled()
        if asks:
            self.before_callback()
            driver.deliver()
        if self.due.count > 0:
            self.run_due_timers()
        if driver.unsent.count > 0:
            self.before_callback()
            driver.flush()
        return 0

    def is_time_to_look(self):
        """Whether this turn looks at the clock and asks the kernel.

        While callbacks are ready, doing both in each turn would double what a turn costs. A counter that jumps back,
        as ticks may, counts as time that has passed.
        """
        if self.ring.count == 0 or self.is_stopping:
            return True
        return weft_ticks() - self.looked >= self._driver.poll_interval

    def look(self):
        """Ask the kernel what can be delivered, and the clock which timers are due; sleep where nothing is ready."""
        # This may run destructors, which may schedule: no Python code runs from the next line to the kernel's wait.
        self.before_callback()
        now: int64_t = self._driver.read_clock()
        timeout: int64_t = self.time_to_sleep(now)
        if timeout != 0:
            weft_watch_rest(cython.address(self.watched))
        try:
            self._driver.wait(timeout)
        finally:
            weft_watch_rouse(cython.address(self.watched))
        if timeout != 0:
            now = self._driver.read_clock()
        self.looked = weft_ticks()
        self.watched.turn_started = now
        return self.collect_due(now)

    def collect_due(self, now):
        """Settle which timers this turn runs: one that a callback sets for now waits for the next turn."""
        self.timers.has_news = False
        while self.timers.count > 0 and self.timers.next_when() <= now:
            self.due.push(self.timers.pop(), cython.NULL)
        return 0

    def time_to_sleep(self, now):
        """How many nanoseconds the driver may wait: 0 while something is ready, negative for ever."""
        if self.ring.count > 0 or self.due.count > 0 or self.is_stopping:
            return 0
        if self.timers.count > 0:
            return max(self.timers.next_when() - now, 0)
        return -1

    def run_due_timers(self):
        self.before_callback()
        entry: Entry
        while self.due.count > 0:
            if weft_watch_begin(cython.address(self.watched)):
                self.stalled()
            entry = self.due.take()
            # SAFETY: take() handed the reference over; the local holds its own.
            runnable: Runnable = cython.cast(Runnable, entry.runnable)
            Py_DECREF(entry.runnable)
            self.run_now(runnable)
        self.due.relax()
        return 0

    def run_now(self, runnable):
        """Run one handle at once, as :meth:`run_some` would; for timers that are due and descriptors that are ready."""
        what: object = None
        started: int64_t = 0
        if self.debug:
            what = runnable.describe(cython.NULL)
            started = self._driver.read_clock()
        try:
            runnable.run(cython.NULL)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            runnable.report(self, cython.NULL, error)
        if started:
            self.warn_if_slow(what, started)
        return 0

    def run_ready(self):
        """Run what is ready now; what these callbacks make ready waits for the next turn."""
        count: cython.Py_ssize_t = self.ring.count
        while count > 0:
            # In portions, so that the memory of a rush goes while it is run.
            portion: cython.Py_ssize_t = min(count, PORTION)
            count -= portion
            count += self.run_some_slowly(portion) if self.debug else self.run_some(portion)
            self.ring.relax()
        return 0

    def run_some(self, count):
        """Run up to ``count`` entries, or to the first that raises, which is reported; returns how many are left."""
        entry: Entry = Entry(cython.NULL, cython.NULL)
        try:
            while count > 0 and self.ring.count > 0:
                if weft_watch_begin(cython.address(self.watched)):
                    self.stalled()
                count -= 1
                entry = self.ring.take()
                # SAFETY: here and below: the entry holds its runnable until the DECREF.
                if self.is_in_task and Py_TYPE_OF(entry.runnable) != self.step_type:
                    self.before_callback()
                cython.cast(Runnable, entry.runnable).run(entry.argument)
                # SAFETY: take() handed both references over.
                Py_DECREF(entry.runnable)
                Py_XDECREF(entry.argument)
        except BaseException as error:
            self.on_raised(entry, error)
            return count
        return 0

    def run_some_slowly(self, count):
        """Debug mode: the same for one entry, with a warning when it takes ``slow_callback_duration`` or longer."""
        if self.ring.count == 0:
            return 0
        if weft_watch_begin(cython.address(self.watched)):
            self.stalled()
        entry: Entry = self.ring.take()
        self.before_callback()
        # SAFETY: the entry holds its runnable until the DECREF.
        runnable: Runnable = cython.cast(Runnable, entry.runnable)
        what: object = runnable.describe(entry.argument)
        started: int64_t = self._driver.read_clock()
        try:
            runnable.run(entry.argument)
        except BaseException as error:
            self.on_raised(entry, error)
            return count - 1
        # SAFETY: take() handed both references over.
        Py_DECREF(entry.runnable)
        Py_XDECREF(entry.argument)
        self.warn_if_slow(what, started)
        return count - 1

    def warn_if_slow(self, what, started):
        took: cython.double = to_seconds(self._driver.read_clock() - started)
        if took >= self.slow_callback_duration:
            logger.warning("Executing %s took %.3f seconds", what, took)
        return 0

    def on_raised(self, entry, error):
        """Report what an entry let out, save for the two exceptions that are to leave the loop."""
        # SAFETY: take() handed both references over; the local holds its own.
        runnable: Runnable = cython.cast(Runnable, entry.runnable)
        argument: object = None if entry.argument == cython.NULL else cython.cast(object, entry.argument)
        Py_DECREF(entry.runnable)
        Py_XDECREF(entry.argument)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        runnable.report(self, cython.cast(cython.pointer(PyObject), argument), error)
        return 0

    def stalled(self):
        """The callback before took too long, and has ended: report it, while what it leaves behind still shows."""
        verdict: object = ended(cython.address(self.watched), self)
        if verdict is not None:
            self.verdict = verdict
            self.is_stopping = True
        return 0

    def before_callback(self):
        """Called before code runs that is no task step; the task layer clears its current task here."""
        return 0

    def _set_debug(self, enabled) -> None:
        self.debug = enabled

    def _release(self) -> None:
        """The last link of the chain of ``close()``: no callback runs any more, and the driver closes."""
        self.closed = True
        self._drop_scheduled()
        self._driver.close()

    def _drop_scheduled(self) -> None:
        """Forget everything that was to run: the loop closes."""
        self.ring.clear()
        self.due.clear()
        self.timers.clear()


def check_callback(callback, method):
    if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}(): {callback!r}; wrap it in loop.create_task()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
