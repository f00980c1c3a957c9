"""Blocks the loop: a time.sleep in a coroutine.

loop blocked 304 ms in task 'Task-2' at examples/pathologies/blocked_by_sleep.py:17 in poll(): time.sleep (kernel:
clock_nanosleep); use "await asyncio.sleep()" or asyncio.to_thread(). seen 1x

    python examples/pathologies/blocked_by_sleep.py
"""

import asyncio
import time

import weft


async def poll(number: int) -> int:
    """Asks something, and waits before it asks again."""
    time.sleep(0.3)  # should be: await asyncio.sleep(0.3)
    return number


async def main() -> None:
    """Three of them side by side take three times as long as one."""
    print(sum(await asyncio.gather(*map(poll, range(3)))))


if __name__ == "__main__":
    weft.run(main())
