"""How a run ends: by itself, or by SIGINT or SIGTERM; with every task and thread, or without those that resist.

``Shutdown`` is one loop's way down. The order: stop accepting, cancel the main task, cancel the others, then close what
is open. The one invariant: it ends. All of it has ``timeout`` seconds together; a thread of its own, which runs while
there is something to wait for, says every two seconds what resists, and gives up on it at the deadline, even where the
loop is blocked. ``weft.Runner`` uses it: ``install`` and ``restore`` around a run, ``wind_down`` before it closes.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from weft import versions
from weft.loop import EventLoop, troubles

if TYPE_CHECKING:
    from weft.loop.places import Place

__all__ = ["DEFAULT_TIMEOUT", "Shutdown", "timeout_from_environment"]

DEFAULT_TIMEOUT = 10.0
"""Seconds for the whole way down. Docker gives a container as many between SIGTERM and SIGKILL, Kubernetes 30."""

EVERY = 2.0
"""Seconds between two words about what resists."""

GRACE = 1.0
"""Seconds that connections, generators and threads have when the deadline has passed in waiting for tasks."""

GRACE_AT_ONCE = 0.1
"""The same after a second signal."""

LAST = 4 * GRACE
"""Seconds after the deadline in which all the rest has its grace, unless the loop is blocked."""

REACTION = 0.5
"""Seconds in which a loop that is told to stop does so, unless it is blocked."""

FORCED = 6
"""How often an exception is raised in the thread of a blocked loop before the process is ended without it."""

SIGNALS: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""The signals that end a run, each with the handler that says the program leaves it to us."""

EXIT_BASE = 128
"""What a shell adds to the number of the signal that has ended a process (POSIX.1-2017, XCU 2.8.2: more than 128)."""


def timeout_from_environment() -> float | None:
    """``WEFT_SHUTDOWN_TIMEOUT`` in seconds; None for "none", which waits for ever as asyncio does.

    Raises:
        ValueError: when it is neither a number from 0 on nor "none".
    """
    text = os.environ.get("WEFT_SHUTDOWN_TIMEOUT", "").strip().lower()
    if not text:
        return DEFAULT_TIMEOUT
    if text == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"WEFT_SHUTDOWN_TIMEOUT is {text!r}; it should be a number of seconds, or none")
    return seconds


