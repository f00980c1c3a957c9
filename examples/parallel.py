"""One function over many items with `weft.map`: on this loop, in threads, on every core, and coroutines on every core.

The same two jobs each time, one that waits (I/O-bound) and one that computes (CPU-bound). What changes from row to row
is one argument. Waiting is shared out by all but the first; computing by processes alone, as there is one interpreter
lock in each. Coroutines in processes do both: as many waits at once as you like, on as many cores as there are. The
seconds include the starting of threads and processes (which is most of what the processes take where the job is short).

    python examples/parallel.py
    weft run examples/parallel.py --jobs 40 --scale 0.5
"""

import argparse
import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable

import weft

Who = tuple[int, int]  # process id, thread id


def who() -> Who:
    """The process and the thread that this is called in."""
    return os.getpid(), threading.get_native_id()


def wait(scale: float) -> Who:
    """Waits, as for an answer from the net."""
    time.sleep(0.2 * scale)
    return who()


def compute(scale: float) -> Who:
    """Computes, and never waits."""
    sum(number * number for number in range(int(2_000_000 * scale)))
    return who()


async def wait_as_coroutine(scale: float) -> Who:
    """The same as `wait`, but lets others go on."""
    await asyncio.sleep(0.2 * scale)
    return who()


async def compute_as_coroutine(scale: float) -> Who:
    """The same as `compute`; with nothing to await in it, nobody else on its loop can go on."""
    return compute(scale)


async def one_after_another(job: Callable[[float], Who], items: list[float]) -> list[Who]:
    """The loop that it all begins with."""
    return [job(item) for item in items]


async def row(kind: str, way: str, results: Awaitable[list[Who]]) -> None:
    """Runs the jobs, and prints a line of the table."""
    started = time.perf_counter()
    ids = await results
    seconds = time.perf_counter() - started
    print(f"{kind:4} {way:23} {seconds:7.2f}  {len({pid for pid, _ in ids}):9}  {len(set(ids)):7}", flush=True)


async def main(jobs: int, scale: float) -> None:
    """Two kinds of jobs, five ways each."""
    items = [scale] * jobs
    print(f"{jobs} jobs each, {os.cpu_count()} cores")
    print(f"{'job':4} {'way':23} {'seconds':>7}  processes  threads")
    for kind, job, coroutine in (("I/O", wait, wait_as_coroutine), ("CPU", compute, compute_as_coroutine)):
        await row(kind, "one after another", one_after_another(job, items))
        await row(kind, "threads", weft.map(job, items, workers="threads"))
        await row(kind, "coroutines", weft.map(coroutine, items))
        await row(kind, "processes", weft.map(job, items, workers="cores"))
        await row(kind, "coroutines in processes", weft.map(coroutine, items, workers="cores"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One job on this loop, in threads, and on every core, side by side.")
    parser.add_argument("--jobs", type=int, default=20, help="how many jobs (20)")
    parser.add_argument("--scale", type=float, default=1.0, help="how long each is (1)")
    options = parser.parse_args()
    asyncio.run(main(options.jobs, options.scale))
