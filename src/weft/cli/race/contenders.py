"""The contenders of ``weft race``: for each one its name, and the code that sends the requests.

Invariant: all get the same chance. Each keeps its connections open, has as many of them as it can use at once, ignores
proxies and ``.netrc``, reads every body, and counts a status of 400 and above as a failure.
``done(None)`` or ``done(reason)`` is called after each request, from the main thread.
The table of contenders is read by the race itself; the code runs in ``worker``, one contender per process, and there
alone the HTTP libraries are imported.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    import requests

__all__ = ["CONTENDERS", "SEQUENTIAL_MOST", "Contender", "Done", "Job", "available", "runner_for"]

# One after another, 100 requests of 50 ms take 5 s, and 1000 would take a minute: that many are reckoned, not run.
SEQUENTIAL_MOST = 100

TIMEOUT = 60.0  # seconds for one request; aiohttp's default is 300, requests has none

Done = Callable[["str | None"], None]


class Job(TypedDict):
    """What a contender has to do."""

    url: str
    requests: int
    threads: int  # of the thread pool


class Contender(NamedTuple):
    """A way to send requests."""

    key: str
    name: str  # may have a place for the number of its threads
    library: str
    needs: tuple[str, ...]  # packages besides weft
    concurrent: bool = True

    def title(self, threads: int) -> str:
        """The name as people read it, with the number of threads where that matters."""
        of_threads = f"{threads} thread{'s' * (threads > 1)}"
        return f"{self.name.format(threads=of_threads)}, {self.library}"


CONTENDERS = (
    Contender("sequential", "one after another", "requests", ("requests",), concurrent=False),
    Contender("threads", "pool of {threads}", "requests", ("requests",)),
    Contender("asyncio", "coroutines on asyncio", "aiohttp", ("aiohttp",)),
    Contender("uvloop", "coroutines on uvloop", "aiohttp", ("aiohttp", "uvloop")),
    Contender("weft", "coroutines on weft", "aiohttp", ("aiohttp",)),
)


def available(contender: Contender) -> bool:
    """Tells whether all that the contender needs is installed."""
    from importlib.util import find_spec

    return all(find_spec(package) is not None for package in contender.needs)


def runner_for(key: str) -> Callable[[Job, Done], None]:
    """Gives the function that sends a job's requests, its event loop made.

    Its first call, which imports the library and sets it up, is not the one to measure. Each opens new connections.
    """
    if key in SYNCHRONOUS:
        return SYNCHRONOUS[key]
    runner = asyncio.Runner(loop_factory=_loop_factory(key))
    runner.get_loop()
    return lambda job, done: runner.run(_coroutines(job, done))


def _loop_factory(key: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if key == "asyncio":
        return asyncio.SelectorEventLoop
    module: Any = import_module(key)  # weft or uvloop
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def _one_after_another(job: Job, done: Done) -> None:
    with _session(1) as session:
        for _ in range(job["requests"]):
            done(_get(session, job["url"]))


def _thread_pool(job: Job, done: Done) -> None:
    from concurrent.futures import ThreadPoolExecutor

    # One session for all threads: its pool then keeps one connection for each of them.
    with _session(job["threads"]) as session, ThreadPoolExecutor(job["threads"]) as pool:
        for outcome in pool.map(lambda _: _get(session, job["url"]), range(job["requests"])):
            done(outcome)


SYNCHRONOUS = {"sequential": _one_after_another, "threads": _thread_pool}


def _session(connections: int) -> requests.Session:
    import requests.adapters

    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return session


def _get(session: requests.Session, url: str) -> str | None:
    import requests

    try:
        response = session.get(url, timeout=TIMEOUT)
    except (requests.RequestException, OSError) as exc:
        return _reason(exc)
    return f"HTTP status {response.status_code}" if response.status_code >= 400 else None


async def _coroutines(job: Job, done: Done) -> None:
    import aiohttp

    url = job["url"]
    connector = aiohttp.TCPConnector(limit=job["requests"])  # 100 by default, which would hold most of 1000 back
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)

    async def get() -> None:
        try:
            async with session.get(url) as response:
                await response.read()
        except (aiohttp.ClientError, OSError) as exc:  # a TimeoutError is an OSError
            done(_reason(exc))
        else:
            done(f"HTTP status {response.status}" if response.status >= 400 else None)

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(get() for _ in range(job["requests"])))


def _reason(exc: BaseException) -> str:
    """The innermost cause in a few words: the same for all libraries, so that failures can be counted by it."""
    cause: Any = exc
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__
    number = getattr(cause, "errno", None)  # its text is the same everywhere, what libraries say with it is not
    return f"{type(cause).__name__}: {os.strerror(number)}" if number else type(cause).__name__
