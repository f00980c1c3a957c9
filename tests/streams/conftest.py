"""The streams that the tests here run on: asyncio's and weft's, each on both loops.

Owns the fixture ``kind``. The invariant: asyncio's streams on asyncio's loop are the oracle; ``asyncio on weft`` is the
short way into them, ``weft on asyncio`` shows that ours need no loop of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import pytest

import weft
import weft.streams
from tests.conftest import LOOPS, LoopFactory

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """Streams of one make on one loop."""

    streams: ModuleType  # has asyncio's functions and classes
    new_loop: LoopFactory

    @property
    def ours(self) -> bool:
        """Whether the streams are weft's."""
        return self.streams is weft.streams

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on a new loop."""
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            return runner.run(main)

    def reader(self, limit: int = 2**16) -> Any:
        """A reader of the running loop that nothing feeds yet."""
        return self.streams.StreamReader(limit=limit, loop=asyncio.get_running_loop())


KINDS = {
    "asyncio": Kind(asyncio, LOOPS["asyncio"]),
    "weft": Kind(weft.streams, LOOPS["weft"]),
    "weft on asyncio": Kind(weft.streams, LOOPS["asyncio"]),
    "asyncio on weft": Kind(asyncio, LOOPS["weft"]),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Streams of asyncio or weft, on the loop of either."""
    return KINDS[request.param]
