"""Blocks the loop: a lock of threading that another thread holds.

loop blocked 263 ms in task 'Task-1' at examples/pathologies/blocked_by_lock.py:27 in add(): lock.__enter__ (kernel:
futex); use asyncio.Lock, Event, Condition or Semaphore between tasks; asyncio.to_thread() to wait for a thread.
seen 1x

    python examples/pathologies/blocked_by_lock.py
"""

import asyncio
import threading
import time

import weft

lock = threading.Lock()


def work() -> None:
    """A thread that holds the lock for a while."""
    with lock:
        time.sleep(0.3)


async def add(numbers: list[int]) -> None:
    """Waits for the thread, and every other task with it."""
    with lock:  # should be: an asyncio.Lock between tasks; to a thread, a queue
        numbers.append(1)


async def main() -> None:
    """A thread and a task."""
    thread = asyncio.create_task(asyncio.to_thread(work))
    await asyncio.sleep(0.05)
    numbers: list[int] = []
    await add(numbers)
    await thread
    print(numbers)


if __name__ == "__main__":
    weft.run(main())
