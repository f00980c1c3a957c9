"""A client of no network for the tests of ``weft fetch``: it answers by the words in the URL.

``/status/N``, ``/size/N``, ``/fail`` (a ConnectionError), ``/broken/N`` (the body breaks off after N bytes), ``/slow``
(waits for ``FakeClient.release``); anything else is answered with the URL as body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["FakeClient", "FakeResponse"]

PIECE = 1000


class FakeResponse:
    def __init__(self, url: str, status: int, body: bytes, broken: bool) -> None:
        self.url = url
        self.status = status
        self.headers = {"Content-Type": "text/plain; charset=utf-8"}
        self._body = body
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), PIECE):
            yield self._body[start : start + PIECE]
        if self._broken:
            raise ConnectionResetError("the connection ended before the body was complete")


class FakeClient:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.under_way = self.most_under_way = 0
        self.release = asyncio.Event()
        self.keep_calls = True

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    @asynccontextmanager
    async def request(self, method: str, url: str, **options: Any) -> AsyncIterator[FakeResponse]:
        if self.keep_calls:
            self.calls.append((method, url, options))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            yield await self._answer(url)
        finally:
            self.under_way -= 1

    async def _answer(self, url: str) -> FakeResponse:
        _, _, path = url.removeprefix("http://").partition("/")
        word, _, value = path.partition("/")
        if word == "fail":
            raise ConnectionRefusedError("nobody there")
        if word == "slow":
            await self.release.wait()
        body = b"x" * int(value) if word in ("size", "broken") else url.encode()
        return FakeResponse(url, int(value) if word == "status" else 200, body, word == "broken")
