"""``weft.map``: a function over many items, on this loop, on threads, on every core, or on a cluster.

Owns what the caller sees: the arguments, the choice of a backend, ``Map`` and ``Failed``. Invariant: the run does not
know its ``Map``, so a ``Map`` that nobody holds any more ends its run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast, overload

from weft.errors import MapError
from weft.parallel.engine import Engine
from weft.parallel.jobs import Backend, Job
from weft.parallel.progress import Progress, Reporter

__all__ = ["Failed", "Map", "Progress", "Workers", "map"]

T = TypeVar("T")
R = TypeVar("R")

Workers = int | str | concurrent.futures.Executor | Any | None
"""None, a number, ``"cores"``, ``"threads"``, ``"interpreters"``, an executor, a Dask client or scheduler's address."""

ON_ERROR = ("raise", "collect")


@dataclass(frozen=True)
class Failed(Generic[T]):
    """Stands for the result of an item whose function failed, with ``on_error="collect"``.

    Attributes:
        item: the item.
        index: its place among the items, from 0.
        error: the function's exception.
    """

    item: T
    index: int
    error: BaseException


class Map(Generic[R]):
    """What :func:`weft.map` returns: awaited a list, iterated the results one by one, in ``async with`` itself.

    It begins when it is first asked for something. It ends with its last result, with the first failure, when the
    task that waits for a result is cancelled, at the end of its ``async with``, by :meth:`aclose`, or when it is
    dropped.
    """

    def __init__(self, engine: Engine, progress: bool | Callable[[Progress], object]) -> None:
        self._engine = engine
        self._collects = not engine.stops
        self._reporter = Reporter(engine, progress) if progress else None

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._list().__await__()

    def __aiter__(self) -> Map[R]:
        return self

    async def __anext__(self) -> R:
        engine = self._engine
        if not engine.started:
            self._start()
        try:
            while (job := engine.take()) is None:
                if not await engine.wait():
                    raise StopAsyncIteration
        except asyncio.CancelledError:
            await engine.aclose()
            raise
        if job.error is not None:
            return cast(R, await self._failed(job))
        return cast(R, job.value)

    async def __aenter__(self) -> Map[R]:
        if not self._engine.started:
            self._start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._engine.aclose()

    def __del__(self) -> None:
        engine = self._engine
        if engine.started and not engine.over:
            with suppress(RuntimeError):  # the loop is closed: nothing runs
                engine.loop.call_soon_threadsafe(engine.stop)

    def take_nowait(self) -> list[R]:
        """The results that are there already; of a run that a failure ends, those before it."""
        engine, results = self._engine, []
        while (job := engine.ready) is not None and (self._collects or job.error is None):
            engine.take()
            results.append(cast(R, job.value if job.error is None else Failed(job.item, job.index, job.error)))
        return results

    async def aclose(self) -> None:
        """Ends the run, and waits until no task and no process of it is left. May be called again."""
        await self._engine.aclose()

    def _start(self) -> None:
        self._engine.start()
        if self._reporter is not None:
            self._reporter.start()

    async def _list(self) -> list[R]:
        engine = self._engine
        if not engine.started:
            self._start()
        results: list[Any] = []
        try:
            while engine.first_failure is None:
                while (job := engine.take()) is not None:
                    results.append(job.value if job.error is None else await self._failed(job))
                if not await engine.wait():
                    return results
        except asyncio.CancelledError:
            await engine.aclose()
            raise
        return cast("list[R]", await self._failed(engine.first_failure))  # no result is of use any more

    async def _failed(self, job: Job) -> Any:
        assert job.error is not None
        if self._collects:
            return Failed(job.item, job.index, job.error)
        await self._engine.aclose()
        raise MapError(job.item, job.index, job.error)


