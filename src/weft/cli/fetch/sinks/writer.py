"""Hands results to a sink in a thread, so that a slow disk or reader never blocks the loop.

While one batch is written the next one gathers: the busier, the larger the batches and the fewer the commits, without a
timer. Invariant: what ``put`` has taken is written before ``close`` returns, unless the sink fails; at most ``HELD``
bytes wait, beyond what is under way. Called by the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from weft.cli.fetch.model import Result
from weft.cli.fetch.sinks import Sink

__all__ = ["Writer"]

T = TypeVar("T")

HELD = 16 << 20  # bytes of results that may wait for the sink
BATCH = 1000  # results in one batch


class Writer:
    """One sink and its thread. Make it where the loop runs."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weft-fetch-sink")
        self._waiting: list[Result] = []
        self._weight = 0
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._room = asyncio.Event()
        self._room.set()

    def put(self, result: Result) -> None:
        """Takes a result, at once, so that no interrupt can lose it.

        Raises:
            SinkError: when the sink has failed.
        """
        if self._error is not None:
            raise self._error
        self._waiting.append(result)
        self._weight += result.weight
        if self._weight > HELD:
            self._room.clear()
        if self._task is None:
            self._task = asyncio.create_task(self._write_all(), name="weft-fetch-writer")

    async def room(self) -> None:
        """Waits until the sink has caught up. Raises nothing: the next ``put`` does."""
        await self._room.wait()

    async def done(self, urls: Sequence[str]) -> set[str]:
        """Which of these URLs an earlier run has fetched."""
        return await self._call(self._sink.done, urls)

    async def close(self) -> None:
        """Writes what waits, and ends the sink.

        Raises:
            SinkError: when the sink has failed, now or before.
        """
        try:
            if self._task is not None:
                await self._task
            await self._call(self._sink.close)
        finally:
            self._thread.shutdown()
        if self._error is not None:
            raise self._error

    async def _write_all(self) -> None:
        try:
            while self._waiting and self._error is None:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._call(self._sink.write, batch)
                self._weight -= sum(result.weight for result in batch)
                if self._weight <= HELD:
                    self._room.set()
        except Exception as exc:
            self._error = exc
            self._room.set()
        finally:
            self._task = None

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
