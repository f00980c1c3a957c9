"""The event loops that are compared, and how each is started.

A contender is named by its package; nothing here imports one before it is asked for, so that a measuring process
loads only the loop it measures. Every contender is driven by ``asyncio.Runner(loop_factory=...)``, the way in that
all of them share, except in the start-up case, which uses what the package itself recommends (``snippet``).
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")

RUN_BY_FACTORY = """\
import asyncio, {0}
with asyncio.Runner(loop_factory={0}.new_event_loop) as runner:
    runner.run(main())
"""


@dataclass(frozen=True)
class Contender:
    """An event loop under test: ``package.new_event_loop()`` makes one; ``since`` is the oldest Python it takes."""

    name: str
    snippet: str
    since: tuple[int, int] = (3, 11)

    def available(self) -> bool:
        """Whether it is installed here and this Python is new enough for it."""
        if sys.version_info < self.since:
            return False
        spec = importlib.util.find_spec(self.name)
        return spec is not None and spec.origin is not None

    def version(self) -> str:
        """The version of the package, or of Python for asyncio."""
        if self.name == "asyncio":
            return platform.python_version()
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new loop of this kind; the caller closes it."""
        module = importlib.import_module(self.name)
        return cast(asyncio.AbstractEventLoop, module.new_event_loop())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` to its end on a new loop of this kind."""
        with asyncio.Runner(loop_factory=self.new_event_loop) as runner:
            return runner.run(main)


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("asyncio", "import asyncio\nasyncio.run(main())"),
        Contender("uvloop", "import uvloop\nuvloop.run(main())"),
        Contender("rloop", RUN_BY_FACTORY.format("rloop")),
        Contender("zuvloop", "import zuvloop\nzuvloop.run(main())", since=(3, 14)),
        Contender("rsloop", "import rsloop\nrsloop.run(main())"),
        Contender("weft", "import weft\nweft.run(main())"),
    )
}


def installed() -> list[str]:
    """The names of the contenders that can run here, in the order of the tables."""
    return [name for name, contender in CONTENDERS.items() if contender.available()]
