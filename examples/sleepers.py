"""200 tasks that sleep 1 to 7 seconds each, and all have finished after 7 seconds.

A task that waits costs no thread and no time: all of them wait at once, and the longest decides.

    python examples/sleepers.py
    weft run examples/sleepers.py
    weft run examples/sleepers.py --tasks 100000 --scale 0.5
"""

import argparse
import asyncio
import random
import threading
import time
from collections import Counter


async def sleeper(seconds: int, scale: float) -> int:
    """Sleeps, and says for how long it was told to."""
    await asyncio.sleep(seconds * scale)
    return seconds


async def main(count: int, scale: float) -> None:
    """Starts all of them, and reports whenever another second has passed."""
    lengths = [random.randint(1, 7) for _ in range(count)]
    print(f"{count} tasks sleep 1 to 7 s each" + (f"; a second is cut to {scale:g} s" if scale != 1 else ""))
    started = time.perf_counter()
    tasks = [asyncio.create_task(sleeper(length, scale)) for length in lengths]

    waiting = set(tasks)
    for second in range(1, 9):
        if not waiting:
            break
        # In the middle between two seconds, so that a late timer is not counted to the next one.
        timeout = max(0.0, started + (second + 0.5) * scale - time.perf_counter())
        done, waiting = await asyncio.wait(waiting, timeout=timeout)
        print(f"after {second} s: {len(done):4} more are done, {len(waiting):4} still sleep")

    results = await asyncio.gather(*tasks)
    took = max(1e-9, time.perf_counter() - started)
    alone = sum(results) * scale
    print(", ".join(f"{n} slept {length} s" for length, n in sorted(Counter(results).items())))
    print(f"{len(results)} of {count} tasks are done, in {threading.active_count()} thread")
    print(f"together they took {took:.2f} s; one after another {alone:.2f} s, {alone / took:.0f} times as long")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tasks that sleep 1 to 7 seconds each, all at once.")
    parser.add_argument("--tasks", type=int, default=200, help="how many (200)")
    parser.add_argument("--scale", type=float, default=1.0, help="seconds that a second takes (1)")
    options = parser.parse_args()
    asyncio.run(main(options.tasks, options.scale))
