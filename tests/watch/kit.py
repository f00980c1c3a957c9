"""What the tests of lost work share: coroutines that fail, wait or swallow, and a run that gives what was found."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import weft
from weft.watch import lost
from weft.watch.lost import Finding

Run = Callable[[Coroutine[Any, Any, Any]], list[Finding]]
LOST, SWALLOWED = "lost exception", "swallowed cancellation"


class Halt(Exception):
    pass


def found_in(main: Coroutine[Any, Any, Any]) -> list[Finding]:
    """Run a coroutine on a weft loop without a garbage collection, and give what was found."""
    gc.collect()
    gc.disable()
    try:
        weft.run(main)
    finally:
        gc.enable()
    return lost.findings()


def kinds(found: list[Finding]) -> list[str]:
    return [finding.kind for finding in found]


async def fail() -> None:
    await asyncio.sleep(0)
    raise Halt


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def swallow() -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        await asyncio.sleep(0)


async def swallow_and_go_on() -> None:
    await swallow()
    await turns()
