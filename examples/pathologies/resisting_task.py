"""A task that does not let itself be cancelled: ``asyncio.run`` would wait for it for ever.

weft run --report text examples/pathologies/resisting_task.py

shutdown: after 2 s still running: task 'poller' at resisting_task.py:22 in poll()
resisted shutdown: task 'poller' at resisting_task.py:22 in poll() was given up after 3 s; let CancelledError
through, and bound what cleaning up waits for
"""

import asyncio
import os

import weft

PATIENCE = float(os.environ.get("PATIENCE", "3"))  # seconds


async def poll() -> None:
    """Poll for ever, whatever happens."""
    while True:
        try:
            await asyncio.sleep(0.01)
        except BaseException:
            continue


async def main() -> None:
    """End, with the poller still at it."""
    asyncio.create_task(poll(), name="poller")  # noqa: RUF006
    await asyncio.sleep(0.05)
    print("main has ended")


if __name__ == "__main__":
    weft.run(main(), shutdown_timeout=PATIENCE)
