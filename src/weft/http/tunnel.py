"""A connection after HTTP: what a 101 or a CONNECT leaves is a stream of bytes both ways.

Owns the transport from then on. ``read`` gives what comes, piece by piece; ``write`` and ``drain`` send. Made by the
connection that switched; used by WebSockets and by whoever asked for the upgrade.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Tunnel"]

# What may lie unread before the peer is stopped, in bytes.
HIGH_WATER = 256 * 1024


class Tunnel(asyncio.Protocol):
    """A stream of bytes both ways.

    Args:
        loop: the event loop.
        transport: the connection's.
        received: what came behind the head of the response.
        on_lost: called when the connection has ended, with the error or None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        received: bytes = b"",
        on_lost: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._on_lost = on_lost
        self._received: deque[bytes] = deque([received] if received else ())
        self._size = len(received)
        self._is_paused = False
        self._is_ended = False
        self._error: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<weft.http.Tunnel {'ended' if self._is_ended else 'open'} unread={self._size} {self._transport!r}>"

    async def read(self) -> bytes:
        """What has come, at least one byte; b"" at the end.

        Raises:
            ConnectionError: the connection broke.
        """
        while not self._received:
            if self._error is not None:
                raise self._error
            if self._is_ended:
                return b""
            if self._reader is not None:
                raise RuntimeError(f"{self!r} is read by another task: read it in one place")
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._received.popleft()
        self._size -= len(data)
        if self._is_paused and self._size < HIGH_WATER and not self._is_ended:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Send ``data`` without waiting."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until what was written has left as far as flow control asks.

        Raises:
            ConnectionError: the connection broke.
        """
        if self._error is not None:
            raise self._error
        if self._drained is not None:
            await asyncio.shield(self._drained)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Close when what was written has left."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See :meth:`asyncio.BaseTransport.get_extra_info`."""
        return self._transport.get_extra_info(name, default)

    # -- for the transport

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._size += len(data)
        self._wake()
        if self._size > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._is_ended = True
        self._wake()
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self._is_ended = True
        self._error = error
        self._wake()
        self.resume_writing()
        if self._on_lost is not None:
            self._on_lost(error)

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