class Shutdown:
    """The way down of one loop.

    Args:
        loop: a weft loop that is not closed.
        timeout: seconds from the signal, or from the end of the main task, until what resists is given up; None: never.
    """

    def __init__(self, loop: EventLoop, timeout: float | None) -> None:
        self.loop = loop
        self.main: asyncio.Future[Any] | None = None  # what the signal has cancelled
        self.signum = 0  # the first signal
        self.expired = False
        self._patience = math.inf if timeout is None else timeout
        self._began = self._deadline = math.inf  # moments of time.monotonic()
        self._hurried = self._is_forcing = self._was_told = self._noticed = False
        self._ident = threading.get_ident()  # of the thread that runs the loop
        # Released to wake the thread: of all ways to do so the one that a signal handler may interrupt anywhere.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._is_over = False
        self._is_watching = threading.Lock()
        self._is_watching.acquire()
        self._thread: threading.Thread | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._handler = self._on_signal  # one object, to be compared
        self._expiry: asyncio.Future[None] | None = None
        self._cleaning: list[asyncio.Task[Any]] = []
        self._what: Callable[[], list[str]] = self._tasks

    # -- signals -------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Take the signals that the program has not taken; in the main thread only, as Python has it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum, untouched in SIGNALS.items():
            if signal.getsignal(signum) is untouched:
                with suppress(ValueError):  # an interpreter that is embedded and leaves signals alone
                    self._handlers[signum] = signal.signal(signum, self._handler)
        if self._handlers:
            _installed.add(self)

    def restore(self) -> None:
        """Put back the handlers from before, where the program has not put in its own since."""
        for signum, before in self._handlers.items():
            if signal.getsignal(signum) is self._handler:
                signal.signal(signum, before)
        self._handlers.clear()
        _installed.discard(self)

    def error(self) -> BaseException:
        """What leaves the run: KeyboardInterrupt for SIGINT, as with asyncio, SystemExit(143) for SIGTERM."""
        self._was_told = True
        if self.signum == signal.SIGTERM:
            return SystemExit(EXIT_BASE + self.signum)
        error = KeyboardInterrupt()
        error.weft_signal = self.signum  # type: ignore[attr-defined]  # so that `weft run` knows that all is in order
        return error

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Python's handler: runs between two bytecodes of whatever the main thread does."""
        if self._is_forcing:
            raise self.error()
        elif self.signum:
            self._hurried = True
            self._ring()
        else:
            self.signum = signum
            self._begin()
            # Between two callbacks, not here: a task cancelled in the middle of one surprises it, as
            # `if not future.cancelled(): future.set_result(...)` would then raise.
            with suppress(RuntimeError):  # the loop is closed: the end is near
                self.loop.call_soon_threadsafe(self._react)

    def _ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def _react(self) -> None:
        """What a signal starts. Runs in the loop: at once, or when it runs the first time."""
        self._stop_accepting()
        main = self.loop._awaited
        if self.main is None and main is not None and self._expiry is None and main.cancel():
            self.main = self.loop._ending = main

    def _stop_accepting(self) -> None:
        for server in list(self.loop._servers):
            server.close()

    # -- the thread that watches ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None:
            self._began = time.monotonic()
            self._deadline = self._began + self._patience
            # A daemon, which can be started in a signal handler: it takes no lock of `threading`'s that is not its own.
            self._thread = threading.Thread(target=self._watch, name="weft-shutdown", daemon=True)
            self._thread.start()
            self._is_watching.acquire()  # so that it does not compete for the GIL while tasks clean up

    def end(self) -> None:
        """Watch no more."""
        self.restore()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._is_over = True
            self._ring()
            thread.join()

    def _watch(self) -> None:
        """Body of the thread: speak now and then, give up at the deadline, and force what does not notice that."""
        speak_at, force_at, forced = self._began + EVERY, math.inf, 0
        self._is_watching.release()
        while True:
            wake_at = min(speak_at, force_at, math.inf if self.expired else self._deadline)
            self._bell.acquire(timeout=min(max(0.0, wake_at - time.monotonic()), threading.TIMEOUT_MAX))
            if self._is_over:
                return
            now = time.monotonic()
            if self._hurried:
                self._deadline = min(self._deadline, now)
            if now >= self._deadline and not self.expired:
                self.expired = True
                force_at = now + REACTION
                with suppress(RuntimeError):  # the loop has just closed
                    self.loop.call_soon_threadsafe(self._expire)
            elif now >= force_at:
                force_at = now + REACTION
                if self._force(forced):
                    forced += 1
            elif now >= speak_at:
                speak_at += EVERY
                self._speak()

    def _speak(self) -> None:
        resisting = self._what()
        if resisting:
            seconds = time.monotonic() - self._began
            _leftovers().say(f"shutdown: after {seconds:.0f} s still running: {_leftovers().listed(resisting)}")

    def _expire(self) -> None:
        """The deadline has passed. Runs in the loop."""
        self._noticed = True
        if self._thread is None:
            return  # the run has ended meanwhile
        if self._expiry is None:
            self.loop.stop()  # out of the main task
        elif not self._expiry.done():
            self._expiry.set_result(None)

    def _force(self, times: int) -> bool:
        """Where the loop does not react, something blocks it: make the signal that came raise there."""
        handler = self._handlers.get(signal.Signals(self.signum)) if self.signum else None
        if handler is None or (self._noticed and time.monotonic() < self._deadline + LAST):
            return False
        if times > FORCED:
            place = _leftovers().places.of_thread(self._ident)
            _leftovers().say(
                f"shutdown: the loop is blocked at {place}, by a call that cannot be interrupted; ending the process"
            )
            os._exit(EXIT_BASE + self.signum)
        self._is_forcing = True
        signal.pthread_kill(self._ident, self.signum)
        return True

    # -- what resists --------------------------------------------------------------------------------------------------

    def _tasks(self) -> list[str]:
        """The tasks that are left and where they stand; where the loop is blocked, by what. From any thread."""
        resisting = []
        for task in _leftovers().all_tasks(self.loop):
            if task.get_name() != WIND_DOWN:
                resisting.append(f"task {task.get_name()!r} at {self._place_of(task)}")
        return resisting

    def _place_of(self, task: asyncio.Task[Any]) -> Place:
        coroutine = task.get_coro()
        running = getattr(coroutine, "cr_running", False)
        places = _leftovers().places
        place: Place = places.of_thread(self._ident) if running else places.of_coroutine(coroutine)
        return place

    def _threads(self) -> list[str]:
        return [
            f"thread {thread.name!r} at {place}"
            for thread, place in _leftovers().busy_threads(self.loop._default_executor)
        ]

    # -- the way down --------------------------------------------------------------------------------------------------

    def stopped_main(self) -> bool:
        """Whether the deadline has stopped the loop before the main task was done."""
        return self.expired and self.main is not None and not self.main.done()

    def wind_down(self) -> None:
        """End everything that the loop still has; afterwards nothing of it is pending, and it can be closed.

        Raises:
            KeyboardInterrupt, SystemExit: a signal came meanwhile, or a task let one out.
        """
        loop = self.loop
        told_before = self._was_told
        try:
            if asyncio.all_tasks(loop) or loop._asyncgens or loop._default_executor is not None or self.signum:
                self.install()
                self._expiry = loop.create_future()
                self._begin()
                if self.expired:
                    self._expiry.set_result(None)
                closing = loop.create_task(self._close_all(self._cancel_tasks()), name=WIND_DOWN)
                while not closing.done():
                    self._run_on(closing)
            else:  # nothing to wait for; but a few turns, as with asyncio, in which transports that were closed can end
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            self.end()
            for task in asyncio.all_tasks(loop):  # an exception has left the loop: nothing of theirs runs any more
                _leftovers().let_go(task, _leftovers().awaited_by(task.get_coro()))
        if self.signum and not told_before and self.main is None and not self._was_told:
            raise self.error()

    def _run_on(self, closing: asyncio.Task[None]) -> None:
        """Run the loop until all is closed, or somebody stops it: what ended the main task may do that late."""
        try:
            self.loop.run_until_complete(closing)
        except RuntimeError:
            if closing.done():
                raise

    async def _close_all(self, cancelled: list[asyncio.Task[Any]]) -> None:
        await self._wait_for_tasks(cancelled)
        if self.signum or self.expired:
            await self._close_connections()
        await self._close_generators()
        await self._close_executor()
        _leftovers().abandon([task for task in _leftovers().all_tasks(self.loop) if task is not asyncio.current_task()])

    def _cancel_tasks(self) -> list[asyncio.Task[Any]]:
        """Cancel all that is left, before any of it takes another step, as asyncio does."""
        loop = self.loop
        loop.call_exception_handler = self._report  # type: ignore[method-assign]
        loop._task_observer = None  # what is cancelled now has done what it should when it ends, however it does
        tasks: list[asyncio.Task[Any]] = _leftovers().all_tasks(loop)
        # Who cleans up after a cancellation by somebody else is not interrupted in that at once, as asyncio does.
        self._cleaning = [task for task in tasks if troubles.handles_cancel(task.get_coro())]
        for task in tasks:
            if task not in self._cleaning:
                task.cancel()
        return tasks

    async def _wait_for_tasks(self, tasks: list[asyncio.Task[Any]]) -> None:
        loop, expiry = self.loop, self._expiry
        assert expiry is not None
        again = loop.call_later(0 if expiry.done() else GRACE, _cancel_all, self._cleaning)
        pending: set[asyncio.Future[Any]] = set(tasks)
        if pending and expiry.done():  # the main task has used the time up: these hear of it only now
            _, pending = await asyncio.wait(pending, timeout=self._seconds_left())
        while pending and not expiry.done():
            _, pending = await asyncio.wait({*pending, expiry}, return_when=asyncio.FIRST_COMPLETED)
            pending.discard(expiry)
        again.cancel()
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception during asyncio.run() shutdown",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
        self._give_up_on([task for task in tasks if not task.done()])

    def _report(self, context: dict[str, Any]) -> None:
        """In place of the loop's ``call_exception_handler``: that something was cancelled is no error here.

        Up to 3.11 ``asyncio.start_server`` lets it out of a done callback for each connection.
        """
        if not isinstance(context.get("exception"), asyncio.CancelledError):
            type(self.loop).call_exception_handler(self.loop, context)

    def _give_up_on(self, tasks: list[asyncio.Task[Any]]) -> None:
        if not tasks:
            return
        after = f"after {time.monotonic() - self._began:.0f} s"
        lines = []
        for task in tasks:
            place = self._place_of(task)
            lines.append(f"task {task.get_name()!r} at {place}")
            troubles.found("resisted", "resisted shutdown", place, f"{lines[-1]} was given up {after}")
        if not self._hurried:  # who has asked for it twice need not be told what was cut off
            _leftovers().say(f"shutdown: gave up {after} on {_leftovers().listed(lines)}")

    def _seconds_left(self) -> float:
        grace = GRACE_AT_ONCE if self._hurried else GRACE
        return max(self._deadline - time.monotonic(), grace)

    async def _close_connections(self) -> None:
        """Close what is open, let what was written leave, and end child processes."""
        self._stop_accepting()
        children = [child for child in list(self.loop._children) if child.get_returncode() is None]
        for child in children:
            child.close()
        for transport in _leftovers().transports(self.loop):
            transport.close()
        until = time.monotonic() + self._seconds_left()
        if children:
            await self._within(asyncio.wait([asyncio.ensure_future(child._wait()) for child in children]))
        while (left := _leftovers().transports(self.loop)) and time.monotonic() < until and not self._hurried:
            await asyncio.sleep(0.01)
        for transport in left:
            with suppress(AttributeError):  # a pipe that is read has nothing to lose
                transport.abort()
        await asyncio.sleep(0)  # connection_lost() is called in the next turn

    async def _close_generators(self) -> None:
        if not await self._within(self.loop.shutdown_asyncgens()):
            _leftovers().say("shutdown: gave up on closing asynchronous generators")

    async def _close_executor(self) -> None:
        executor = self.loop._default_executor
        if executor is None:
            return
        self._what = self._threads
        if await self._within(self.loop.shutdown_default_executor()):
            return
        self.loop._default_executor = None
        executor.shutdown(wait=False, cancel_futures=True)
        lines = []
        for thread in list(getattr(executor, "_threads", ())):
            versions.let_go_of_thread(thread)
        for thread, place in _leftovers().busy_threads(executor):
            lines.append(f"thread {thread.name!r} at {place}")
            message = f"{lines[-1]} was left behind after {time.monotonic() - self._began:.0f} s"
            troubles.found("resisted", "thread that does not return", place, message)
        if lines and not self._hurried:
            _leftovers().say(f"shutdown: left behind {_leftovers().listed(lines)}")

    async def _within(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Whether ``work`` came to its end before the deadline, or its grace; it is cancelled if not."""
        task = asyncio.ensure_future(work)
        expiry = self._expiry
        assert expiry is not None
        if not expiry.done():
            await asyncio.wait({task, expiry}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=self._seconds_left())
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_AT_ONCE)
        return False


# -- forks: a child is to die of the signals as it would without us, also of one that comes while it is being made

_installed: set[Shutdown] = set()
_masks: dict[int, set[int]] = {}  # by thread


def _before_fork() -> None:
    if _installed:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    for shutdown in list(_installed):
        shutdown.restore()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _cancel_all(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


def _leftovers() -> Any:
    """The module ``weft.leftovers``, which most runs end without."""
    from weft import leftovers

    return leftovers


WIND_DOWN = "weft-shutdown"
"""The name of the task that closes everything else."""
