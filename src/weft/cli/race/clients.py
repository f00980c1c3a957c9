"""How each library of ``weft race`` is asked for the same thing, as its own documentation shows it.

Invariant: all get the same chance. Each keeps its connections open, has as many of them as it can use at once, ignores
proxies and ``.netrc``, follows redirects, waits a minute for an answer, reads every body, and counts a status of 400
and above as a failure. ``done(None)`` or ``done(reason)`` is called after each request, from the main thread.
A library is imported by its own client alone. Named in the table of ``contenders``; run by ``worker``.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import requests

__all__ = [
    "Client",
    "Done",
    "Job",
    "aiohttp",
    "at_once",
    "httpx2",
    "one_after_another",
    "pyreqwest",
    "thread_pool",
    "weft_http",
]

TIMEOUT = 60.0  # seconds for one request; aiohttp's and weft.http's default is 300, httpx2's 5, requests has none

Done = Callable[["str | None"], None]


class Job(TypedDict):
    """What a contender has to do."""

    url: str
    requests: int
    threads: int  # of the thread pool


Get = Callable[[], Awaitable[int]]  # sends a request, reads the body, gives the status
Client = Callable[[Job], AbstractAsyncContextManager[Get]]


def one_after_another(job: Job, done: Done) -> None:
    """``requests``, one ``Session``."""
    with _session(1) as session:
        for _ in range(job["requests"]):
            done(_get(session, job["url"]))


def thread_pool(job: Job, done: Done) -> None:
    """``requests``, a ``ThreadPoolExecutor``."""
    from concurrent.futures import ThreadPoolExecutor

    # One session for all threads: its pool then keeps one connection for each of them.
    with _session(job["threads"]) as session, ThreadPoolExecutor(job["threads"]) as pool:
        for outcome in pool.map(lambda _: _get(session, job["url"]), range(job["requests"])):
            done(outcome)


def _session(connections: int) -> requests.Session:
    import requests.adapters

    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return session


def _get(session: requests.Session, url: str) -> str | None:
    try:
        return _verdict(session.get(url, timeout=TIMEOUT).status_code)
    except Exception as exc:  # whatever it is, the request has failed of it
        return _reason(exc)


async def at_once(client: Client, job: Job, done: Done) -> None:
    """All requests of a job as coroutines, each of which waits for its own answer."""

    async def request() -> None:
        try:
            verdict = _verdict(await get())
        except Exception as exc:
            verdict = _reason(exc)
        done(verdict)

    async with client(job) as get:
        await asyncio.gather(*(request() for _ in range(job["requests"])))


@asynccontextmanager
async def aiohttp(job: Job) -> AsyncIterator[Get]:
    """aiohttp, one ``ClientSession``."""
    import aiohttp as library

    url = job["url"]
    connector = library.TCPConnector(limit=job["requests"])  # 100 by default, which would hold most of 1000 back
    timeout = library.ClientTimeout(total=TIMEOUT)
    async with library.ClientSession(connector=connector, timeout=timeout) as session:

        async def get() -> int:
            async with session.get(url) as response:
                await response.read()
                return response.status

        yield get


@asynccontextmanager
async def httpx2(job: Job) -> AsyncIterator[Get]:
    """httpx2, one ``AsyncClient``.

    It keeps its limit of 100 connections: its pool looks at every connection for every request, so that 1000 requests
    with 1000 connections take it seven times as long.
    """
    import httpx2 as library

    url = job["url"]
    async with library.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=True) as client:

        async def get() -> int:
            status: int = (await client.get(url)).status_code  # annotated: mypy knows no type where it is not installed
            return status

        yield get


@asynccontextmanager
async def pyreqwest(job: Job) -> AsyncIterator[Get]:
    """pyreqwest: reqwest and tokio, in a thread beside the loop. It has no limit on connections."""
    from datetime import timedelta

    from pyreqwest.client import ClientBuilder
    from pyreqwest.exceptions import DetailedPyreqwestError

    url = job["url"]
    async with ClientBuilder().timeout(timedelta(seconds=TIMEOUT)).no_proxy().build() as client:

        async def get() -> int:
            try:
                response = await client.get(url).build().send()
                await response.bytes()
            except DetailedPyreqwestError as exc:
                raise exc from _system_error(exc.details["causes"] or ())
            status: int = response.status
            return status

        yield get


@asynccontextmanager
async def weft_http(job: Job) -> AsyncIterator[Get]:
    """``weft.http``, one ``Client``."""
    from weft import http

    url = job["url"]
    limits = http.Limits(total=job["requests"])  # 100 by default
    async with http.Client(limits=limits, timeout=TIMEOUT, trust_env=False) as client:

        async def get() -> int:
            response = await client.get(url)
            await response.read()
            return response.status

        yield get


def _verdict(status: int) -> str | None:
    return f"HTTP status {status}" if status >= 400 else None


def _reason(exc: BaseException) -> str:
    """The innermost cause in a few words: the same for all libraries, so that failures can be counted by it."""
    cause: Any = exc
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__
    number = getattr(cause, "errno", None)  # its text is the same everywhere, what libraries say with it is not
    return f"{type(cause).__name__}: {os.strerror(number)}" if number else type(cause).__name__


def _system_error(causes: Iterable[Mapping[str, Any]]) -> OSError | None:
    """The system's error among the causes, which come from Rust as words."""
    numbers = [re.search(r"\(os error (\d+)\)", cause["message"]) for cause in causes]
    return next((OSError(int(number[1]), os.strerror(int(number[1]))) for number in numbers if number), None)
