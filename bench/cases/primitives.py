"""What queues, locks, sleeps and their like cost: asyncio's own on three loops, and weft's in their place.

Every body says ``asyncio.Queue``, ``asyncio.sleep`` and so on; for the contender ``weft+accelerate`` these are weft's.
Each primitive is measured without contention, where nobody waits, and with, where everybody does.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from bench.contenders import PRIMITIVES
from bench.timing import timed

TASKS = 10
MANY = 100
VERY_MANY = 100_000

primitive = partial(timed, field=PRIMITIVES)


async def noop() -> None:
    """A coroutine that ends at once."""


# -- queues


@primitive("primitives.queue", "`Queue(1)` put + get, both wait", target=4.0, quick=True)
async def queue_contended(count: int) -> None:
    """One task puts and another gets, through a queue of size 1, so that each item makes both wait."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def producer() -> None:
        for item in range(count):
            await queue.put(item)

    task = asyncio.get_running_loop().create_task(producer())
    for _ in range(count):
        await queue.get()
    await task


async def put_and_get(queue: asyncio.Queue[Any], count: int) -> None:
    """Nobody waits."""
    for item in range(count):
        await queue.put(item)
        await queue.get()


@primitive("primitives.queue-free", "`Queue` put + get, nobody waits")
async def queue_free(count: int) -> None:
    """One task puts an item and gets it back; nobody has to wait for anything."""
    await put_and_get(asyncio.Queue(), count)


@primitive("primitives.lifo-free", "`LifoQueue` put + get, nobody waits")
async def lifo_free(count: int) -> None:
    """The same with a `LifoQueue`: one task puts an item and gets it back."""
    await put_and_get(asyncio.LifoQueue(), count)


@primitive("primitives.priority-free", "`PriorityQueue` put + get, nobody waits")
async def priority_free(count: int) -> None:
    """The same with a `PriorityQueue`: one task puts an item and gets it back."""
    await put_and_get(asyncio.PriorityQueue(), count)


# -- locks


