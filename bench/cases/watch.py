"""What the stall watch costs: a loop that is watched beside one that is not, busy and idle.

The field is weft twice, in processes that take turns. The invariant: both run the same compiled code; off means that
no watchdog looks at the loop, which stores its epoch all the same, as it always does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from time import perf_counter, process_time
from typing import Any, TypeVar

import weft
from bench import machine
from bench.cases.scheduler import call_soon_chain
from bench.field import Contender, Field
from bench.model import Case, Metric, Sample, paragraph, register
from bench.timing import CPU, WALL, costs

T = TypeVar("T")

ON, OFF = "watched", "unwatched"
FIELD = Field((Contender(ON), Contender(OFF)), subject=ON, peers=(OFF,))


def run(contender: str, main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` with the watch as usual, or without."""
    os.sched_setaffinity(0, {machine.cores()[0]})
    return weft.run(main, stall_threshold=0.1 if contender == ON else None)


def busy(contender: str, budget: float) -> Sample:
    """The `call_soon` chain, one callback per turn, with the watch on and off: processor time per callback, that of the
    watchdog's thread, on the same core, included.
    """
    return run(contender, costs(call_soon_chain, budget))


def idle(contender: str, budget: float) -> Sample:
    """A loop that sleeps: processor time of the whole process, in thousandths of the time that passes."""

    async def sleeps() -> Sample:
        await asyncio.sleep(0.5)  # the watchdog takes two looks before it parks
        cpu, wall = process_time(), perf_counter()
        await asyncio.sleep(budget)
        return {"permille": (process_time() - cpu) / (perf_counter() - wall) * 1000}

    return run(contender, sleeps())


register(Case("watch.cost", "`call_soon` chain", paragraph(busy), FIELD, (CPU, WALL), busy, 0.5))
register(Case("watch.idle", "an idle loop", paragraph(idle), FIELD, (Metric("permille", "‰ of a core"),), idle, 2.0))
