"""A task fails, and nobody reads its exception: asyncio says so when the task is collected, which may be never.

weft says so one turn after the task has ended, also where the task is in a cycle with its own exception, as here:

    weft run --report text examples/pathologies/lost_exception.py

    lost exception: ValueError('no such user: 7') of task 'notify-7' at lost_exception.py:24 in notify() was never read,
    spawned at lost_exception.py:29 in main(); await the task, or read its exception in a done callback
"""

import asyncio
import gc

import weft

gc.disable()  # asyncio would not tell before the end


async def notify(user: int) -> None:
    """Fail, with a reference to its own task in a variable."""
    me = asyncio.current_task()
    assert me is not None
    await asyncio.sleep(0)
    raise ValueError(f"no such user: {user}")


async def main() -> None:
    """Start it and forget it."""
    asyncio.create_task(notify(7), name="notify-7")  # noqa: RUF006
    await asyncio.sleep(0.05)
    print("the program goes on")


if __name__ == "__main__":
    weft.run(main())
