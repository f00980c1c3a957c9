"""The event loops that are compared, and how each is started.

A contender is named by its package; nothing here imports one before it is asked for, so that a measuring process
loads only the loop it measures. Every contender is driven by ``asyncio.Runner(loop_factory=...)``, the way in that
all of them share, except in the start-up case, which uses what the package itself recommends (``snippet``).
"""

from __future__ import annotations

import asyncio
import importlib
import platform
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from bench.field import Contender, Field, importable, python_is, version_of
from bench.model import Aim

T = TypeVar("T")

RUN_BY_FACTORY = """\
import asyncio, {0}
with asyncio.Runner(loop_factory={0}.new_event_loop) as runner:
    runner.run(main())
"""


@dataclass(frozen=True)
class Loop(Contender):
    """An event loop under test: ``package.new_event_loop()`` makes one; ``since`` is the oldest Python it takes."""

    snippet: str
    since: tuple[int, int] = (3, 11)

    def missing(self) -> str:
        """Empty when it is installed and this Python is new enough for it."""
        if not python_is(self.since):
            return f"needs Python {'.'.join(map(str, self.since))}"
        return "" if importable(self.name) else f"not installed: try `pip install {self.name}`"

    def versions(self) -> dict[str, str]:
        """The version of the package, or of Python for asyncio."""
        return {self.name: platform.python_version() if self.name == "asyncio" else version_of(self.name)}

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new loop of this kind; the caller closes it."""
        module = importlib.import_module(self.name)
        return cast(asyncio.AbstractEventLoop, module.new_event_loop())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` to its end on a new loop of this kind."""
        with asyncio.Runner(loop_factory=self.new_event_loop) as runner:
            return runner.run(main)


@dataclass(frozen=True)
class Accelerated(Loop):
    """weft's loop, with weft's primitives in the place of asyncio's."""

    def missing(self) -> str:
        """Empty when weft is installed."""
        return "" if importable("weft") else "not installed: try `pip install weft`"

    def versions(self) -> dict[str, str]:
        """That of weft."""
        return {"weft": version_of("weft")}

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new loop of weft's; the caller closes it."""
        return cast(asyncio.AbstractEventLoop, importlib.import_module("weft").new_event_loop())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` to its end, accelerated."""
        with importlib.import_module("weft").accelerate():
            return super().run(main)


LOOPS = {
    loop.name: loop
    for loop in (
        Loop("asyncio", "import asyncio\nasyncio.run(main())"),
        Loop("uvloop", "import uvloop\nuvloop.run(main())"),
        Loop("rloop", RUN_BY_FACTORY.format("rloop")),
        Loop("zuvloop", "import zuvloop\nzuvloop.run(main())", since=(3, 14)),
        Loop("rsloop", "import rsloop\nrsloop.run(main())"),
        Loop("weft", "import weft\nweft.run(main())"),
    )
}


FIELD = Field(tuple(LOOPS.values()), subject="weft", peers=("asyncio", "uvloop"))

ACCELERATED = Accelerated("weft+accelerate", "import weft\nweft.run(main(), accelerate=True)")
LOOPS[ACCELERATED.name] = ACCELERATED
# Whose primitives: asyncio's own on three loops, and weft's.
PRIMITIVES = Field(
    tuple(LOOPS[name] for name in ("asyncio", "uvloop", "weft", ACCELERATED.name)),
    subject=ACCELERATED.name,
    peers=("uvloop", "weft"),
)


def beat_uvloop(times: float | None) -> tuple[Aim, ...]:
    """The aims of a case that is to be so many times better than on uvloop; none for None."""
    return () if times is None else (Aim(times, "uvloop"),)
