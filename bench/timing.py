"""Turns ``async def body(count)`` into a case that says what one of ``count`` operations costs.

The count grows until one block takes at least ``BLOCK_SECONDS``, so that starting the block and reading the clocks
are far below a thousandth of it; blocks are then repeated for the time given and their median is the sample.
The body runs as the main task of ``asyncio.Runner``, so entering the loop is not part of it. The process is pinned to
one core and the headline is *processor* time, which is the same as time on a quiet machine and hardly moves on a busy
one; a body that needs a second thread beside the loop, or waits, is not pinned and its headline is wall-clock time.
Called by the files in ``cases/``.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter, perf_counter_ns, process_time_ns

from bench import machine
from bench.contenders import FIELD, LOOPS, beat_uvloop
from bench.field import Field
from bench.model import Case, Metric, Sample, paragraph, register

BLOCK_SECONDS = 0.02
FIRST_COUNT = 200
FEWEST_BLOCKS = 3

Body = Callable[[int], Awaitable[None]]

CPU = Metric("cpu_ns", "CPU ns")
WALL = Metric("wall_ns", "wall-clock ns")

BODIES: dict[str, tuple[Body, int]] = {}  # case name to body and batch, for ``bench.instructions``


def timed(
    name: str,
    title: str,
    *,
    seconds: float = 0.3,
    quick: bool = False,
    target: float | None = None,
    pinned: bool = True,
    batch: int = 1,
    field: Field = FIELD,
) -> Callable[[Body], Body]:
    """Register the function below as a case that is measured in nanoseconds per operation.

    Args:
        pinned: keep the process on one core; False where threads should run side by side.
        batch: the body is given multiples of this.
        field: who takes part.
    """

    def decorate(body: Body) -> Body:
        def measure(contender: str, budget: float) -> Sample:
            if pinned:
                os.sched_setaffinity(0, {machine.cores()[0]})
            return LOOPS[contender].run(costs(body, budget, batch))

        BODIES[name] = body, batch
        metrics = (CPU, WALL) if pinned else (WALL, CPU)
        register(Case(name, title, paragraph(body), field, metrics, measure, seconds, quick, beat_uvloop(target)))
        return body

    return decorate


async def costs(body: Body, budget: float, batch: int = 1) -> Sample:
    """The medians over blocks of what one operation of ``body`` takes, in ns; lasts about ``budget`` seconds."""
    count = await _calibrate(body, batch)
    gc.collect()
    deadline = perf_counter() + budget
    blocks: list[tuple[int, int]] = []
    while perf_counter() < deadline or len(blocks) < FEWEST_BLOCKS:
        blocks.append(await _time(body, count))
    return {
        CPU.key: statistics.median(cpu for cpu, _ in blocks) / count,
        WALL.key: statistics.median(wall for _, wall in blocks) / count,
    }


async def _calibrate(body: Body, batch: int) -> int:
    """A count whose block lasts at least ``BLOCK_SECONDS``; running up to it also warms the caches."""
    count = multiple_of_batch(FIRST_COUNT, batch)
    while True:
        elapsed = (await _time(body, count))[1] / 1e9
        if elapsed >= BLOCK_SECONDS:
            return count
        wanted = int(count * BLOCK_SECONDS * 1.2 / max(elapsed, 1e-6))
        count = multiple_of_batch(min(max(wanted, count + 1), 10 * count), batch)


def multiple_of_batch(count: int, batch: int) -> int:
    """``count`` rounded up to a multiple of ``batch``."""
    return -(-count // batch) * batch


async def _time(body: Body, count: int) -> tuple[int, int]:
    """Processor and wall-clock time of one block, in ns; the former of all threads of the process."""
    wall, cpu = perf_counter_ns(), process_time_ns()
    await body(count)
    return process_time_ns() - cpu, perf_counter_ns() - wall
