"""Runs jobs as tasks of this loop: the backend of ``weft.map`` without ``workers``, and the inside of every worker.

Invariant: a job is one task, so it has its own context and its own cancellation; when ``close`` returns, none is left.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from weft.parallel.jobs import Job, Reports

__all__ = ["Local", "is_async"]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calls of ``function`` are sure to give a coroutine; others may give something to await as well."""
    while isinstance(function, partial):
        function = function.func
    # Of an object that can be called, its class says it.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Local:
    """Runs up to ``concurrency`` jobs at once.

    Args:
        function: called with each item; what it returns is awaited if it can be.
        concurrency: how many at once.
    """

    reports: Reports

    def __init__(self, function: Callable[[Any], Any], concurrency: int) -> None:
        self.capacity = concurrency
        self._function = function
        self._run_one = self._run_async if is_async(function) else self._run_any
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._closing = False
        self._entered: Any = None

    async def start(self, remaining: Callable[[], int | None]) -> None:
        """Enters the function, where that is an async context manager."""
        self._create_task = asyncio.get_running_loop().create_task
        if hasattr(type(self._function), "__aenter__"):
            await self._function.__aenter__()  # type: ignore[attr-defined]  # just asked
            self._entered = self._function

    def room(self) -> int:
        return self.capacity - len(self._tasks)

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._tasks[job] = self._create_task(self._run_one(job))

    async def close(self, *, early: bool) -> None:
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        entered, self._entered = self._entered, None
        if entered is not None:
            await entered.__aexit__(None, None, None)

    async def _run_async(self, job: Job) -> None:
        try:
            value = await self._function(job.item)
        except BaseException as exc:
            self._fail(job, exc)
        else:
            del self._tasks[job]
            self.reports.finished(job, value)

    async def _run_any(self, job: Job) -> None:
        try:
            value = self._function(job.item)
            if hasattr(value, "__await__"):
                value = await value
        except BaseException as exc:
            self._fail(job, exc)
        else:
            del self._tasks[job]
            self.reports.finished(job, value)

    def _fail(self, job: Job, error: BaseException) -> None:
        del self._tasks[job]
        # An interrupt is the whole program's; a cancellation that we have not asked for is this item's failure.
        if isinstance(error, KeyboardInterrupt | SystemExit) or (
            self._closing and isinstance(error, asyncio.CancelledError)
        ):
            raise error
        self.reports.failed(job, error)
