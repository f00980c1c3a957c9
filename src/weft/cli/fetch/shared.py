"""Shares the fetching out among processes, or a cluster; URLs, outputs and figures stay in this process.

Invariant: as with the ``Engine``, a result that has come here is with every writer before anything else can happen.
Called by ``run``, in the place of an ``Engine``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from weft.cli.fetch.engine import Feed
from weft.cli.fetch.http import Fetcher
from weft.cli.fetch.model import Item, Refused, Result, SinkError
from weft.cli.fetch.options import Options
from weft.cli.fetch.sinks.files import Files
from weft.cli.fetch.sinks.writer import Writer
from weft.cli.fetch.stats import Stats
from weft.errors import NotPicklableError, WorkerError
from weft.parallel.map import Failed, Map, map

__all__ = ["SharedEngine"]


class _Share:
    """What a worker does: it has a client of its own, from its first item to its last."""

    def __init__(self, options: Options, make: Callable[[Options], Any]) -> None:
        self._options = options
        self._make = make
        self._files: Files | None = None

    async def __aenter__(self) -> _Share:
        options = self._options
        self._files = Files(options.out_dir) if options.out_dir is not None else None
        self._client = self._make(options)
        self._fetch = Fetcher(await self._client.__aenter__(), options, self._files)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.__aexit__(None, None, None)
        if self._files is not None:
            self._files.close()

    async def __call__(self, item: Item) -> Result:
        return await self._fetch(item)


class SharedEngine:
    """Runs the workers.

    Args:
        feed: gives the items.
        options: how to fetch, and who.
        make: makes a client; the workers call it.
        writers: get every result.
        stats: count it.
    """

    def __init__(
        self, feed: Feed, options: Options, make: Callable[[Options], Any], writers: Sequence[Writer], stats: Stats
    ) -> None:
        self._feed = feed
        self._writers = writers
        self._stats = stats
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._options = options
        self._make = make

    async def run(self) -> None:
        """Fetches all there is, or until ``stop``.

        Raises:
            Refused: when the URLs cannot be read any more, or nobody is there to do the work.
            SinkError: when results cannot be written any more.
        """
        if self._stopping:
            return
        work = self._task = asyncio.create_task(self._work(), name="weft-fetch-share")
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            raise
        if work.cancelled() and self._stopping:
            return
        try:
            await work
        except (WorkerError, NotPicklableError) as exc:
            raise Refused(str(exc)) from exc

    def stop(self) -> None:
        """Takes no new items, and ends what is under way at once."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    def _shared_out(self) -> Map[Result | Failed[Item]]:
        options = self._options
        share = options.workers or 1
        each = replace(
            options,
            urls=(),
            concurrency=options.concurrency // share,
            per_host=options.per_host and options.per_host // share,
        )
        return map(
            _Share(each, self._make),
            self._items(),
            concurrency=each.concurrency,
            workers=options.workers or options.cluster,
            ordered=False,
            on_error="collect",
        )

    async def _work(self) -> None:
        async with self._shared_out() as results:
            try:
                with suppress(StopAsyncIteration):
                    while True:
                        self._put(await anext(results))
                        for result in results.take_nowait():
                            self._put(result)
                        for writer in self._writers:
                            await writer.room()
            finally:  # stopped while a sink was slow
                for result in results.take_nowait():
                    self._put(result)

    async def _items(self) -> AsyncIterator[Item]:
        while (item := await self._feed.next()) is not None:
            self._stats.in_flight += 1
            yield item

    def _put(self, result: Result | Failed[Item]) -> None:
        self._stats.in_flight -= 1
        if isinstance(result, Failed):
            if isinstance(result.error, SinkError):
                raise result.error
            result = Result(
                result.item, time.time(), error=type(result.error).__name__, message=str(result.error)
            )  # its workers have died of it
        self._stats.add(result)
        for writer in self._writers:
            writer.put(result)
