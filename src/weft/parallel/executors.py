"""Runs jobs in threads, subinterpreters, or any ``concurrent.futures.Executor``.

Invariant: an executor that was given stays open; one that was made here is shut down, and its threads have ended,
when the run is over. A call that a thread has begun cannot be stopped: a run that ends early waits for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
from collections.abc import Callable
from typing import Any

from weft import versions
from weft.errors import WorkerError
from weft.parallel.batches import Batches, Outcome, run_batch
from weft.parallel.jobs import Job
from weft.parallel.local import is_async

__all__ = ["Pooled", "executor_backend", "interpreter_pool"]

AHEAD = 0.005  # seconds of work in a batch: handing it over takes some 50 µs

Executor = concurrent.futures.Executor


def executor_backend(function: Callable[[Any], Any], workers: str | Executor, concurrency: int) -> Pooled:
    """The backend for ``workers``.

    Raises:
        TypeError: the function is async.
        WorkerError: this Python has no pools of interpreters.
    """
    if is_async(function):
        raise TypeError(
            f"weft.map(): {function!r} is async, and workers={workers!r} is for plain functions; a number is "
            "so many processes with a loop each, and without workers all run on this loop"
        )
    if isinstance(workers, Executor):
        return Pooled(function, workers, concurrency, owned=False)
    if workers == "threads":
        pool = concurrent.futures.ThreadPoolExecutor(concurrency, thread_name_prefix="weft-map")
        return Pooled(function, pool, concurrency)
    cores = min(concurrency, len(os.sched_getaffinity(0)))
    return Pooled(function, interpreter_pool(cores), 2 * cores, batches=False)


def interpreter_pool(count: int) -> Executor:
    """A pool of subinterpreters.

    Raises:
        WorkerError: this Python has none.
    """
    if not versions.INTERPRETER_POOLS:
        raise WorkerError("subinterpreters need Python 3.14 or newer; processes and threads do as much here")
    pool: Executor = concurrent.futures.InterpreterPoolExecutor(count)  # type: ignore[attr-defined]  # from 3.14 on
    return pool


class Pooled(Batches):
    """Runs jobs in an executor.

    Args:
        function: a plain one.
        executor: where it is called.
        limit: how many batches may be under way.
        owned: whether the executor is to be shut down.
        batches: False where weft cannot be imported: items go one by one.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        executor: Executor,
        limit: int,
        *,
        owned: bool = True,
        batches: bool = True,
    ) -> None:
        super().__init__(limit, AHEAD if batches else 0.0)
        self._function = function
        self._executor = executor
        self._owned = owned
        self._batches = batches

    async def start(self, remaining: Callable[[], int | None]) -> None:
        await super().start(remaining)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()

    def _send(self, batch: list[Job]) -> asyncio.Future[Outcome]:
        items = [job.item for job in batch]
        if not self._batches:
            return asyncio.ensure_future(self._one(items[0]))
        if isinstance(self._executor, concurrent.futures.ThreadPoolExecutor):
            context = self._context.copy()  # one that is entered cannot be entered again
            return self._loop.run_in_executor(self._executor, context.run, run_batch, self._function, items)
        return self._loop.run_in_executor(self._executor, run_batch, self._function, items)

    async def _one(self, item: Any) -> Outcome:
        try:
            return [(True, await self._loop.run_in_executor(self._executor, self._function, item))], 1.0
        except Exception as exc:
            return [(False, exc)], 1.0

    async def _close(self, *, early: bool, in_a_hurry: bool) -> None:
        if not self._owned:
            return
        self._executor.shutdown(wait=False, cancel_futures=True)
        if not in_a_hurry:
            # The waiting is done by a thread of the loop's own pool, as only a thread can wait for threads.
            await asyncio.to_thread(self._executor.shutdown, wait=True)

    def _batch_failed(self, batch: list[Job], error: BaseException) -> None:
        if isinstance(error, concurrent.futures.BrokenExecutor):
            self._lose(batch)
            self.reports.broken(error)
        else:
            super()._batch_failed(batch, error)
