"""The one door from ``weft fetch`` to ``weft.http``: makes the client, and makes a result of an item.

Invariant: whatever goes wrong with one URL becomes that item's result; only a sink that cannot write, and being
cancelled, get out. Called by the engine, which knows of a ``Fetcher`` only that it can be called.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from weft.cli.fetch.model import Item, Result, SinkError
from weft.cli.fetch.options import Options
from weft.cli.fetch.sinks.files import BodyFile, Files
from weft.http import Client, Limits, Retry, Timeout  # here: imported in the loop, they would block it
from weft.http.cookies import NoCookies

__all__ = ["ClientLike", "Fetcher", "ResponseLike", "make_client"]


class ResponseLike(Protocol):
    """What is used of a response of ``weft.http``."""

    @property
    def status(self) -> int: ...
    @property
    def url(self) -> Any: ...
    @property
    def headers(self) -> Any: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class ClientLike(Protocol):
    """What is used of a client of ``weft.http``."""

    def request(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[ResponseLike]: ...


def make_client(options: Options) -> Any:
    """A client for these options; it is closed by ``async with``."""
    given = {
        "total": options.timeout,
        "connect": options.connect_timeout,
        "first_byte": options.first_byte_timeout,
        "idle": options.idle_timeout,
    }
    times = {name: value or None for name, value in given.items() if value is not None}  # 0 is no limit
    return Client(
        headers=list(options.headers),
        timeout=Timeout(**times),
        limits=Limits(total=options.concurrency, per_host=options.per_host),
        retry=Retry.of(options.retries) if options.retries else Retry.none(),
        follow_redirects=options.redirects,
        tls=options.verify,
        proxy=options.proxy,
        cookie_jar=NoCookies(),  # what one URL answers must not depend on which others came before
    )


class _BodyTooLargeError(Exception):
    """More than ``--max-size``."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches items.

    Attributes:
        client: what makes the requests.
        options: how.
        files: where the bodies go; None: they stay with the results, where those go anywhere.
    """

    client: ClientLike
    options: Options
    files: Files | None = None

    async def __call__(self, item: Item) -> Result:
        """Fetches one.

        Raises:
            SinkError: when a body cannot be written to its file.
        """
        result = Result(item, time.time())
        if item.problem is not None:
            result.error, result.message = "InvalidURLError", item.problem
            return result
        start = time.perf_counter()
        try:
            await self._fetch(result, start)
        except SinkError:
            raise
        except Exception as exc:
            result.body = None  # not the whole
            result.error, result.message = type(exc).__name__.lstrip("_"), _message(exc)
        result.seconds = time.perf_counter() - start
        return result

    async def _fetch(self, result: Result, start: float) -> None:
        if self.files is None:
            await self._exchange(result, start, None)
            return
        async with self.files.body(result.item.url) as body:
            await self._exchange(result, start, body)
            if result.ok:  # a file that is there is a fetch that succeeded
                await body.finish()
                result.file = body.name

    async def _exchange(self, result: Result, start: float, file: BodyFile | None) -> None:
        options = self.options
        content = {} if options.data is None else {"content": options.data}
        async with self.client.request(options.method, result.item.url, **content) as response:
            result.first_byte = time.perf_counter() - start
            result.status = response.status
            result.final_url = str(response.url)
            if options.show_headers or options.db is not None:
                result.headers = list(response.headers.items())
            kept: list[bytes] | None = [] if file is None and options.body != "none" else None
            if kept is not None or options.db is not None:  # the client parses headers when they are first asked for
                result.charset = _charset(response.headers.get("Content-Type"))
            async for piece in self._pieces(response, result):
                if kept is not None:
                    kept.append(piece)
                elif file is not None and result.ok:
                    await file.write(piece)
        if kept is not None:
            result.body = b"".join(kept)

    async def _pieces(self, response: ResponseLike, result: Result) -> AsyncIterator[bytes]:
        most = self.options.max_size
        async for piece in response:
            result.size += len(piece)
            if most is not None and result.size > most:
                raise _BodyTooLargeError(f"the body is larger than --max-size {most}")
            yield piece


def _message(exc: BaseException) -> str:
    """The text of an error without the URL in front, which the result names anyway."""
    url = getattr(exc, "url", None)
    text = str(exc)
    return text.removeprefix(f"{url}: ") if url else text or type(exc).__name__


def _charset(content_type: str | None) -> str | None:
    """The charset parameter of a content type (RFC 9110, section 8.3.2)."""
    parameters: Iterable[str] = (content_type or "").split(";")[1:]
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'") or None
    return None
