"""A worker catches CancelledError and goes on: whoever has cancelled it waits for it, for ever perhaps.

weft run --report text examples/pathologies/swallowed_cancel.py

swallowed cancellation: task 'worker' was cancelled at swallowed_cancel.py:19 in worker() and goes on at
swallowed_cancel.py:19 in worker(), spawned at swallowed_cancel.py:26 in main(); raise CancelledError again, or
call uncancel()
"""

import asyncio

import weft


async def worker() -> None:
    """Let nothing stop it, for two rounds."""
    for _ in range(2):
        try:
            await asyncio.sleep(0.05)
        except BaseException as error:  # meant for errors of the work
            print(f"worker: {error!r}, and on we go")


async def main() -> None:
    """Cancel the worker once it has started."""
    task = asyncio.create_task(worker(), name="worker")
    await asyncio.sleep(0)
    task.cancel()
    await task
    print("cancelled:", task.cancelled())


if __name__ == "__main__":
    weft.run(main())
