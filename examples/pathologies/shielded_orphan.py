"""A shielded coroutine outlives who awaited it, and nobody has a reference to it: its result, or error, is lost.

weft run --report text examples/pathologies/shielded_orphan.py

shielded task without owner: task 'Task-3' goes on at shielded_orphan.py:17 in save(), and who awaited its shield()
was cancelled, spawned at shielded_orphan.py:23 in handle(); keep a reference to what is shielded, and await it at
the end
"""

import asyncio

import weft


async def save() -> None:
    """Must not be cancelled half way."""
    await asyncio.sleep(0.2)
    print("saved, and nobody knows")


async def handle() -> None:
    """Handle a request."""
    await asyncio.shield(save())


async def main() -> None:
    """The client goes away in the middle of the request."""
    request = asyncio.create_task(handle())
    await asyncio.sleep(0.05)
    request.cancel()
    await asyncio.wait([request])
    await asyncio.sleep(0.3)


if __name__ == "__main__":
    weft.run(main())
