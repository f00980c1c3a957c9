"""A thread of the executor never returns: Python would wait for it at the end of the process, for ever.

weft run --report text examples/pathologies/stuck_thread.py

shutdown: after 2 s still running: thread 'asyncio_0' at stuck_thread.py:21 in listen()
thread that does not return: thread 'asyncio_0' at stuck_thread.py:21 in listen() was left behind after 3 s; give the
call a time limit, or an Event that ends it
"""

import asyncio
import os
import threading

import weft

PATIENCE = float(os.environ.get("PATIENCE", "3"))  # seconds


def listen() -> None:
    """Wait for what never comes."""
    threading.Event().wait()


async def main() -> None:
    """End, with the thread still at it."""
    asyncio.get_running_loop().run_in_executor(None, listen)
    await asyncio.sleep(0.05)
    print("main has ended")


if __name__ == "__main__":
    weft.run(main(), shutdown_timeout=PATIENCE)