async def hold_many_times(lock: Any, count: int) -> None:
    """Tasks that queue for a lock, and give way while they hold it."""

    async def holder() -> None:
        for _ in range(count // TASKS):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*(holder() for _ in range(TASKS)))


@primitive("primitives.lock-free", "`async with Lock()`, nobody waits")
async def lock_free(count: int) -> None:
    """One task takes a lock and gives it back; nobody has to wait."""
    lock = asyncio.Lock()
    for _ in range(count):
        async with lock:
            pass


@primitive("primitives.lock", "`async with Lock()`, 10 tasks", batch=TASKS)
async def lock_contended(count: int) -> None:
    """10 tasks take one lock in turns, and hold it over a `sleep(0)`."""
    await hold_many_times(asyncio.Lock(), count)


@primitive("primitives.semaphore-free", "`async with Semaphore()`, nobody waits")
async def semaphore_free(count: int) -> None:
    """One task takes a semaphore and gives it back."""
    semaphore = asyncio.Semaphore()
    for _ in range(count):
        async with semaphore:
            pass


@primitive("primitives.semaphore", "`async with Semaphore(3)`, 10 tasks", batch=TASKS)
async def semaphore_contended(count: int) -> None:
    """10 tasks take one semaphore of 3 in turns, and hold it over a `sleep(0)`."""
    await hold_many_times(asyncio.Semaphore(3), count)


@primitive("primitives.bounded", "`async with BoundedSemaphore(3)`, 10 tasks", batch=TASKS)
async def bounded_contended(count: int) -> None:
    """10 tasks take one `BoundedSemaphore` of 3 in turns, and hold it over a `sleep(0)`."""
    await hold_many_times(asyncio.BoundedSemaphore(3), count)


@primitive("primitives.event-free", "`Event.wait()`, set already")
async def event_free(count: int) -> None:
    """One task waits, again and again, for an event that is set."""
    event = asyncio.Event()
    event.set()
    for _ in range(count):
        await event.wait()


@primitive("primitives.event", "`Event`, set and waited for")
async def event_contended(count: int) -> None:
    """Two tasks wake each other in turns, each through an event of its own."""
    ping, pong = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        for _ in range(count):
            await ping.wait()
            ping.clear()
            pong.set()

    task = asyncio.get_running_loop().create_task(answer())
    for _ in range(count):
        ping.set()
        await pong.wait()
        pong.clear()
    await task


@primitive("primitives.condition", "`Condition`, notified and waited for")
async def condition_contended(count: int) -> None:
    """Two tasks notify each other in turns under one condition: each waits for it, and for its lock."""
    condition = asyncio.Condition()

    async def answer() -> None:
        async with condition:
            for _ in range(count):
                condition.notify()
                await condition.wait()
            condition.notify()

    task = asyncio.get_running_loop().create_task(answer())
    async with condition:
        for _ in range(count):
            condition.notify()
            await condition.wait()
        condition.notify()
    await task


@primitive("primitives.barrier", "`Barrier(10)`, 10 tasks", batch=TASKS)
async def barrier(count: int) -> None:
    """10 tasks wait for each other, again and again, so that all leave together."""
    meeting = asyncio.Barrier(TASKS)

    async def one() -> None:
        for _ in range(count // TASKS):
            await meeting.wait()

    await asyncio.gather(*(one() for _ in range(TASKS)))


# -- time


@primitive("primitives.sleep0", "`await sleep(0)`")
async def sleep_zero(count: int) -> None:
    """One task gives way again and again, as nothing else is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


@primitive("primitives.sleep", "100,000 `sleep(x)` in one `gather`", target=2.0, seconds=1.0, batch=VERY_MANY)
async def sleep_many(count: int) -> None:
    """100,000 sleeps of 1 to 11 ms, no two alike, side by side: make, sort, fire, and collect."""
    for _ in range(count // VERY_MANY):
        await asyncio.gather(*(asyncio.sleep(1e-3 + 1e-7 * (index * 7919 % VERY_MANY)) for index in range(VERY_MANY)))


@primitive("primitives.timeout", "`async with timeout(10)`")
async def timeout(count: int) -> None:
    """A time limit around nothing: set, and taken back at once."""
    for _ in range(count):
        async with asyncio.timeout(10):
            pass


@primitive("primitives.wait_for", "`wait_for(noop(), 10)`")
async def wait_for(count: int) -> None:
    """A time limit around a coroutine that ends at once."""
    for _ in range(count):
        await asyncio.wait_for(noop(), 10)


# -- tasks


@primitive("primitives.gather", "`gather` of 100 noops", batch=MANY)
async def gather(count: int) -> None:
    """100 coroutines that end at once; the figure is per coroutine."""
    for _ in range(count // MANY):
        await asyncio.gather(*(noop() for _ in range(MANY)))


@primitive("primitives.gather-100k", "`gather` of 100,000 noops", target=2.0, seconds=1.0, batch=VERY_MANY)
async def gather_many(count: int) -> None:
    """100,000 coroutines that end at once, in one call; the figure is per coroutine."""
    for _ in range(count // VERY_MANY):
        await asyncio.gather(*(noop() for _ in range(VERY_MANY)))


@primitive("primitives.taskgroup", "`TaskGroup` of 100 noops", batch=MANY)
async def taskgroup(count: int) -> None:
    """100 coroutines that end at once, in a group; the figure is per coroutine."""
    for _ in range(count // MANY):
        async with asyncio.TaskGroup() as group:
            for _ in range(MANY):
                group.create_task(noop())


@primitive("primitives.wait", "`wait` for 100 noops", batch=MANY)
async def wait(count: int) -> None:
    """100 tasks that end at once; the figure is per task, with its making."""
    for _ in range(count // MANY):
        await asyncio.wait([asyncio.ensure_future(noop()) for _ in range(MANY)])


@primitive("primitives.as_completed", "`as_completed` of 100 noops", batch=MANY)
async def as_completed(count: int) -> None:
    """100 tasks that end at once; the figure is per task, with its making."""
    for _ in range(count // MANY):
        for one in asyncio.as_completed([asyncio.ensure_future(noop()) for _ in range(MANY)]):
            await one


@primitive("primitives.shield", "`shield(noop())`")
async def shield(count: int) -> None:
    """A task of its own for a coroutine that ends at once."""
    for _ in range(count):
        await asyncio.shield(noop())
