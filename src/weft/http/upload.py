"""Sends a request's body that comes in pieces, over HTTP/1.1.

Invariant: what is sent is as long as was announced, or the exchange fails. A task of its own per body, started by
``H1Connection.exchange``, because the server may answer before it has everything.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Protocol

from weft.http.errors import BodyError

__all__ = ["send_body"]


class Connection(Protocol):
    """What is asked of the connection."""

    def write(self, data: bytes) -> None: ...
    def drained(self) -> asyncio.Future[None] | None: ...
    def upload_failed(self, incoming: Any, error: Exception) -> None: ...
    def upload_done(self, incoming: Any) -> None: ...


async def send_body(connection: Connection, request: Any, incoming: Any) -> None:
    """Send the pieces of ``request.body`` by its length, or as chunks (RFC 9112, 7.1) where it has none."""
    try:
        await _send(connection, request)
    except Exception as error:
        connection.upload_failed(incoming, error)
    else:
        connection.upload_done(incoming)


async def _send(connection: Connection, request: Any) -> None:
    left = request.body.length
    async with aclosing(request.body.chunks()) as pieces:
        async for piece in pieces:
            if left is None:
                connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                left -= len(piece)
                if left < 0:
                    raise BodyError("the body is longer than its Content-Length", url=request.url)
                connection.write(piece)
            if (waiter := connection.drained()) is not None:
                await waiter
    if left:
        raise BodyError(f"the body ended {left} bytes before its Content-Length", url=request.url)
    if left is None:
        connection.write(b"0\r\n\r\n")
