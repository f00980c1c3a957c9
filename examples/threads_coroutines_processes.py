"""Threads, coroutines and processes, for a job that waits (I/O-bound) and for one that computes (CPU-bound).

Waiting is shared out by all three, and cheapest by coroutines. Computing is shared out by processes alone: coroutines
have one thread between them, and threads have one interpreter lock. The ids show who did the work. The seconds include
the starting of threads and processes; of those that compute there is one for each core.

    python examples/threads_coroutines_processes.py
    weft run examples/threads_coroutines_processes.py --jobs 4 --scale 0.5
"""

import argparse
import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

Who = tuple[int, int]  # process id, thread id


def who() -> Who:
    """The process and the thread that this is called in, as the kernel numbers them."""
    return os.getpid(), threading.get_native_id()


def wait(scale: float) -> Who:
    """Waits, as for an answer from the net."""
    time.sleep(0.2 * scale)
    return who()


def compute(scale: float) -> Who:
    """Computes, and never waits."""
    sum(number * number for number in range(int(8_000_000 * scale)))
    return who()


async def wait_as_coroutine(scale: float) -> Who:
    """The same as `wait`, but lets others go on."""
    await asyncio.sleep(0.2 * scale)
    return who()


async def compute_as_coroutine(scale: float) -> Who:
    """The same as `compute`; with nothing to await in it, nobody else can go on."""
    return compute(scale)


async def in_pool(pool: Executor, job: Callable[[float], Who], jobs: int, scale: float) -> list[Who]:
    """Runs the jobs in a pool, and closes it."""
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.gather(*(loop.run_in_executor(pool, job, scale) for _ in range(jobs)))
    finally:
        await asyncio.to_thread(pool.shutdown)  # it waits for the workers, which is not for a coroutine to do


def row(kind: str, way: str, started: float, ids: list[Who]) -> None:
    """Prints a line of the table."""
    seconds = time.perf_counter() - started
    processes, threads = sorted({pid for pid, _ in ids}), sorted({tid for _, tid in ids})
    print(f"{kind:4} {way:17} {seconds:7.2f}  processes {_few(processes)}  threads {_few(threads)}")


def _few(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))


async def main(jobs: int, scale: float) -> None:
    """Two kinds of jobs, four ways each."""
    (process, thread), cores = who(), os.cpu_count() or 1
    print(f"main is process {process}, thread {thread}; {jobs} jobs each, {cores} cores")
    print(f"{'job':4} {'way':17} {'seconds':>7}  done by")
    # A forked child would inherit the loop and other threads' locks: start it afresh.
    afresh = multiprocessing.get_context("spawn")
    for kind, job, coroutine in (("I/O", wait, wait_as_coroutine), ("CPU", compute, compute_as_coroutine)):
        workers = jobs if job is wait else min(jobs, cores)
        started = time.perf_counter()
        row(kind, "one after another", started, [job(scale) for _ in range(jobs)])
        started = time.perf_counter()
        row(kind, "threads", started, await in_pool(ThreadPoolExecutor(jobs), job, jobs, scale))
        started = time.perf_counter()
        row(kind, "coroutines", started, await asyncio.gather(*(coroutine(scale) for _ in range(jobs))))
        started = time.perf_counter()
        row(kind, "processes", started, await in_pool(ProcessPoolExecutor(workers, afresh), job, jobs, scale))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Threads, coroutines and processes, side by side.")
    parser.add_argument("--jobs", type=int, default=6, help="how many jobs (6)")
    parser.add_argument("--scale", type=float, default=1.0, help="how long each is (1)")
    options = parser.parse_args()
    asyncio.run(main(options.jobs, options.scale))
