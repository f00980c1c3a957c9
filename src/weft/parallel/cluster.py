"""Runs jobs on a Dask cluster, in batches; each is a task of the scheduler, and runs on a weft loop where it lands.

Invariant: one asynchronous client of this loop speaks with the scheduler; one that was made here is closed with the
run. The scheduler runs again what a dead worker had, and gives up after as many as its ``allowed-failures`` says; then
a batch is run item by item, with nothing else under way, and an item that is given up again is failed. Needs the extra
``weft[cluster]``, here and on the workers.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from weft.errors import WorkerError
from weft.parallel.batches import Batches, Outcome, run_batch
from weft.parallel.engine import Engine
from weft.parallel.jobs import Job
from weft.parallel.local import Local, is_async
from weft.parallel.shipping import pack, portable

__all__ = ["Cluster"]

AHEAD = 0.1  # seconds of work in a batch: a task costs the scheduler and the client some 2 ms
REFRESH = 5.0  # seconds after which is asked again how large the cluster is
CONNECT = 10  # seconds in which the scheduler has to answer


class Cluster(Batches):
    """Runs jobs on a cluster.

    Args:
        function: called with each item.
        where: a ``distributed.Client``, or the address of a scheduler.
        concurrency: how many at once in each thread of a Dask worker, where the function is async.
    """

    def __init__(self, function: Callable[[Any], Any], where: Any, concurrency: int) -> None:
        super().__init__(1, AHEAD)
        try:
            self._distributed: Any = importlib.import_module("distributed")
        except ImportError as exc:
            raise WorkerError("a cluster needs Dask: pip install 'weft[cluster]'") from exc
        self._function = function
        self._is_async = is_async(function)
        self._concurrency = concurrency
        self._where = where
        self._client: Any = None
        self._owned = True
        self._alone: deque[Job] = deque()
        self._asked = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def start(self, remaining: Callable[[], int | None]) -> None:
        """Connects.

        Raises:
            NotPicklableError: the function cannot be sent.
            WorkerError: nobody answers, or the cluster has no workers.
        """
        await super().start(remaining)
        self._payload = pack(self._function).payload
        await self._connect()
        await self._ask()

    async def _connect(self) -> None:
        where, loop = self._where, asyncio.get_running_loop()
        security = None
        if not isinstance(where, str):
            if where.asynchronous and where.loop.asyncio_loop is loop:
                self._client, self._owned = where, False
                return
            where, security = where.scheduler.address, where.security
        client = self._distributed.Client(
            where, asynchronous=True, set_as_default=False, security=security, timeout=CONNECT, name="weft-map"
        )
        self._client = client
        try:
            await client
        except (OSError, TimeoutError) as exc:
            raise WorkerError(f"no Dask scheduler answers at {where}: {exc}") from exc

    async def _ask(self) -> None:
        """Asks how many threads there are: so many batches at once, and one more for each worker."""
        self._asked = perf_counter()
        workers = await self._client.nthreads()
        if not workers and not self._under_way:
            await self._client.wait_for_workers(1, timeout=CONNECT)
            workers = await self._client.nthreads()
        self.limit = max(sum(workers.values()) + len(workers), 2)

    def room(self) -> int:
        """None while somebody is suspected of killing workers: Dask suspects all that a dead worker had, run or not."""
        tried = any(batch[0].alone for batch in self._under_way.values())
        return 0 if self._alone or tried else super().room()

    def submit(self, jobs: Sequence[Job]) -> None:
        self._alone.extend(job for job in jobs if job.alone)
        super().submit([job for job in jobs if not job.alone])
        self._send_alone()

    def _send_alone(self) -> None:
        """Runs the next suspect, when nothing else is under way."""
        if self._alone and not self._under_way and not self._closing:
            super().submit([self._alone.popleft()])

    def _on_done(self, future: asyncio.Future[Outcome]) -> None:
        super()._on_done(future)
        self._send_alone()

    def _least(self) -> int:
        return self._concurrency if self._is_async else 1

    def _send(self, batch: list[Job]) -> asyncio.Future[Outcome]:
        if perf_counter() - self._asked > REFRESH and self._asking is None:
            self._asked = perf_counter()
            self._asking = asyncio.ensure_future(self._ask_again())
        return asyncio.ensure_future(self._run([job.item for job in batch]))

    async def _ask_again(self) -> None:
        try:
            await self._ask()
        finally:
            self._asking = None

    async def _run(self, items: list[Any]) -> Outcome:
        future = self._client.submit(_on_worker, self._payload, items, self._concurrency, pure=False)
        try:
            outcome: Outcome = await future
            return outcome
        finally:
            if self._closing:
                with suppress(Exception):
                    await self._client.cancel([future], force=True)

    async def _close(self, *, early: bool, in_a_hurry: bool) -> None:
        tasks = [task for task in (*self._under_way, self._asking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None and self._owned:
            await client.close()

    def _batch_failed(self, batch: list[Job], error: BaseException) -> None:
        if isinstance(error, ImportError):  # no worker has weft, or what the function is in: no item will do better
            self._lose(batch)
            missing = WorkerError(f"a worker of the cluster cannot import what it needs: {error}")
            missing.__cause__ = error
            self.reports.broken(missing)
        elif isinstance(error, self._distributed.KilledWorker) and not batch[0].alone:
            for job in batch:  # whoever killed it, it need not have been them
                job.alone = True
            self._lose(batch)
        else:
            super()._batch_failed(batch, error)


# -- on the other side


def _on_worker(payload: bytes, items: Sequence[Any], concurrency: int) -> Outcome:
    """Runs a batch in a thread of a Dask worker."""
    from weft.runner import run

    function: Callable[[Any], Any] = pickle.loads(payload)  # each batch has its own: it may be entered
    if not is_async(function):
        return run_batch(function, items)
    return run(_run_async(function, items, concurrency))


async def _run_async(function: Callable[[Any], Any], items: Sequence[Any], concurrency: int) -> Outcome:
    began = perf_counter()
    engine = Engine(items, Local(function, concurrency), ordered=True, retries=0, stops=False)
    engine.start()
    results: list[tuple[bool, Any]] = []
    while True:
        while (job := engine.take()) is not None:
            results.append(_result_of(job))
        if not await engine.wait():
            return results, perf_counter() - began


def _result_of(job: Job) -> tuple[bool, Any]:
    return (True, job.value) if job.error is None else (False, portable(job.error, by_value=True))
