"""Keeps so many requests under way at once: workers that take an item from the feed, fetch it, and put its result away.

Invariant: there are never more tasks than workers, whatever the number of URLs, and a result that ``fetch`` has given
is with every writer before anything else can happen, so that no interrupt loses it. Called by ``run``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from weft.cli.fetch.model import Item, Refused, Result, SinkError
from weft.cli.fetch.rate import TokenBucket
from weft.cli.fetch.sinks.writer import Writer
from weft.cli.fetch.source import Source
from weft.cli.fetch.stats import Stats

__all__ = ["Engine", "Feed"]


class Feed:
    """Gives items one at a time, not faster than the rate allows, and without those that are done.

    Args:
        source: where they come from.
        stats: counts those that are skipped.
        rate: items per second, or None.
        known_by: what is done in all of these is skipped.
    """

    def __init__(
        self, source: Source, stats: Stats, *, rate: float | None = None, known_by: Sequence[Writer] = ()
    ) -> None:
        self._source = source
        self._stats = stats
        self._bucket = TokenBucket(rate) if rate is not None else None
        self._known_by = known_by
        self._ready: deque[Item] = deque()
        self._ended = False
        self._filled: asyncio.Event | None = None  # while somebody takes a batch from the source

    async def next(self) -> Item | None:
        """The next item; None at the end.

        Raises:
            Refused: when the URLs cannot be read any more.
            SinkError: when what is done cannot be read any more.
        """
        while not self._ready:
            if self._ended:
                return None
            if self._filled is None:
                await self._fill()
            else:
                await self._filled.wait()
        item = self._ready.popleft()
        # After the item: at the end of the source nobody waits for a place in time for nothing.
        if self._bucket is not None and (delay := self._bucket.reserve()) > 0:
            await asyncio.sleep(delay)
        return item

    async def _fill(self) -> None:
        """Takes a batch from the source, while the others wait; then they all go on at once."""
        filled = self._filled = asyncio.Event()
        try:
            await self._take_batch()
        finally:
            self._filled = None
            filled.set()

    async def _take_batch(self) -> None:
        items = await self._source.batch()
        self._ended = not items
        if self._known_by and items:
            urls = list({item.url for item in items})
            done = set.intersection(*[await writer.done(urls) for writer in self._known_by])
            left = [item for item in items if item.url not in done]
            self._stats.skipped += len(items) - len(left)
            items = left
        self._ready.extend(items)


class Engine:
    """Runs the workers.

    Args:
        feed: gives the items.
        fetch: makes a result of an item; raises only ``SinkError``.
        writers: get every result.
        stats: count it.
        concurrency: how many workers.
    """

    def __init__(
        self,
        feed: Feed,
        fetch: Callable[[Item], Awaitable[Result]],
        writers: Sequence[Writer],
        stats: Stats,
        concurrency: int,
    ) -> None:
        self._feed = feed
        self._fetch = fetch
        self._writers = writers
        self._stats = stats
        self._concurrency = concurrency
        self._workers: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self) -> None:
        """Fetches all there is, or until ``stop``.

        Raises:
            Refused: when the URLs cannot be read any more.
            SinkError: when results cannot be written any more.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._start_worker(group)
        except BaseExceptionGroup as errors:
            if (ours := errors.subgroup((Refused, SinkError))) is not None:
                raise ours.exceptions[0]  # noqa: B904  # "from" would hide its own cause, which is looked at
            raise

    def stop(self) -> None:
        """Takes no new items, and ends what is under way at once."""
        self._stopping = True
        for worker in self._workers:
            worker.cancel()

    def _start_worker(self, group: asyncio.TaskGroup) -> None:
        if self._stopping or len(self._workers) >= self._concurrency:
            return
        worker = group.create_task(self._work(group), name="weft-fetch-worker")
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work(self, group: asyncio.TaskGroup) -> None:
        task = asyncio.current_task()
        assert task is not None
        # A result that was just being finished when the task was cancelled has been finished: hence the question.
        while not task.cancelling() and (item := await self._feed.next()) is not None:
            self._start_worker(group)  # one more, as long as there are items for them: ten URLs need no thousand tasks
            self._stats.in_flight += 1
            try:
                result = await self._fetch(item)
            finally:
                self._stats.in_flight -= 1
            self._stats.add(result)
            for writer in self._writers:
                writer.put(result)
            for writer in self._writers:
                await writer.room()
