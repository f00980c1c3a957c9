"""Sends a request's body that comes in pieces, over HTTP/1.1.

Invariant: what is sent is as long as was announced, or the exchange fails. A task of its own per body, started by
``H1Connection.exchange``, because the server may answer before it has everything.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from weft.http.errors import BodyError

if TYPE_CHECKING:
    from weft.http._wire.connection import H1Connection
    from weft.http._wire.incoming import Incoming

__all__ = ["send_body"]


async def send_body(connection: H1Connection, request: Any, incoming: Incoming) -> None:
    """Send the pieces of ``request.body`` by its length, or as chunks (RFC 9112, 7.1) where it has none."""
    try:
        await _send(connection, request)
    except Exception as error:
        connection.upload_failed(incoming, error)
    else:
        connection.upload_done(incoming)


async def _send(connection: H1Connection, request: Any) -> None:
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
