"""asyncio's primitives under weft's name: which of them are weft's own, and which are asyncio's.

Those of weft's own are at least 1.5 times as fast as asyncio's on the same loop; the others are asyncio's objects,
because measured they were not (docs/guide/accelerate.md has the figures). The invariant: each name here can stand where
asyncio's stands. ``weft`` exports the names; ``accelerate`` puts ``FUNCTIONS`` and ``CLASSES`` in asyncio's place.
"""

from __future__ import annotations

import asyncio
from asyncio import Barrier, TaskGroup, as_completed, shield, wait, wait_for
from typing import Any

from weft._core.conditions import Condition
from weft._core.gathering import gather
from weft._core.locks import BoundedSemaphore, Event, Lock, Semaphore
from weft._core.queue import LifoQueue, PriorityQueue, Queue
from weft._core.sleeping import sleep
from weft._core.timeouts import Timeout, timeout, timeout_at

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "Semaphore",
    "TaskGroup",
    "Timeout",
    "as_completed",
    "gather",
    "shield",
    "sleep",
    "timeout",
    "timeout_at",
    "wait",
    "wait_for",
]

#: asyncio's functions, and weft's own for them.
FUNCTIONS: dict[Any, Any] = {
    asyncio.gather: gather,
    asyncio.sleep: sleep,
    asyncio.timeout: timeout,
    asyncio.timeout_at: timeout_at,
}
#: asyncio's classes, and weft's own, which derive from them.
CLASSES: dict[type, type] = {
    asyncio.BoundedSemaphore: BoundedSemaphore,
    asyncio.Condition: Condition,
    asyncio.Event: Event,
    asyncio.LifoQueue: LifoQueue,
    asyncio.Lock: Lock,
    asyncio.PriorityQueue: PriorityQueue,
    asyncio.Queue: Queue,
    asyncio.Semaphore: Semaphore,
    asyncio.Timeout: Timeout,
}
