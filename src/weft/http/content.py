"""A response's body as a stream, with the methods that users of aiohttp's ``response.content`` know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from weft.http.errors import IncompleteBodyError

__all__ = ["Content"]


class Pieces(Protocol):
    """What is asked of the response."""

    @property
    def url(self) -> Any: ...
    async def chunk(self) -> bytes: ...


class Content:
    """The body of ``response``, taken piece by piece. One reader at a time."""

    __slots__ = ("_is_ended", "_kept", "_response")

    def __init__(self, response: Pieces) -> None:
        self._response = response
        self._kept = b""
        self._is_ended = False

    async def _more(self) -> bool:
        if not self._is_ended:
            piece = await self._response.chunk()
            self._kept += piece
            self._is_ended = not piece
        return not self._is_ended

    def _take(self, size: int) -> bytes:
        data, self._kept = self._kept[:size], self._kept[size:]
        return data

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, at least one; all that is left if ``n`` is negative; b"" at the end."""
        if n < 0:
            pieces = [self._take(len(self._kept))]
            while piece := await self.readany():
                pieces.append(piece)
            return b"".join(pieces)
        while not self._kept and n and await self._more():
            pass
        return self._take(n)

    async def readany(self) -> bytes:
        """What has come, at least one byte; b"" at the end."""
        while not self._kept and await self._more():
            pass
        return self._take(len(self._kept))

    async def readexactly(self, n: int) -> bytes:
        """Exactly ``n`` bytes.

        Raises:
            IncompleteBodyError: the body ends before.
        """
        while len(self._kept) < n:
            if not await self._more():
                raise IncompleteBodyError(f"{n} bytes wanted, {len(self._kept)} left", url=self._response.url)
        return self._take(n)

    async def readline(self) -> bytes:
        """A line with its end, the last one perhaps without; b"" at the end."""
        searched = 0
        while (place := self._kept.find(b"\n", searched)) < 0:
            searched = len(self._kept)
            if not await self._more():
                return self._take(len(self._kept))
        return self._take(place + 1)

    def at_eof(self) -> bool:
        """Whether the end was seen."""
        return self._is_ended and not self._kept

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Pieces of up to ``n`` bytes."""
        while piece := await self.read(n):
            yield piece

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while piece := await self.readany():
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line
