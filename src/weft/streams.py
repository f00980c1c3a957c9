"""Streams: ``open_connection`` and ``start_server`` with readers and writers that are compiled.

asyncio's functions under asyncio's names; what they give has asyncio's methods, and costs less. They run on any asyncio
loop; on weft's, what comes goes from the transport to the reader without a Python frame. The invariant: for each
connection there are one reader, one writer, one protocol, and the writer is what holds them for the program.
Called by programs; docs/guide/streams.md is the guide.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from weft._core.reader import StreamReader
from weft._core.stream_protocol import StreamProtocol
from weft._core.writer import StreamWriter

__all__ = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]

DEFAULT_LIMIT = 64 * 1024  # asyncio's

ClientConnected: TypeAlias = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]
Streams: TypeAlias = tuple[StreamReader, StreamWriter]


class StreamReaderProtocol(StreamProtocol):
    """The protocol of a stream, for ``loop.create_connection`` and its like; see :class:`asyncio.StreamReaderProtocol`.

    Args:
        stream_reader: what gets the bytes.
        client_connected_cb: for a server: what to call with reader and writer.
        loop: the event loop; the current one if left out.
    """

    def __init__(
        self,
        stream_reader: StreamReader | None,
        client_connected_cb: ClientConnected | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(stream_reader, asyncio.get_event_loop() if loop is None else loop)
        self._client_connected_cb = client_connected_cb
        self._is_server = client_connected_cb is not None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :meth:`asyncio.BaseProtocol.connection_made`."""
        super().connection_made(transport)
        reader = self._stream_reader
        if self._client_connected_cb is None or reader is None:
            return
        writer = StreamWriter(transport, self, reader, self._loop)
        try:
            result = self._client_connected_cb(reader, writer)
        except Exception as error:
            self._report(transport, error)
            return
        if asyncio.iscoroutine(result):
            self._task = self._loop.create_task(result)
            self._task.add_done_callback(partial(self._served, transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        """See :meth:`asyncio.BaseProtocol.connection_lost`."""
        super().connection_lost(exc)
        self._task = None

    def _served(self, transport: asyncio.BaseTransport, task: asyncio.Task[None]) -> None:
        """The server's coroutine has ended; how it did decides about the connection."""
        if task.cancelled():
            transport.close()
        elif (error := task.exception()) is not None:
            self._report(transport, error)

    def _report(self, transport: asyncio.BaseTransport, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "Unhandled exception in client_connected_cb", "exception": error, "transport": transport}
        )
        transport.close()


async def open_connection(
    host: str | bytes | None = None, port: int | str | None = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> Streams:
    """Open a TCP connection; see :func:`asyncio.open_connection`.

    Args:
        host: name or address to connect to.
        port: number or service name.
        limit: the longest line that the reader gives, in bytes; the peer is stopped when twice as much is unread.
        **kwds: whatever else ``loop.create_connection`` takes: ``ssl``, ``sock``, ``happy_eyeballs_delay``, ...

    Returns:
        The reader and the writer.

    Raises:
        OSError: no address could be connected to, or TLS failed (``ssl.SSLError``).
        ValueError: *limit* is not positive, or arguments exclude each other.
    """
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)  # type: ignore[arg-type]
    return reader, StreamWriter(transport, protocol, reader, loop)


async def open_unix_connection(
    path: str | bytes | os.PathLike[str] | None = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> Streams:
    """Connect to the Unix domain socket at *path* (unix(7)); see :func:`asyncio.open_unix_connection`.

    *limit*, result and errors are those of ``open_connection``; *kwds* go to ``loop.create_unix_connection``.
    """
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)  # type: ignore[arg-type]
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: str | list[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Serve TCP connections; see :func:`asyncio.start_server`.

    Args:
        client_connected_cb: called with reader and writer of each connection; what a coroutine function returns becomes
            a task. When it raises, that goes to the loop's exception handler, and the connection is closed.
        host: addresses to listen at; None for all of this machine.
        port: number or service name.
        limit: the longest line that a reader gives, in bytes; a peer is stopped when twice as much is unread.
        **kwds: whatever else ``loop.create_server`` takes: ``ssl``, ``sock``, ``backlog``, ``reuse_port``, ...

    Raises:
        OSError: an address cannot be listened at.
        ValueError: arguments exclude each other.
    """
    loop = asyncio.get_running_loop()
    factory = _factory(client_connected_cb, limit, loop)
    return await loop.create_server(factory, host, port, **kwds)  # type: ignore[arg-type]


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Serve connections to a Unix domain socket at *path*; see :func:`asyncio.start_unix_server`.

    The other arguments are those of ``start_server``; *kwds* go to ``loop.create_unix_server``.
    """
    loop = asyncio.get_running_loop()
    factory = _factory(client_connected_cb, limit, loop)
    return await loop.create_unix_server(factory, path, **kwds)  # type: ignore[arg-type]


def _factory(
    client_connected_cb: ClientConnected, limit: int, loop: asyncio.AbstractEventLoop
) -> Callable[[], StreamReaderProtocol]:
    """What makes the protocol of each connection of a server."""

    def factory() -> StreamReaderProtocol:
        return StreamReaderProtocol(StreamReader(limit, loop), client_connected_cb, loop)

    return factory
