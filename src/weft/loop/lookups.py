"""The threads that look names up.

They are not the default executor's: a slow resolver must not hold up ``run_in_executor`` users, nor they it
(https://github.com/python/cpython/issues/112169). The invariant: a thread that is idle holds neither pool nor loop.
``Names`` makes the pool when the first name has to be looked up, and shuts it down with the loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

__all__ = ["LookupPool"]

_Job: TypeAlias = tuple[asyncio.AbstractEventLoop, Callable[[], Any], Callable[[Any, BaseException | None], None]]
_R = TypeVar("_R")

MAX_LOOKUPS = 8
"""Lookups at a time. They wait for the network, not for a processor, so this does not follow the number of cores."""

JOIN_SECONDS = 1.0
"""How long ``shutdown`` waits for a thread that has nothing left to do but end."""


class LookupPool:
    """A few daemon threads that run blocking calls for one loop.

    Not a ``ThreadPoolExecutor``: the interpreter joins that one's threads at exit, so a resolver that hangs would keep
    the process from ending. Threads start when a call finds all others busy, and live until ``shutdown``. Everything
    here is called from the loop's thread, except ``_work``.
    """

    def __init__(self, limit: int = MAX_LOOKUPS) -> None:
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0

    def submit(self, loop: asyncio.AbstractEventLoop, function: Callable[[], _R]) -> asyncio.Future[_R]:
        """Run ``function()`` in a thread; the future gets what it returns or raises, unless cancelled before."""
        if self._outstanding >= len(self._threads) < self._limit:
            self._start_thread()
        future: asyncio.Future[_R] = loop.create_future()
        self._jobs.put((loop, _unless_cancelled(future, function), partial(self._deliver, future)))
        self._outstanding += 1
        return future

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._work, args=(self._jobs,), name=f"weft-dns_{len(self._threads)}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return  # no more threads to be had: those at work take this job too
        self._threads.append(thread)

    def _deliver(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._outstanding -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def shutdown(self) -> None:
        """Let idle threads end and wait for them; leave a busy one to end by itself, unheard."""
        while True:
            try:
                self._jobs.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._jobs.put(None)
        if not self._outstanding:
            for thread in self._threads:
                thread.join(JOIN_SECONDS)

    @staticmethod
    def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
        """Body of a thread. Holds neither pool nor loop while it is idle: both can be collected."""
        while (job := jobs.get()) is not None:
            loop, function, deliver = job
            result, error = None, None
            try:
                result = function()
            except BaseException as exc:  # it belongs to whoever awaits the lookup
                error = exc
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(deliver, result, error)
            del job, loop, function, deliver, result, error


def _unless_cancelled(future: asyncio.Future[Any], function: Callable[[], _R]) -> Callable[[], _R | None]:
    """Drop a call whose caller has gone before a thread came to it."""
    return lambda: None if future.cancelled() else function()
