"""The contenders of ``weft race``: for each one its name, what it needs, and how it sends the requests.

The loops are compared with the same client on each, and the clients on the same loop, weft. A new contender is a line
in the table, its client in ``clients``, its colour in ``plot``. Read by the race itself; ``worker`` calls
``runner_for``. Invariant: without that call no HTTP library is imported, and no loop of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from weft.cli.race import clients
from weft.cli.race.clients import Client, Done, Job

__all__ = ["CONTENDERS", "SEQUENTIAL_MOST", "STRONG", "Contender", "available", "missing", "runner_for"]

# One after another, 100 requests of 50 ms take 5 s, and 1000 would take a minute: that many are reckoned, not run.
SEQUENTIAL_MOST = 100

Send = Callable[[Job, Done], None]


class Contender(NamedTuple):
    """A way to send requests: with a function that does all of it, or with a client on a loop."""

    key: str
    name: str  # may have a place for the number of its threads
    library: str
    needs: tuple[str, ...]  # packages besides weft
    send: Send | None = None
    client: Client | None = None
    loop: str = ""  # the module whose ``new_event_loop`` makes it
    strong: bool = False  # stands out where results are shown

    @property
    def concurrent(self) -> bool:
        """Whether more than one of its requests is under way at a time."""
        return self.send is not clients.one_after_another

    def title(self, threads: int) -> str:
        """The name as people read it, with the number of threads where that matters."""
        of_threads = f"{threads} thread{'s' * (threads > 1)}"
        return f"{self.name.format(threads=of_threads)}, {self.library}"


def _coroutines(key: str, loop: str, library: str, client: Client, strong: bool = False) -> Contender:
    needs = tuple(name for name in (library, loop) if name not in OURS)
    return Contender(key, f"coroutines on {loop}", library, needs, client=client, loop=loop, strong=strong)


OURS = ("asyncio", "weft", "weft.http")  # are there wherever the race is

CONTENDERS = (
    Contender("sequential", "one after another", "requests", ("requests",), clients.one_after_another),
    Contender("threads", "pool of {threads}", "requests", ("requests",), clients.thread_pool),
    _coroutines("asyncio", "asyncio", "aiohttp", clients.aiohttp),
    _coroutines("uvloop", "uvloop", "aiohttp", clients.aiohttp),
    _coroutines("weft", "weft", "aiohttp", clients.aiohttp, strong=True),
    _coroutines("httpx2", "weft", "httpx2", clients.httpx2),
    _coroutines("pyreqwest", "weft", "pyreqwest", clients.pyreqwest),
    _coroutines("weft.http", "weft", "weft.http", clients.weft_http, strong=True),
)

STRONG = {contender.key for contender in CONTENDERS if contender.strong}


def missing(contenders: Iterable[Contender] = CONTENDERS) -> list[str]:
    """The packages that these need and that are not installed."""
    return [name for name in dict.fromkeys(name for each in contenders for name in each.needs) if not find_spec(name)]


def available(contender: Contender) -> bool:
    """Tells whether all that the contender needs is installed."""
    return not missing([contender])


def runner_for(key: str) -> Send:
    """Gives the function that sends a job's requests, its event loop made.

    Its first call, which imports the library and sets it up, is not the one to measure. Each opens new connections.
    """
    contender = {each.key: each for each in CONTENDERS}[key]
    if contender.send:
        return contender.send
    assert contender.client
    client = contender.client
    runner = asyncio.Runner(loop_factory=_loop_factory(contender.loop))
    runner.get_loop()
    return lambda job, done: runner.run(clients.at_once(client, job, done))


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    module: Any = import_module(name)
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory
