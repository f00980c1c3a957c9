"""What the scheduler costs: switches, tasks, wake-ups, callbacks, timers, threads.

Each function is the whole benchmark: it does ``count`` operations, and ``bench.timing`` divides. Its docstring is
the description in ``docs/benchmarks.md``. What a body adds of its own (a ``for`` over a range, a counter) is the
same for every loop and costs 10-40 ns.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from bench.timing import timed

TASKS = 100
TIMERS = 100
MANY_TIMERS = 10_000
BATCH = 1000


async def noop() -> None:
    """A coroutine that ends at once."""


def nothing() -> None:
    """A callback that does nothing."""


@timed("scheduler.sleep0", "`await sleep(0)`, one task", quick=True, target=2.8)
async def sleep_zero(count: int) -> None:
    """One task awaits `asyncio.sleep(0)` in a loop: one turn of the loop, one task step, one poll each."""
    sleep = asyncio.sleep
    for _ in range(count):
        await sleep(0)


@timed("scheduler.sleep0-100", "`await sleep(0)`, 100 tasks", batch=TASKS)
async def sleep_zero_many(count: int) -> None:
    """100 tasks do so side by side, so that one poll serves 100 steps: the cost of a switch alone."""
    rounds = range(count // TASKS)
    sleep = asyncio.sleep

    async def worker() -> None:
        for _ in rounds:
            await sleep(0)

    await asyncio.gather(*(worker() for _ in range(TASKS)))


@timed("scheduler.spawn", "`create_task` + await", quick=True, target=1.6)
async def spawn(count: int) -> None:
    """`await loop.create_task(noop())` in a loop: make a task, run it to its end, wake the waiter."""
    create_task = asyncio.get_running_loop().create_task
    for _ in range(count):
        await create_task(noop())


@timed("scheduler.future", "future wake-up", quick=True, target=2.4)
async def future_wakeup(count: int) -> None:
    """A new future is awaited, and `set_result` on it was given to `call_soon` just before."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


@timed("scheduler.call_soon", "`call_soon` chain", quick=True, target=3.5)
async def call_soon_chain(count: int) -> None:
    """A callback that passes itself to `call_soon` until the count is down: one handle and one turn each."""
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon
    done = loop.create_future()
    left = count

    def tick() -> None:
        nonlocal left
        left -= 1
        if left:
            call_soon(tick)
        else:
            done.set_result(None)

    call_soon(tick)
    await done


@timed("scheduler.call_soon-batch", "`call_soon`, 1000 at once", batch=BATCH)
async def call_soon_batch(count: int) -> None:
    """1000 callbacks that do nothing are given to `call_soon`, then one turn runs them all: push, call and free."""
    call_soon = asyncio.get_running_loop().call_soon
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            call_soon(nothing)
        await asyncio.sleep(0)


@timed("scheduler.call_later-cancel", "`call_later` + `cancel`", quick=True, target=3.0, batch=TIMERS)
async def call_later_cancel(count: int) -> None:
    """A timer one minute ahead is set and cancelled, as every timeout that does not fire; a turn of the loop follows
    each 100, so that the cost of getting rid of cancelled timers is in it.
    """
    call_later = asyncio.get_running_loop().call_later
    for _ in range(count // TIMERS):
        for _ in range(TIMERS):
            call_later(60, nothing).cancel()
        await asyncio.sleep(0)


@timed("scheduler.call_later-cancel-10k", "`call_later` + `cancel`, 10,000 per turn", batch=MANY_TIMERS)
async def call_later_cancel_many(count: int) -> None:
    """The same with 10,000 timers between two turns, which is hard on loops that clear up only in a turn."""
    call_later = asyncio.get_running_loop().call_later
    for _ in range(count // MANY_TIMERS):
        for _ in range(MANY_TIMERS):
            call_later(60, nothing).cancel()
        await asyncio.sleep(0)


@timed("scheduler.call_later-fire", "`call_later` that fires", batch=MANY_TIMERS)
async def call_later_fire(count: int) -> None:
    """10,000 timers, 1.0 to 1.5 ms ahead, no two alike, are set, which takes longer than that, and then waited for:
    set, sort, fire, hardly any waiting.
    """
    loop = asyncio.get_running_loop()
    delays = [1e-3 + 5e-8 * (index * 7919 % MANY_TIMERS) for index in range(MANY_TIMERS)]
    for _ in range(count // MANY_TIMERS):
        left = MANY_TIMERS
        done = loop.create_future()

        def fired() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)  # noqa: B023  awaited below, before the name is bound again

        for delay in delays:
            loop.call_later(delay, fired)
        await done


@timed("scheduler.threadsafe-own", "`call_soon_threadsafe` chain")
async def threadsafe_chain(count: int) -> None:
    """As the `call_soon` chain, with `call_soon_threadsafe` from the loop's own thread: the lock and the wake-up
    system calls that a loop makes, without the noise of a second thread.
    """
    loop = asyncio.get_running_loop()
    post = loop.call_soon_threadsafe
    done = loop.create_future()
    left = count

    def tick() -> None:
        nonlocal left
        left -= 1
        if left:
            post(tick)
        else:
            done.set_result(None)

    post(tick)
    await done


@timed("scheduler.threadsafe", "`call_soon_threadsafe`, another thread", pinned=False, batch=BATCH)
async def threadsafe_burst(count: int) -> None:
    """A second thread posts 1000 callbacks, waits until the loop has run them, and so on."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def poster() -> None:
        ran = threading.Event()
        for _ in range(count // BATCH):
            ran.clear()
            for _ in range(BATCH - 1):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(ran.set)
            ran.wait()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=poster)
    thread.start()
    await done
    thread.join()


@timed("scheduler.queue", "`asyncio.Queue` put + get")
async def queue_put_get(count: int) -> None:
    """One task puts and another gets, through an `asyncio.Queue` of size 1, so that each item makes both wait."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def producer() -> None:
        for item in range(count):
            await queue.put(item)

    task = asyncio.get_running_loop().create_task(producer())
    for _ in range(count):
        await queue.get()
    await task


@timed("scheduler.gather", "`gather` of 100 noops", batch=TASKS)
async def gather_noops(count: int) -> None:
    """`await asyncio.gather(...)` of 100 coroutines that end at once; the figure is per coroutine."""
    for _ in range(count // TASKS):
        await asyncio.gather(*(noop() for _ in range(TASKS)))


@timed("scheduler.executor", "`run_in_executor`", pinned=False)
async def run_in_executor(count: int) -> None:
    """`await loop.run_in_executor(pool, noop)` one after another, on a pool of one thread: two thread switches and
    one wake-up each.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(count):
            await loop.run_in_executor(pool, nothing)
