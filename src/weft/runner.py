"""Running a program: ``run``, ``Runner``, and the two ways to make weft the loop of code that asks asyncio for one."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from asyncio import runners
from collections.abc import Callable, Coroutine
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

from weft import versions
from weft.errors import LoopRunningError
from weft.loop import EventLoop

if TYPE_CHECKING:
    import contextvars

    from weft.shutdown import Shutdown

__all__ = ["Runner", "install", "new_event_loop", "run"]

T = TypeVar("T")


def new_event_loop() -> EventLoop:
    """A new, open event loop; for ``asyncio.Runner(loop_factory=weft.new_event_loop)`` and its like.

    Raises:
        OSError: when the process has no two file descriptors left.
    """
    return EventLoop()


class Runner(asyncio.Runner):  # type: ignore[misc]  # final in typeshed alone: Python lets it be derived from
    """:class:`asyncio.Runner` on a weft loop, whose end comes: by itself, by SIGINT and by SIGTERM.

    Args:
        debug: asyncio's debug mode; None leaves it to ``PYTHONASYNCIODEBUG``.
        loop_factory: makes the loop; :func:`new_event_loop` by default. On a loop that is not weft's this is
            :class:`asyncio.Runner`.
        stall_threshold: as for :class:`EventLoop`; for a loop of weft's.
        shutdown_timeout: seconds for the end of a run, after which what resists is given up; None waits for ever, as
            asyncio does. By default ``WEFT_SHUTDOWN_TIMEOUT``, or 10.

    Raises:
        ValueError: when ``shutdown_timeout`` is less than 0.
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
        stall_threshold: float | EllipsisType | None = ...,
        shutdown_timeout: float | EllipsisType | None = ...,
    ) -> None:
        def watched_loop() -> asyncio.AbstractEventLoop:
            loop = loop_factory()
            try:
                loop.stall_threshold = stall_threshold  # type: ignore[attr-defined]
            except BaseException:
                loop.close()
                raise
            return loop

        is_given = not isinstance(stall_threshold, EllipsisType)
        super().__init__(debug=debug, loop_factory=watched_loop if is_given else loop_factory)
        if not (isinstance(shutdown_timeout, EllipsisType) or shutdown_timeout is None or shutdown_timeout >= 0):
            raise ValueError(f"shutdown_timeout is {shutdown_timeout!r}; it should be seconds from 0 on, or None")
        self._shutdown_timeout = shutdown_timeout
        self._shutdown: Shutdown | None = None

    def _new_shutdown(self, loop: EventLoop) -> Shutdown:
        from weft.shutdown import Shutdown, timeout_from_environment  # here: see the note in weft.loop

        if self._shutdown is not None:
            self._shutdown.end()
        timeout = self._shutdown_timeout
        return Shutdown(loop, timeout_from_environment() if isinstance(timeout, EllipsisType) else timeout)

    def run(self, coro: Coroutine[Any, Any, T], *, context: contextvars.Context | None = None) -> T:
        """Run a coroutine in the runner's loop; see :meth:`asyncio.Runner.run`.

        SIGINT and SIGTERM, where the program has no handlers for them, end the run: servers stop listening, and the
        main task is cancelled.

        Raises:
            KeyboardInterrupt: SIGINT has ended the run.
            SystemExit: with status 143: SIGTERM has.
        """
        loop = self.get_loop()
        if not isinstance(loop, EventLoop) or asyncio._get_running_loop() is not None:
            return super().run(coro, context=context)
        shutdown = self._shutdown = self._new_shutdown(loop)
        shutdown.install()
        try:
            return super().run(coro, context=context)
        except asyncio.CancelledError:
            if isinstance(shutdown.main, asyncio.Task) and shutdown.main.uncancel() == 0:
                raise shutdown.error()  # noqa: B904 - as asyncio does: the traceback says where it was cancelled
            raise
        except RuntimeError:
            if shutdown.stopped_main():
                raise shutdown.error() from None
            raise
        finally:
            if not shutdown.signum:  # else the handlers stay until close(), for a second signal
                shutdown.restore()

    def close(self) -> None:
        """End what is left in the loop, and close it; see :meth:`asyncio.Runner.close`."""
        loop: Any = self._loop  # type: ignore[has-type]  # typeshed hides what is private
        if not isinstance(loop, EventLoop):
            super().close()
            return
        shutdown = self._shutdown or self._new_shutdown(loop)
        try:
            shutdown.wind_down()
        finally:
            if self._set_event_loop:  # type: ignore[attr-defined]
                asyncio.set_event_loop(None)
            loop.close()
            self._loop = None
            self._state = runners._State.CLOSED  # type: ignore[attr-defined]


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    accelerate: bool = False,
    stall_threshold: float | EllipsisType | None = ...,
    shutdown_timeout: float | EllipsisType | None = ...,
) -> T:
    """Run the coroutine ``main`` on a new weft loop, clean up, and return its result: :func:`asyncio.run`, faster.

    Remaining tasks are cancelled, asynchronous generators and the default executor shut down, and the loop is closed.
    Ctrl-C and SIGTERM cancel the main task.

    Args:
        main: a coroutine (an ``async def`` function that was called).
        debug: asyncio's debug mode; None leaves it to ``PYTHONASYNCIODEBUG``.
        accelerate: put weft's queues, locks, ``sleep`` and their like in the place of asyncio's meanwhile; see
            :func:`weft.accelerate`.
        stall_threshold: how long a callback may block the loop, in seconds, before ``weft.watch`` reports it; None
            turns the watch off. By default ``WEFT_STALL_THRESHOLD`` in the environment (``off`` for None), or 0.1.
        shutdown_timeout: seconds for the end of the run, after which what resists is given up; see :class:`Runner`.

    Raises:
        RuntimeError: when a loop is running in this thread.
        ValueError: when ``main`` is not a coroutine.
        KeyboardInterrupt: SIGINT has ended the run.
        SystemExit: with status 143: SIGTERM has.
    """
    if asyncio._get_running_loop() is not None:
        if asyncio.iscoroutine(main):
            main.close()
        raise LoopRunningError("weft.run() cannot be called from a running event loop")
    replaced = _accelerated() if accelerate else contextlib.nullcontext()
    with replaced, Runner(debug=debug, stall_threshold=stall_threshold, shutdown_timeout=shutdown_timeout) as runner:
        return runner.run(main)


def _accelerated() -> contextlib.AbstractContextManager[object]:
    from weft.acceleration import accelerate

    return accelerate()


def install() -> None:
    """Make weft the loop of every ``asyncio.run()`` and ``asyncio.new_event_loop()`` from now on, through a policy.

    Policies are deprecated from Python 3.14 on and go in 3.16: prefer :func:`run`, ``weft run``, or a ``loop_factory``.

    Raises:
        RuntimeError: where Python has no event-loop policies any more.
    """
    if versions.POLICIES_GONE:
        raise RuntimeError(
            "this Python has no event-loop policies; use weft.run(), `weft run`, or loop_factory=weft.new_event_loop"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class WeftPolicy(asyncio.DefaultEventLoopPolicy):
            """asyncio's policy, with weft's loops."""

            def new_event_loop(self) -> EventLoop:
                return new_event_loop()

        asyncio.set_event_loop_policy(WeftPolicy())
