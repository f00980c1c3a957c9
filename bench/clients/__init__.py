"""The HTTP clients that are compared, and how each is driven.

``perform(name, job)`` does a job with one of them in this process. The invariant: nothing here imports a client before
it is asked for, so that a measuring process holds only the one it measures (and the loop it runs on).
Called by ``bench.cases.http``; a new client is a driver in this package and its line in ``FIELD``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bench.clients import loads
from bench.clients.job import Done, Job
from bench.contenders import LOOPS
from bench.field import Contender, Field, importable, version_of


@dataclass(frozen=True)
class Client(Contender):
    """A client library: ``session`` is its driver (``module:function``), which needs ``modules`` of ``packages``."""

    session: str
    packages: tuple[str, ...]
    modules: tuple[str, ...] = ()
    loop: str = "asyncio"

    def missing(self) -> str:
        """Empty when its modules and its loop are installed."""
        if absent := [module for module in self.modules or self.packages if not importable(module)]:
            return f"cannot be imported ({', '.join(absent)}): try `pip install {' '.join(self.packages)}`"
        return LOOPS[self.loop].missing()

    def versions(self) -> dict[str, str]:
        """Of the library and of the loop."""
        return {package: version_of(package) for package in self.packages} | LOOPS[self.loop].versions()

    def perform(self, job: Job) -> Done:
        """Do a job on a new loop."""
        return LOOPS[self.loop].run(loads.perform(_found(self.session), job))


@dataclass(frozen=True)
class Library(Contender):
    """A client with no loop, whose driver does a job by itself; its name is that of its package."""

    driver: str

    def missing(self) -> str:
        """Empty when it is installed."""
        return "" if importable(self.name) else f"not installed: try `pip install {self.name}`"

    def versions(self) -> dict[str, str]:
        """Of the library."""
        return {self.name: version_of(self.name)}

    def perform(self, job: Job) -> Done:
        """Do a job."""
        done: Done = _found(self.driver)(job)
        return done


@dataclass(frozen=True)
class Program(Library):
    """A client that is a program of its own."""

    def missing(self) -> str:
        """Empty when it is installed."""
        return "" if shutil.which(self.name) else f"not installed (Debian: apt-get install {self.name})"

    def versions(self) -> dict[str, str]:
        """Nothing: what it says of itself is not worth a process."""
        return {}


@dataclass(frozen=True)
class Floor(Program):
    """A program in C that comes with the benchmarks."""

    def missing(self) -> str:
        """Nothing but a compiler, without which no case has a server either."""
        return ""


def _found(driver: str) -> Any:
    module, _, function = driver.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), function)


_WEFT = ("libraries:weft_http", ("weft",), ("weft.http.client",))
_BARE = ("bare:bare", ("httptools",), ())

FIELD = Field(
    contenders=(
        Client("aiohttp/asyncio", "libraries:aiohttp", ("aiohttp",)),
        Client("aiohttp/uvloop", "libraries:aiohttp", ("aiohttp",), loop="uvloop"),
        Client("aiohttp/weft", "libraries:aiohttp", ("aiohttp",), loop="weft"),
        Client("httpx2/asyncio", "libraries:httpx2", ("httpx2",)),
        Client("httpx/asyncio", "libraries:httpx", ("httpx",)),
        Client("pyreqwest/uvloop", "libraries:pyreqwest", ("pyreqwest",), loop="uvloop"),
        Client("wreq/uvloop", "libraries:wreq", ("wreq",), loop="uvloop"),
        Library("pycurl", "curl:perform"),
        Client("weft.http/asyncio", *_WEFT),
        Client("weft.http", *_WEFT, loop="weft"),
    ),
    subject="weft.http",
    peers=("aiohttp/uvloop", "pyreqwest/uvloop"),
    floors=(
        Program("wrk", "wrk:perform"),
        Client("bare/uvloop", *_BARE, loop="uvloop"),
        Client("bare/weft", *_BARE, loop="weft"),
    ),
    tall=True,
)

# Of a case in which wrk cannot take part: the least, and what is left for a client that computes too.
FLOORS = (Floor("C epoll client", "floor:perform"), Floor("C with 50 µs of work", "floor:perform_busy"))

# How clients are asked to perform; floors are asked as well.
PERFORMERS: dict[str, Client | Library] = {
    one.name: one for one in (*FIELD.everyone, *FLOORS) if isinstance(one, (Client, Library))
}


def perform(name: str, job: Job) -> Done:
    """Do a job with the client of that name."""
    return PERFORMERS[name].perform(job)
