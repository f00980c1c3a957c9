"""A server of raw bytes for the tests of the client: each connection plays a script, and says what it received.

Owns nothing but the connections of one test. Its invariant: a connection for which there is no script fails the test,
as does an error in a script. A script that ends leaves its connection open until the client closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from tests.http.dialkit import serving
from weft.http import Client, Hooks

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
Script: TypeAlias = "Callable[[Peer], Awaitable[None]]"

LIMIT = 20.0
"""Seconds after which a test gives up waiting for what should come at once."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = b""
        self.ended = asyncio.Event()

    async def head(self) -> bytes:
        """The head of a request, as it came."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """A request as it came, with its body."""
        whole = head = await self.head()
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        if b"content-length" in fields:
            whole += await self.reader.readexactly(int(fields[b"content-length"]))
        elif b"transfer-encoding" in fields:
            whole += await self.reader.readuntil(b"0\r\n\r\n")
        self.received += whole
        return whole

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces one by one, with turns of the loop between them."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(3):
                await asyncio.sleep(0)

    async def answer(self, response: bytes = OK, times: int = 1) -> None:
        """Take a request and send a response, that often."""
        for _ in range(times):
            await self.request()
            await self.send(response)

    async def close(self) -> None:
        """Close the connection in good order."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Break the connection off: the client gets an RST (SO_LINGER of 0 s, socket(7))."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> bytes:
        """Wait until the client has closed; gives what it still sent."""
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                rest += data
        return rest


class RawServer:
    """What plays the scripts, and what came of it."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: list[Peer] = []

    async def asked(self) -> None:
        """Wait until a request has come."""
        async with asyncio.timeout(LIMIT):
            while not any(peer.received for peer in self.peers):
                await asyncio.sleep(0.001)

    def url(self, path: str = "/", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"


@contextlib.asynccontextmanager
async def playing(*scripts: Script, **options: Any) -> AsyncIterator[RawServer]:
    """A server whose connections play ``scripts``, one each."""
    server = RawServer()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        server.peers.append(peer)
        number = len(server.peers)
        assert number <= len(scripts), f"connection {number}, and there are {len(scripts)} scripts"
        try:
            await scripts[number - 1](peer)
            if not writer.transport.is_closing():
                await peer.gone()
        finally:
            peer.ended.set()

    async with serving(play, **options) as server.port:
        yield server


def always(response: bytes = OK) -> Script:
    """A script that answers every request with ``response``."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(response)

    return script


def once(*pieces: bytes) -> Script:
    """A script that answers one request with ``pieces``, and waits."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)

    return script


def counts(client: Client) -> tuple[int, int, int]:
    """How many connections there are, how many of them are idle, and how many wait for one."""
    pool = client.transport.pool  # type: ignore[attr-defined]  # of the network's transport
    return pool.count, sum(1 for _ in pool.idle()), pool.waiting


async def settled(client: Client, connections: int, idle: int, waiting: int = 0) -> None:
    """Wait until the pool has so many connections, so many of them idle, and so many who wait."""
    try:
        async with asyncio.timeout(LIMIT):
            while counts(client) != (connections, idle, waiting):
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"{counts(client)} instead of {(connections, idle, waiting)}") from None


async def within(awaitable: Awaitable[Any]) -> Any:
    """The result of what must come soon; fails instead of hanging."""
    async with asyncio.timeout(LIMIT):
        return await awaitable


class Recorded(Hooks):
    """Notes what the hooks were told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.traces: list[Any] = []

    def on_start(self, trace: Any) -> None:
        self.told.append("start")
        self.traces.append(trace)

    def on_connect(self, trace: Any) -> None:
        self.told.append("connect")

    def on_first_byte(self, trace: Any) -> None:
        self.told.append(f"first byte {trace.status}")

    def on_end(self, trace: Any) -> None:
        self.told.append(f"end {trace.status} {type(trace.error).__name__ if trace.error else 'well'}")