@overload
def map(
    func: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    workers: Workers = ...,
    ordered: bool = ...,
    retries: int = ...,
    on_error: Literal["raise"] = ...,
    progress: bool | Callable[[Progress], object] = ...,
) -> Map[R]: ...
@overload
def map(
    func: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    workers: Workers = ...,
    ordered: bool = ...,
    retries: int = ...,
    on_error: Literal["collect"],
    progress: bool | Callable[[Progress], object] = ...,
) -> Map[R | Failed[T]]: ...
@overload
def map(
    func: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    workers: Workers = ...,
    ordered: bool = ...,
    retries: int = ...,
    on_error: Literal["raise"] = ...,
    progress: bool | Callable[[Progress], object] = ...,
) -> Map[R]: ...
@overload
def map(
    func: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    workers: Workers = ...,
    ordered: bool = ...,
    retries: int = ...,
    on_error: Literal["collect"],
    progress: bool | Callable[[Progress], object] = ...,
) -> Map[R | Failed[T]]: ...
def map(
    func: Callable[[Any], Any],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    concurrency: int = 100,
    workers: Workers = None,
    ordered: bool = True,
    retries: int = 0,
    on_error: str = "raise",
    progress: bool | Callable[[Progress], object] = False,
) -> Map[Any]:
    """Call ``func`` with every item, many at a time, and give the results as they come.

    ::

        async for page in weft.map(fetch, urls, concurrency=50):
            ...
        sizes = await weft.map(compress, files, workers="cores")

    Items are taken as they are needed, never more than about twice as many as can be under way ahead of whoever takes
    the
    results: a billion of them need no more memory than a thousand.

    Args:
        func: async or plain. If it is an async context manager as well, it is entered once in each worker, before its
            first item, and left after its last: the place for what items share.
        items: any iterable, plain or async, of any length. A generator is closed with the run.
        concurrency: how many at once; with processes, how many in each.
        workers: None: all on this loop. A number, or ``"cores"``: so many processes, each with a weft loop.
            ``"threads"``: threads, for plain functions that block. ``"interpreters"``: subinterpreters (Python 3.14),
            for plain functions. A ``concurrent.futures.Executor``: that, which stays open. A ``distributed.Client`` or
            the address of its scheduler: the Dask cluster.
        ordered: results in the order of the items; otherwise as they finish.
        retries: how often an item is tried again after an exception, at once.
        on_error: ``"raise"``: the first failure ends the run with a :class:`MapError`; in a loop over ordered results
        it
            is raised in its place. ``"collect"``: a :class:`Failed` stands in the place of the result.
        progress: True: a line on standard error, if that is a terminal; or a function that is called with a
            :class:`Progress` a few times per second, and at the end.

    An item is run at least once: when a worker dies, what it had not reported is run again by another. An item
    that three workers have died of is failed, with a :class:`WorkerError`.

    Raises:
        MapError: when it is awaited or iterated: an item failed.
        NotPicklableError: the same: ``func`` cannot be sent to another process.
        TypeError: ``func`` cannot be called, ``items`` not be iterated, or ``workers`` is none of these.
        ValueError: a number is too small, or a word unknown.
    """
    if not callable(func):
        raise TypeError(f"weft.map() calls its first argument with each item, and {func!r} cannot be called")
    if not isinstance(items, Iterable | AsyncIterable) and not hasattr(items, "__getitem__"):
        raise TypeError(f"weft.map() takes an iterable of items, plain or async, not {items!r}")
    if concurrency < 1 or retries < 0:
        raise ValueError(f"weft.map(): {concurrency=} has to be 1 or more, {retries=} 0 or more")
    if on_error not in ON_ERROR:
        raise ValueError(f"weft.map(): on_error is 'raise' or 'collect', not {on_error!r}")
    backend = _backend(func, workers, concurrency)
    return Map(Engine(items, backend, ordered=ordered, retries=retries, stops=on_error == "raise"), progress)


def _backend(func: Callable[[Any], Any], workers: Workers, concurrency: int) -> Backend:
    """The one place where a backend is chosen; what a backend needs is imported only then."""
    if workers is None:
        from weft.parallel.local import Local

        return Local(func, concurrency)
    if workers == "cores" or (isinstance(workers, int) and not isinstance(workers, bool)):
        from weft.parallel.processes import Processes, usable_cores

        count = workers if isinstance(workers, int) else usable_cores()
        if count < 1:
            raise ValueError(f"weft.map(): {workers=} has to be 1 or more")
        return Processes(func, count, concurrency)
    if workers in ("threads", "interpreters") or isinstance(workers, concurrent.futures.Executor):
        from weft.parallel.executors import executor_backend

        return executor_backend(func, workers, concurrency)
    if (isinstance(workers, str) and ":" in workers) or hasattr(workers, "scheduler"):
        from weft.parallel.cluster import Cluster

        return Cluster(func, workers, concurrency)
    raise TypeError(
        f"weft.map(): workers is None, a number, 'cores', 'threads', 'interpreters', an executor, or a Dask client or "
        f"address such as 'tcp://scheduler:8786', not {workers!r}"
    )
