"""What backends share that hand lists of items to somebody else's pool, and hear of a list when all of it is done.

Invariant: a job is in one batch under way, or has been reported. Base of ``executors`` and ``cluster``; ``run_batch``
is what runs on the other side, in a thread, a process or a cluster.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from weft.parallel.jobs import Job, Reports
from weft.parallel.pace import Pace

__all__ = ["Batches", "Outcome", "run_batch"]

#: For each item whether it succeeded, and its value or exception; and the seconds that all took together.
Outcome = tuple[list[tuple[bool, Any]], float]


def run_batch(function: Callable[[Any], Any], items: Sequence[Any]) -> Outcome:
    """Calls a plain function with one item after another."""
    began, results = perf_counter(), []
    for item in items:
        try:
            value = function(item)
            if hasattr(value, "__await__"):
                close = getattr(value, "close", None)
                if close is not None:
                    close()
                raise TypeError(
                    f"{function!r} gave {value!r}, which only a loop can wait for: use workers=None or a number"
                )
            results.append((True, value))
        except Exception as exc:
            exc.add_note("".join(traceback.format_exception(exc)).rstrip())  # the traceback is not pickled
            results.append((False, exc))
    return results, perf_counter() - began


class Batches:
    """Runs jobs in batches.

    Args:
        limit: how many batches may be under way.
        ahead: seconds of work that a batch should be, where items are short.
    """

    reports: Reports

    def __init__(self, limit: int, ahead: float) -> None:
        self.limit = limit
        self._pace = Pace(ahead)
        self._under_way: dict[asyncio.Future[Outcome], list[Job]] = {}
        self._closing = False
        self._remaining: Callable[[], int | None] = lambda: None

    @property
    def capacity(self) -> int:
        """How many jobs are under way at most."""
        return self.limit * self._size()

    async def start(self, remaining: Callable[[], int | None]) -> None:
        self._remaining = remaining

    def room(self) -> int:
        return max(self.limit - len(self._under_way), 0) * self._size()

    def submit(self, jobs: Sequence[Job]) -> None:
        size = self._size()
        shared = [job for job in jobs if not job.alone]
        batches = [shared[place : place + size] for place in range(0, len(shared), size)]
        batches += [[job] for job in jobs if job.alone]
        for batch in batches:
            try:
                future = self._send(batch)
            except Exception as exc:  # the executor was shut down
                self._lose(batch)
                self.reports.broken(exc)
                return
            self._under_way[future] = batch
            future.add_done_callback(self._on_done)

    async def close(self, *, early: bool) -> None:
        in_a_hurry, self._closing = self._closing, True
        for future in list(self._under_way):
            future.cancel()
        await self._close(early=early, in_a_hurry=in_a_hurry)

    def _send(self, batch: list[Job]) -> asyncio.Future[Outcome]:
        raise NotImplementedError

    async def _close(self, *, early: bool, in_a_hurry: bool) -> None:
        raise NotImplementedError

    def _batch_failed(self, batch: list[Job], error: BaseException) -> None:
        """The batch as such has failed, by one of its items or for another reason."""
        if len(batch) == 1:
            self.reports.failed(batch[0], error, final=True)
            return
        for job in batch:
            job.alone = True
        self._lose(batch)

    def _least(self) -> int:
        """How many jobs a batch has where nothing was measured."""
        return 1

    def _size(self) -> int:
        size = max(self._least(), self._pace.items)
        remaining = self._remaining()
        if remaining:
            size = min(size, -(-remaining // (2 * self.limit)))
        return max(size, 1)

    def _lose(self, batch: list[Job]) -> None:
        for job in batch:
            self.reports.lost(job)

    def _on_done(self, future: asyncio.Future[Outcome]) -> None:
        batch = self._under_way.pop(future)
        if self._closing:
            if not future.cancelled():
                future.exception()
            return
        if future.cancelled():
            self.reports.broken(RuntimeError("weft.map(): somebody else has cancelled what was under way"))
        elif (error := future.exception()) is not None:
            self._batch_failed(batch, error)
        else:
            results, seconds = future.result()
            self._pace.report(len(batch), seconds)
            for job, (good, value) in zip(batch, results, strict=True):
                if good:
                    self.reports.finished(job, value)
                else:
                    self.reports.failed(job, value)
        self.reports.room()
