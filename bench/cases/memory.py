"""What waiting costs in memory.

The resident set is read from ``/proc/self/statm`` before and after many tasks are parked, in a process that does
nothing else; no ``tracemalloc``, whose own tables would be measured too. A measurement takes as long as its tasks
take, not what it is given: the time only scales their number.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.contenders import FIELD, LOOPS, beat_uvloop
from bench.model import Case, Metric, Sample, paragraph, register

PARKED = 200_000  # tasks in a measurement that is given one second

METRICS = (Metric("bytes", "bytes"),)

Parked = Callable[[], Coroutine[Any, Any, object]]


def resident_bytes() -> int:
    """The resident set of this process, in bytes (proc_pid_statm(5), second field)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def per_task(name: str, title: str, *, quick: bool = False, target: float | None = None) -> Callable[[Any], Any]:
    """Register the function below, which returns the coroutine function that a task is to park in."""

    def decorate(setup: Callable[[], Awaitable[Parked]]) -> Callable[[], Awaitable[Parked]]:
        async def bytes_per_task(number: int) -> float:
            parked = await setup()
            loop = asyncio.get_running_loop()
            tasks: list[asyncio.Task[object]] = []
            gc.collect()
            before = resident_bytes()
            tasks.extend(loop.create_task(parked()) for _ in range(number))
            await asyncio.sleep(0)
            gc.collect()
            value = (resident_bytes() - before) / len(tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return value

        def measure(contender: str, budget: float) -> Sample:
            return {"bytes": LOOPS[contender].run(bytes_per_task(int(PARKED * budget)))}

        register(Case(name, title, paragraph(setup), FIELD, METRICS, measure, 1.0, quick, beat_uvloop(target)))
        return setup

    return decorate


@per_task("memory.parked", "task parked on a future", quick=True, target=0.99)
async def parked_on_future() -> Parked:
    """The growth of the resident set (`/proc/self/statm`) per task when 200,000 tasks await one and the same future."""
    gate = asyncio.get_running_loop().create_future()

    async def parked() -> None:
        await gate

    return parked


@per_task("memory.sleeping", "task parked in `sleep(3600)`")
async def parked_in_sleep() -> Parked:
    """The same when each task is in `asyncio.sleep(3600)`: its own future and timer are in the figure."""

    async def parked() -> None:
        await asyncio.sleep(3600)

    return parked
