"""What the tests of ``weft.map`` share: a function whose calls end when they are told to; a look at what is left."""

from __future__ import annotations

import asyncio
from typing import Any

import weft


class Gate:
    """A function whose calls end when they are let go; keeps count of who is inside."""

    def __init__(self) -> None:
        self.inside: dict[int, asyncio.Future[None]] = {}
        self.cancelled: list[int] = []
        self.most = 0

    async def __call__(self, number: int) -> int:
        self.inside[number] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self.inside))
        try:
            await self.inside[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            del self.inside[number]
        return number

    def open(self, number: int) -> None:
        self.inside[number].set_result(None)


async def settle() -> None:
    """Lets everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def others() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def list_of(results: weft.Map[Any]) -> list[Any]:
    """The results as a list, by a coroutine: something to make a task of."""
    return await results
