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

    __slots__ = ("_at", "_is_ended", "_kept", "_response")

    def __init__(self, response: Pieces) -> None:
        self._response = response
        self._kept = b""
        self._at = 0  # up to where it was given
        self._is_ended = False

    @property
    def _left(self) -> int:
        return len(self._kept) - self._at

    async def _more(self) -> bool:
        if not self._is_ended:
            piece = await self._response.chunk()
            self._kept = self._kept[self._at :] + piece if self._left else piece
            self._at = 0
            self._is_ended = not piece
        return not self._is_ended

    def _take(self, size: int) -> bytes:
        data = self._kept if size == len(self._kept) and not self._at else self._kept[self._at : self._at + size]
        self._at += len(data)
        if not self._left:
            self._kept, self._at = b"", 0
        return data

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, at least one; all that is left if ``n`` is negative; b"" at the end."""
        if n < 0:
            pieces = [self._take(self._left)]
            while piece := await self.readany():
                pieces.append(piece)
            return b"".join(pieces)
        while not self._left and n and await self._more():
            pass
        return self._take(n)

    async def readany(self) -> bytes:
        """What has come, at least one byte; b"" at the end."""
        while not self._left and await self._more():
            pass
        return self._take(self._left)

    async def readchunk(self) -> tuple[bytes, bool]:
        """What has come, and True: where the server's chunks end says nothing (RFC 9112, 7.1)."""
        return await self.readany(), True

    async def readexactly(self, n: int) -> bytes:
        """Exactly ``n`` bytes.

        Raises:
            IncompleteBodyError: the body ends before.
        """
        pieces: list[bytes] = []
        missing = n
        while missing:
            if not self._left and not await self._more():
                text = f"{n} bytes wanted, {n - missing} left"
                self._kept, self._at = b"".join(pieces), 0
                raise IncompleteBodyError(text, url=self._response.url)
            pieces.append(self._take(missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    async def readline(self) -> bytes:
        """A line with its end, the last one perhaps without; b"" at the end."""
        searched = self._at
        while (place := self._kept.find(b"\n", searched)) < 0:
            searched = self._left
            if not await self._more():
                return self._take(self._left)
        return self._take(place + 1 - self._at)

    def at_eof(self) -> bool:
        """Whether the end was seen."""
        return self._is_ended and not self._left

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Pieces of up to ``n`` bytes."""
        while piece := await self.read(n):
            yield piece

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while piece := await self.readany():
            yield piece

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Pieces as they come; see :meth:`readchunk`."""
        while piece := await self.readany():
            yield piece, True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line
