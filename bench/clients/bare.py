"""The floor of HTTP clients in Python: the smallest ``asyncio.Protocol`` over ``httptools``, and nothing around it.

No URL, no pool, no timeouts, no headers kept, no redirects: the request is ready before the first one is sent, and a
connection that is free is popped from a list. The invariant: one request at a time per connection.
Called by ``bench.clients``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlsplit

from bench.clients.job import Job
from bench.clients.loads import Requests

READ = 256 * 1024  # bytes at a time, as much as asyncio and uvloop read for a plain Protocol


class Connection(asyncio.Protocol):
    """Sends what it is given, and wakes the one who waits when a response is complete."""

    def __init__(self, parser: Any) -> None:
        self.parser = parser(self)
        self.chunks: list[bytes] = []
        self.waiter: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future's result is how long the body was."""
        self.transport.write(request)
        self.waiter = self.loop.create_future()
        return self.waiter

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Called by httptools."""
        self.chunks.append(data)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        body = b"".join(self.chunks)
        self.chunks.clear()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(len(body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(exc or ConnectionResetError("the server closed the connection"))


class Drain(asyncio.BufferedProtocol):
    """Reads a response into one buffer over and over until the server closes, and counts the bytes of the body."""

    def __init__(self) -> None:
        self.buffer = bytearray(READ)
        self.received = -1  # until the head is there
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.received < 0:
            self.received = -self.buffer.index(b"\r\n\r\n") - 4  # the server sends a head in one piece
        self.received += nbytes

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(self.received)


@asynccontextmanager
async def bare(job: Job) -> AsyncIterator[Requests]:
    """A session of bare connections."""
    parser = import_module("httptools").HttpResponseParser
    parts = urlsplit(job.url)
    address = parts.hostname or "", parts.port or 0
    tls = job.tls()
    loop = asyncio.get_running_loop()
    free: list[Connection] = []
    everyone: list[Connection] = []
    get_request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: bare\r\n\r\n".encode()
    post_head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n".encode()

    async def exchange(request: bytes) -> int:
        if free:
            connection = free.pop()
        else:
            _, connection = await loop.create_connection(lambda: Connection(parser), *address, ssl=tls)
            everyone.append(connection)
        length = await connection.ask(request)
        free.append(connection)
        return length

    async def get() -> int:
        return await exchange(get_request)

    async def post() -> int:
        body = job.encoded()
        return await exchange(b"%bContent-Length: %d\r\n\r\n%b" % (post_head, len(body), body))

    async def download() -> int:
        transport, drain = await loop.create_connection(Drain, *address, ssl=tls)
        transport.write(get_request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return await drain.ended

    yield Requests(get, post, download)
    for connection in everyone:
        connection.transport.abort()
