"""What a loop still has when it is to end, in words and by name; and letting go of what does not end.

Transports, the threads of the executor, the tasks and what they wait for. The one invariant: what was let go of makes
no noise, neither now nor at the end of the process. ``weft.shutdown`` decides when.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import functools
import inspect
import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from weft import versions
from weft.loop import EventLoop, places

__all__ = ["abandon", "all_tasks", "awaited_by", "busy_threads", "let_go", "listed", "say", "transports"]

logger = logging.getLogger("weft.shutdown")

SHOWN = 10
"""How many tasks and threads a line names."""

LOCK_SECONDS = 0.5
"""How long a line waits for the lock of a log handler."""


def all_tasks(loop: EventLoop) -> list[asyncio.Task[Any]]:
    """The unfinished tasks of a loop, by name."""
    return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())


def listed(names: Iterable[str]) -> str:
    """Names for one line."""
    words = list(names)
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return "; ".join(words[:SHOWN]) + more


def say(text: str) -> None:
    """Log a warning; the last resort of ``logging`` shows it on stderr where nothing is set up.

    The thread that is blocked may hold the lock of a handler: then the line goes to stderr without it.
    """
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if handler.lock is not None:
                if not handler.lock.acquire(timeout=LOCK_SECONDS):
                    os.write(2, f"{text}\n".encode(errors="replace"))
                    return
                handler.lock.release()
        current = current.parent if current.propagate else None
    logger.warning("%s", text)


def transports(loop: EventLoop) -> list[Any]:
    """The transports of the loop that own a descriptor; of a TLS connection the one that the program has."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        transport: Any = loop._transport_of(int(name))
        if transport is not None:
            found.append(getattr(transport.get_protocol(), "_app_transport", None) or transport)
    return found


def busy_threads(executor: Any) -> list[tuple[threading.Thread, places.Place]]:
    """The threads of an executor that run a call, each with the program's own line that it is in, or what it calls."""
    busy = []
    frames = sys._current_frames()
    for thread in list(getattr(executor, "_threads", ())):
        innermost = frame = frames.get(thread.ident)
        while frame is not None and frame.f_code is not _RUN:
            frame = frame.f_back
        if frame is None:
            continue  # idle, or no thread of Python's own pool
        place = places.of_frame(innermost)
        if not places.is_own(place.file):
            place = place._replace(function=_called(frame.f_locals.get("self")))
        busy.append((thread, place))
    return busy


_RUN = concurrent.futures.thread._WorkItem.run.__code__
"""What every call of an executor's thread runs in."""


def _called(item: Any) -> str:
    """The name of what an executor was given to call, without what ``asyncio.to_thread`` puts around it."""
    function = getattr(item, "fn", None) or (getattr(item, "task", None) or [None])[0]  # up to 3.13; later
    while isinstance(function, functools.partial):
        function = next(iter(function.args), function.func)
    return getattr(function, "__qualname__", None) or repr(function)


def abandon(tasks: list[asyncio.Task[Any]]) -> None:
    """Let go of tasks that did not end: their ``finally`` blocks run up to their next ``await``.

    In the loop: where asyncio's functions find none, they raise, and a coroutine that resists everything would spin.
    """
    for task in tasks:
        coroutine: Any = task.get_coro()
        awaited = awaited_by(coroutine)
        try:
            coroutine.close()
        except RuntimeError:
            pass  # it awaits in spite of GeneratorExit
        except BaseException as error:
            logger.warning("shutdown: %r in the last steps of task %r", error, task.get_name())
        let_go(task, awaited)


def let_go(task: asyncio.Task[Any], awaited: list[Any]) -> None:
    """Make asyncio forget a task, whose coroutine and those that it ``awaited`` are never to run again."""
    if isinstance(task, asyncio.Future):
        asyncio.Future.cancel(task)  # past Task.cancel(), which asks the coroutine: for asyncio the task is done
    for coroutine in awaited:
        if coroutine.cr_frame is not None:
            versions.keep_for_ever(coroutine)  # what is left in it would run, and complain, when it is destroyed


def awaited_by(coroutine: Any) -> list[Any]:
    """A coroutine, and those that it waits for."""
    found: list[Any] = []
    while inspect.iscoroutine(coroutine) and len(found) < places.MAX_DEPTH:
        found.append(coroutine)
        coroutine = coroutine.cr_await
    return found
