"""Running a program: ``run``, ``Runner``, and the two ways to make weft the loop of code that asks asyncio for one."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Coroutine
from types import EllipsisType
from typing import Any, TypeVar

from weft import versions
from weft.errors import LoopRunningError
from weft.loop import EventLoop

__all__ = ["Runner", "install", "new_event_loop", "run"]

T = TypeVar("T")


def new_event_loop() -> EventLoop:
    """A new, open event loop; for ``asyncio.Runner(loop_factory=weft.new_event_loop)`` and its like.

    Raises:
        OSError: when the process has no two file descriptors left.
    """
    return EventLoop()


class Runner(asyncio.Runner):  # type: ignore[misc]  # final in typeshed alone: Python lets it be derived from
    """:class:`asyncio.Runner` on a weft loop.

    Args:
        debug: asyncio's debug mode; None leaves it to ``PYTHONASYNCIODEBUG``.
        loop_factory: makes the loop; :func:`new_event_loop` by default.
        stall_threshold: as for :class:`EventLoop`; for a loop of weft's.
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
        stall_threshold: float | EllipsisType | None = ...,
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


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    accelerate: bool = False,
    stall_threshold: float | EllipsisType | None = ...,
) -> T:
    """Run the coroutine ``main`` on a new weft loop, clean up, and return its result: :func:`asyncio.run`, faster.

    Remaining tasks are cancelled, asynchronous generators and the default executor shut down, and the loop is closed.
    Ctrl-C cancels the main task.

    Args:
        main: a coroutine (an ``async def`` function that was called).
        debug: asyncio's debug mode; None leaves it to ``PYTHONASYNCIODEBUG``.
        accelerate: put weft's queues, locks, ``sleep`` and their like in the place of asyncio's meanwhile; see
            :func:`weft.accelerate`.
        stall_threshold: how long a callback may block the loop, in seconds, before ``weft.watch`` reports it; None
            turns the watch off. By default ``WEFT_STALL_THRESHOLD`` in the environment (``off`` for None), or 0.1.

    Raises:
        RuntimeError: when a loop is running in this thread.
        ValueError: when ``main`` is not a coroutine.
    """
    if asyncio._get_running_loop() is not None:
        if asyncio.iscoroutine(main):
            main.close()
        raise LoopRunningError("weft.run() cannot be called from a running event loop")
    replaced = _accelerated() if accelerate else contextlib.nullcontext()
    with replaced, Runner(debug=debug, stall_threshold=stall_threshold) as runner:
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
