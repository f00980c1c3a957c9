"""``weft.map``: the classic table (a job that waits and one that computes, five ways each), and what an item costs.

The contenders are ways of doing the same, named so that they mean the same in every case. Unlike in the other groups
much is wall-clock time, as that is what cores are for: a figure from a busy machine says little here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from time import perf_counter, process_time
from typing import Any

import weft
from bench.cases.memory import resident_bytes
from bench.field import Contender, Field
from bench.model import Aim, Case, Metric, Sample, paragraph, register

JOBS = 40  # of the table; a measurement is as long as they take one after another
WAIT = 0.05  # seconds
COMPUTE = 200_000  # numbers whose squares are summed: some 20 ms
CONCURRENCY = 100

ITEMS = 100_000  # of the cases about the cost of an item
SHIPPED = 5_000  # through the slower way
MANY = 10_000_000

SECONDS = Metric("seconds", "s")
CPU = Metric("cpu_ns", "CPU ns/item")
RATE = Metric("rate", "items/s", more_is_better=True)
GROWTH = Metric("growth", "MiB")


# -- the jobs


def wait(number: int) -> int:
    """Waits, as for an answer from the net."""
    time.sleep(WAIT)
    return number


async def wait_as_coroutine(number: int) -> int:
    """The same, and lets others go on."""
    await asyncio.sleep(WAIT)
    return number


def compute(number: int) -> int:
    """Computes."""
    return sum(each * each for each in range(COMPUTE))


async def compute_as_coroutine(number: int) -> int:
    """The same as a coroutine."""
    return compute(number)


def negate(number: int) -> int:
    """As little as there is to do."""
    return -number


async def pass_on(number: int) -> int:
    """A coroutine that lets others go on once."""
    await asyncio.sleep(0)
    return number


# -- the classic table

Way = Callable[[Callable[[int], int], Callable[[int], Awaitable[int]], int], Awaitable[Any]]


async def one_after_another(job: Callable[[int], int], coroutine: Any, jobs: int) -> Any:
    """A loop."""
    return [job(number) for number in range(jobs)]


async def threads(job: Callable[[int], int], coroutine: Any, jobs: int) -> Any:
    """A pool with a thread for each job."""
    with ThreadPoolExecutor(jobs) as pool:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, job, number) for number in range(jobs)))


async def coroutines(job: Any, coroutine: Callable[[int], Awaitable[int]], jobs: int) -> Any:
    """``weft.map`` on one loop."""
    return await weft.map(coroutine, range(jobs), concurrency=jobs)


async def processes(job: Callable[[int], int], coroutine: Any, jobs: int) -> Any:
    """``weft.map`` with a plain function on every core."""
    return await weft.map(job, range(jobs), workers="cores")


async def coroutines_in_processes(job: Any, coroutine: Callable[[int], Awaitable[int]], jobs: int) -> Any:
    """``weft.map`` with an async function on every core."""
    return await weft.map(coroutine, range(jobs), workers="cores", concurrency=jobs)


WAYS: dict[str, Way] = {
    "one after another": one_after_another,
    "threads": threads,
    "coroutines": coroutines,
    "processes": processes,
    "coroutines in processes": coroutines_in_processes,
}
TABLE = Field(
    tuple(map(Contender, WAYS)), "coroutines in processes", ("one after another", "threads", "processes"), tall=True
)


def waiting(contender: str, budget: float) -> Sample:
    """40 jobs that wait 50 ms each: wall-clock seconds from the first to the last, the starting of threads and
    processes included.
    """
    return _timed(WAYS[contender](wait, wait_as_coroutine, JOBS))


def computing(contender: str, budget: float) -> Sample:
    """40 jobs that compute for some 20 ms each, the same way."""
    return _timed(WAYS[contender](compute, compute_as_coroutine, JOBS))


def _timed(work: Awaitable[Any]) -> Sample:
    async def main() -> float:
        began = perf_counter()
        await work
        return perf_counter() - began

    return {SECONDS.key: weft.run(main())}


for _name, _title, _measure in (
    ("parallel.io", "40 jobs that wait 50 ms", waiting),
    ("parallel.cpu", "40 jobs that compute", computing),
):
    register(Case(_name, _title, paragraph(_measure), TABLE, (SECONDS,), _measure, 2.0))


# -- what an item costs

BY_HAND, ON_ONE_LOOP = "gather + semaphore", "weft.map"
POOL_MAP, ON_TWO = "ProcessPoolExecutor.map", "weft.map, 2 processes"
ON_ONE = "weft.map, 1 process"


async def by_hand(items: Iterable[int]) -> None:
    """What people write: a task for each item, and a semaphore."""
    semaphore = asyncio.Semaphore(CONCURRENCY)

    async def one(item: int) -> int:
        async with semaphore:
            return await pass_on(item)

    await asyncio.gather(*(one(item) for item in items))


def overhead(contender: str, budget: float) -> Sample:
    """100,000 items through a coroutine that awaits `sleep(0)` once, 100 at a time, on a weft loop: processor time per
    item, for `weft.map` and for `gather` over coroutines that share a semaphore.
    """

    async def main() -> float:
        began = process_time()
        if contender == BY_HAND:
            await by_hand(range(ITEMS))
        else:
            async for _ in weft.map(pass_on, range(ITEMS), concurrency=CONCURRENCY):
                pass
        return (process_time() - began) / ITEMS * 1e9

    return {CPU.key: weft.run(main())}


def shipping(contender: str, budget: float) -> Sample:
    """Integers through a function that does nothing, in two processes: items per second, once the processes are there;
    `ProcessPoolExecutor.map` with its default of one item at a time.
    """
    if contender == POOL_MAP:
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            list(pool.map(negate, range(10)))
            began = perf_counter()
            list(pool.map(negate, range(SHIPPED)))
            return {RATE.key: SHIPPED / (perf_counter() - began)}
    return {RATE.key: weft.run(_rate(negate, ITEMS, 2))}


def cores(contender: str, budget: float) -> Sample:
    """Jobs that compute for some 20 ms each: jobs per second with one process and with two, once they are there."""
    return {RATE.key: weft.run(_rate(compute, 2 * JOBS, 1 if contender == ON_ONE else 2))}


async def _rate(function: Callable[[int], int], count: int, workers: int) -> float:
    async with weft.map(function, iter(range(count)), workers=workers) as results:
        await anext(results)
        began, got = perf_counter(), 0
        async for _ in results:
            got += 1
        return got / (perf_counter() - began)


def memory(contender: str, budget: float) -> Sample:
    """10 million items from a generator through `weft.map` on one loop: how much the resident set has grown between the
    100,000th result and the last.
    """

    async def main() -> float:
        before = 0
        async for result in weft.map(pass_on, iter(range(MANY)), concurrency=CONCURRENCY):
            if result == ITEMS:
                before = resident_bytes()
        return (resident_bytes() - before) / 2**20

    return {GROWTH.key: weft.run(main())}


LOOP = Field((Contender(BY_HAND), Contender(ON_ONE_LOOP)), ON_ONE_LOOP, (BY_HAND,))
POOL = Field((Contender(POOL_MAP), Contender(ON_TWO)), ON_TWO, (POOL_MAP,))
CORES = Field((Contender(ON_ONE), Contender(ON_TWO)), ON_TWO, (ON_ONE,))
ALONE = Field((Contender(ON_ONE_LOOP),), ON_ONE_LOOP, ())


def two_cores() -> str:
    """What the case about two cores needs."""
    return "" if len(os.sched_getaffinity(0)) > 1 else "needs two cores"


register(Case("parallel.overhead", "an item on one loop", paragraph(overhead), LOOP, (CPU,), overhead, 1.0, True,
              (Aim(1 / 1.3, BY_HAND),)))  # fmt: skip
register(Case("parallel.shipping", "small items to 2 processes", paragraph(shipping), POOL, (RATE,), shipping, 1.0,
              aims=(Aim(5.0, POOL_MAP),)))  # fmt: skip
register(Case("parallel.cores", "two cores", paragraph(cores), CORES, (RATE,), cores, 2.0,
              aims=(Aim(1.8, ON_ONE),), missing=two_cores))  # fmt: skip
register(Case("parallel.growth", "10 million items", paragraph(memory), ALONE, (GROWTH,), memory, 60.0,
              aims=(Aim(1.0),)))  # fmt: skip
