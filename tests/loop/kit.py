"""What the tests of the loop share: a protocol that remembers, TLS contexts, an address that nobody can reach."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
Transport: TypeAlias = asyncio.Transport

DATA = bytes(range(256)) * 4096
"""1 MiB, for files: more than a Unix socket takes at once."""

CERTIFICATE = Path(__file__).with_name("localhost.pem")


class Recorder(asyncio.Protocol):
    """Remembers what a stream transport tells it; ``made`` and ``lost`` can be awaited."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.made: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.data = bytearray()
        self.eof = False
        self.arrived = asyncio.Event()

    @property
    def transport(self) -> asyncio.Transport:
        return self.made.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set_result(transport)  # type: ignore[arg-type]  # a stream's transport can do both

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.arrived.set()

    def eof_received(self) -> bool | None:
        self.eof = True
        self.arrived.set()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self.arrived.set()

    async def receive(self, count: int) -> bytes:
        """Wait for the first *count* bytes, or the end of the connection."""
        while len(self.data) < count and not self.lost.done():
            self.arrived.clear()
            await self.arrived.wait()
        return bytes(self.data)


class Peers(list[Recorder]):
    """A server's protocol factory that keeps what it made; ``next()`` waits for the next connection."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[Recorder] = asyncio.Queue()

    def __call__(self) -> Recorder:
        recorder = Recorder()
        self.append(recorder)
        self.queue.put_nowait(recorder)
        return recorder

    async def next(self) -> Recorder:
        recorder = await self.queue.get()
        await recorder.made
        return recorder


def address_of(server: asyncio.AbstractServer) -> Any:
    """Where the server's first socket listens."""
    return server.sockets[0].getsockname()  # type: ignore[attr-defined]  # of asyncio.Server


async def finish(server: asyncio.AbstractServer, *transports: asyncio.BaseTransport) -> None:
    """Close everything and wait until it is closed."""
    for transport in transports:
        transport.close()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)


def server_context() -> ssl.SSLContext:
    """A server's TLS parameters for ``localhost``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_context() -> ssl.SSLContext:
    """TLS parameters of a client that trusts ``server_context()``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    return context


def open_sockets() -> int:
    """How many sockets this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return count


@contextmanager
def unreachable() -> Iterator[Any]:
    """An address on loopback where connecting takes for ever: its listener's queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        with socket.create_connection(listener.getsockname()):
            yield listener.getsockname()


@contextmanager
def refused() -> Iterator[Any]:
    """An address on loopback where nobody listens: its port is taken by a socket that is only bound."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


def resolve_to(loop: asyncio.AbstractEventLoop, *addresses: Any) -> None:
    """Let every name resolve to *addresses*."""

    async def getaddrinfo(host: Any, port: Any, **hints: Any) -> list[Any]:
        kind = hints.get("type", socket.SOCK_STREAM)
        return [
            (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, kind, hints.get("proto", 0), "", address)
            for address in addresses
        ]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
