"""A coroutine is called and not awaited: it never begins. Python warns, with the line where it was noticed.

weft run --report text examples/pathologies/never_awaited.py

coroutine never awaited: save() was made at never_awaited.py:21 in main() and never awaited; await it, or make a task
of it
"""

import asyncio

import weft


async def save() -> None:
    """Look as if it did something."""
    print("saved")


async def main() -> None:
    """Forget an ``await``."""
    save()  # type: ignore[unused-coroutine]  # indeed
    await asyncio.sleep(0)


if __name__ == "__main__":
    weft.run(main())
