"""A loop leaves an asynchronous generator with ``break``: its ``finally`` runs some time later, in another task.

weft run --report text examples/pathologies/generator_left.py

generator never closed: rows() was dropped before its end, at generator_left.py:19 in rows(); use `async with
contextlib.aclosing(...)`
"""

import asyncio
from collections.abc import AsyncIterator

import weft


async def rows() -> AsyncIterator[int]:
    """Rows of a table, with a connection to give back at the end."""
    try:
        for number in range(10):
            yield number
            await asyncio.sleep(0)
    finally:
        print("the connection is given back")


async def main() -> None:
    """Look at the first row only."""
    async for row in rows():
        print("row", row)
        break
    print("the loop is over")
    await asyncio.sleep(0.05)


if __name__ == "__main__":
    weft.run(main())
