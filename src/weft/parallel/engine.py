"""What ``weft.map`` promises, whatever the backend: order, retries, back-pressure, failures, an end without leftovers.

One task (``_run``) owns a run: it starts the backend, takes the items, and its ``finally`` is the only place where
anything is given back. Invariant: an item that was taken is either with the backend, or waits to be run again, or
stands in the line to the consumer; and there are never more than twice the backend's capacity of them. Called by
``map``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from inspect import isasyncgen, isgenerator
from operator import length_hint
from typing import Any

from weft.parallel.jobs import Backend, Job

__all__ = ["Engine"]


class Engine:
    """One run of ``weft.map``.

    Args:
        items: plain or async, however many.
        backend: runs the jobs.
        ordered: whether the results come in the order of the items, or as they finish.
        retries: how often an item that has failed is tried again.
        stops: whether the first failure ends the run.

    Attributes:
        total: how many items there are, where that is known.
        done: how many have succeeded.
        failed_count: how many have failed for good.
        first_failure: the first of these, where that ends the run.
        on_end: called when the run is over.
    """

    def __init__(
        self, items: Iterable[Any] | AsyncIterable[Any], backend: Backend, *, ordered: bool, retries: int, stops: bool
    ) -> None:
        self.done = self.failed_count = 0
        self.on_end: Callable[[], None] | None = None
        self.first_failure: Job | None = None
        self.stops = stops
        self._items = items
        self._backend = backend
        self._ordered = ordered
        self._retries = retries
        self.total = _how_many(items)
        self._taken = 0  # from the items
        self._held = 0  # of these, not yet handed to the consumer
        self._in_flight = 0  # of these, with the backend
        self._line: deque[Job] = deque()  # to the consumer: by item, or by end
        self._again: deque[Job] = deque()
        self._gathered: list[Job] = []  # from async items, and not yet with the backend
        self._feeder: asyncio.Future[None] | None = None  # while the run waits for room, or for the last job
        self._consumer: asyncio.Future[None] | None = None  # while somebody waits for a result
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._stopped = False  # by the consumer, who takes nothing more
        self._over = False
        self._error: BaseException | None = None  # why the run ended before its time
        backend.reports = self

    @property
    def started(self) -> bool:
        """Whether the run has begun."""
        return self._task is not None or self._over

    @property
    def over(self) -> bool:
        """Whether the run has ended and all has been given back."""
        return self._over

    def start(self) -> None:
        """Begins the run, on the loop that runs."""
        self.loop = asyncio.get_running_loop()
        self._task = self.loop.create_task(self._run(), name="weft-map")
        self._task.add_done_callback(self._on_over)

    # -- the consumer's side

    @property
    def ready(self) -> Job | None:
        """The next job that is done, if there is one."""
        return self._line[0] if self._line and self._line[0].done and not self._stopped else None

    def take(self) -> Job | None:
        """The same, which is the consumer's from now on."""
        line = self._line
        if not line or not line[0].done or self._stopped:
            return None
        self._held -= 1
        if (feeder := self._feeder) is not None and not feeder.done():
            feeder.set_result(None)
        return line.popleft()

    async def wait(self) -> bool:
        """Waits until ``take`` may have something, or the first failure is there; False when the run is over.

        Raises:
            RuntimeError: another task is waiting here.
            BaseException: what ended the run: an error of the items, or of the backend.
        """
        if self._over:
            if self._error is not None:
                raise self._error
            return False
        if self._consumer is not None:
            raise RuntimeError(
                "weft.map(): another task is waiting for the next result; give each task a map of its own"
            )
        self._consumer = self.loop.create_future()
        try:
            await self._consumer
        finally:
            self._consumer = None
        return True

    def stop(self) -> None:
        """Ends the run soon; for those who cannot wait."""
        self._closing = self._stopped = True
        if self._task is None:
            self._over = True
        else:
            self._task.cancel()

    async def aclose(self) -> None:
        """Ends the run, and waits until nothing is left of it, even when cancelled meanwhile."""
        self.stop()
        cancelled = None
        while self._task is not None and not self._task.done():
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError as exc:
                cancelled = exc
                self._task.cancel()  # whoever asks twice is in a hurry: processes are not waited for any more
        if cancelled is not None:
            raise cancelled

    # -- the backend's side

    def finished(self, job: Job, value: Any) -> None:
        """The function returned."""
        job.value = value
        self.done += 1
        self._end(job)

    def failed(self, job: Job, error: BaseException, *, final: bool = False) -> None:
        """The function raised; ``final``: trying again cannot help."""
        job.tries += 1
        if not final and job.tries <= self._retries:
            self.lost(job)
            return
        job.error = error
        self.failed_count += 1
        if self.stops and self.first_failure is None:
            self.first_failure = job
            self._wake_consumer()
        self._end(job)

    def lost(self, job: Job) -> None:
        """It has to be run again."""
        self._in_flight -= 1
        self._again.append(job)
        self.loop.call_soon(self._submit_again)

    def room(self) -> None:
        """There may be room for more."""
        if self._again:
            self._submit_again()
        self._wake_feeder()

    def broken(self, error: BaseException) -> None:
        """The backend cannot go on."""
        if self._error is None and not self._closing:
            self._error = error
        self._closing = True
        if self._task is not None:
            self._task.cancel()

    def _end(self, job: Job) -> None:
        job.done = True
        self._in_flight -= 1
        if not self._ordered:
            self._line.append(job)
            self._wake_consumer()
        elif self._line[0].done:
            self._wake_consumer()
        if self._again:
            self._submit_again()
        self._wake_feeder()

    def _submit_again(self) -> None:
        while self._again and not self._closing and (room := self._backend.room()) > 0:
            jobs = [self._again.popleft() for _ in range(min(room, len(self._again)))]
            self._in_flight += len(jobs)
            self._backend.submit(jobs)

    def _wake_consumer(self) -> None:
        if (consumer := self._consumer) is not None and not consumer.done():
            consumer.set_result(None)

    def _wake_feeder(self) -> None:
        if (feeder := self._feeder) is not None and not feeder.done():
            feeder.set_result(None)

    # -- the run

    async def _run(self) -> None:
        early = True
        try:
            if self.total != 0:
                await self._backend.start(self._remaining)
                await self._feed()
            early = False
        except asyncio.CancelledError:
            self._heed_cancel()
            if self._error is None and not self._closing:
                self._error = asyncio.CancelledError("the task of weft.map() was cancelled")
        except Exception as exc:
            self._error = self._error or exc
        finally:
            self._closing = True
            await self._give_back(early)

    def _heed_cancel(self) -> None:
        """A cancellation is how the run is told to end: it does, in order, and has swallowed nothing."""
        if self._task is not None:
            self._task.uncancel()

    def _on_over(self, task: asyncio.Task[None]) -> None:
        """The task has ended, or was cancelled before it began."""
        self._over = True
        if not task.cancelled():
            task.exception()  # an interrupt, which the loop has raised
        elif self._error is None and not self._closing:
            self._error = asyncio.CancelledError("the task of weft.map() was cancelled")
        self._wake_consumer()
        if self.on_end is not None:
            self.on_end()

    async def _give_back(self, early: bool) -> None:
        while True:
            try:
                await self._backend.close(early=early)
                await self._close_items()
                return
            except asyncio.CancelledError:  # once more, in a hurry
                self._heed_cancel()
                early = True
            except Exception as exc:
                self._error = self._error or exc
                return

    async def _close_items(self) -> None:
        items, self._items = self._items, ()
        if isasyncgen(items):
            await items.aclose()
        elif isgenerator(items) and not items.gi_running:
            items.close()

    async def _feed(self) -> None:
        error = None
        try:
            if isinstance(self._items, AsyncIterable):
                await self._feed_async(aiter(self._items))
            else:
                await self._feed_plain(iter(self._items))
        except Exception as exc:  # of the items: those that came before it are run
            error = exc
        self.total = self._taken
        while self._in_flight or self._again:
            await self._until_told()
        if error is not None:
            raise error

    async def _feed_plain(self, items: Iterator[Any]) -> None:
        while True:
            room = await self._until_room()
            jobs: list[Job] = []
            try:
                for item in items:
                    jobs.append(self._job(item))
                    if len(jobs) >= room:
                        break
                else:
                    return
            finally:  # what came before the items' end, or their failure, is run
                self._submit(jobs)

    async def _feed_async(self, items: AsyncIterator[Any]) -> None:
        """What comes without a pause goes to the backend together, when there is a pause or no more room."""
        while True:
            room = await self._until_room()
            if len(self._gathered) >= room:
                self._submit_gathered()
                continue
            try:
                item = await anext(items)
            except BaseException as exc:
                self._submit_gathered()
                if isinstance(exc, StopAsyncIteration):
                    return
                raise
            if not self._gathered:
                self.loop.call_soon(self._submit_gathered)
            self._gathered.append(self._job(item))

    def _submit_gathered(self) -> None:
        jobs, self._gathered = self._gathered, []
        if not self._closing:
            self._submit(jobs)

    def _job(self, item: Any) -> Job:
        job = Job(self._taken, item)
        self._taken += 1
        if self._ordered:
            self._line.append(job)
        return job

    def _submit(self, jobs: list[Job]) -> None:
        if jobs:
            self._held += len(jobs)
            self._in_flight += len(jobs)
            self._backend.submit(jobs)

    async def _until_room(self) -> int:
        while True:
            room = min(self._backend.room(), 2 * self._backend.capacity - self._held)
            if room > 0 and self.first_failure is None:
                return room
            await self._until_told()

    async def _until_told(self) -> None:
        self._feeder = self.loop.create_future()
        try:
            await self._feeder
        finally:
            self._feeder = None

    def _remaining(self) -> int | None:
        """How many items are still to come; None where nobody knows."""
        return None if self.total is None else max(self.total - self._taken, 0)


def _how_many(items: Any) -> int | None:
    """The number of items, where it is known; a hint is believed if it says that there are some."""
    if isinstance(items, Sized):
        return len(items)
    return None if isinstance(items, AsyncIterable) else length_hint(items, 0) or None
