"""What the tests of TLS share: three loops (asyncio; weft over each engine), and a peer that the test drives."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.loop.kit import Peers, address_of, client_context, server_context
from weft import new_event_loop


@pytest.fixture(params=["asyncio", "direct", "bio"])
def new_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """As the fixture of this name that all tests have, but weft runs twice, once over each engine of its TLS."""
    if request.param == "asyncio":
        return asyncio.SelectorEventLoop
    from weft._core.tls_engine import why_not_direct

    if request.param == "direct" and (reason := why_not_direct()):
        pytest.skip(f"OpenSSL cannot be called directly: {reason}")
    monkeypatch.setenv("WEFT_TLS", request.param)
    return new_event_loop


class Peer:
    """A TLS peer over a plain socket: what it says, when and in which pieces, is the test's to choose."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, **options: Any) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)

    async def flush(self, piece: int = 1 << 20) -> None:
        """Send what is to be sent, *piece* bytes at a time, each of which the other side sees by itself."""
        loop = asyncio.get_running_loop()
        data = self.outgoing.read()
        for start in range(0, len(data), piece):
            await loop.sock_sendall(self.sock, data[start : start + piece])
            await asyncio.sleep(0)

    async def step(self, action: Callable[..., Any], *arguments: Any, piece: int = 1 << 20) -> Any:
        """Do *action* with what has to be sent and received for it; ConnectionError when the other side is gone."""
        while True:
            try:
                result = action(*arguments)
            except ssl.SSLWantReadError:
                await self.flush(piece)
                data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
                if not data:
                    raise ConnectionError("the other side has gone") from None
                self.incoming.write(data)
            else:
                await self.flush(piece)
                return result

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        data = b""
        while len(data) < count:
            data += await self.step(self.tls.read, count - len(data))
        return data

    async def send(self, data: bytes, piece: int = 1 << 20) -> None:
        """Encrypt and send *data*."""
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        await self.flush(piece)


@asynccontextmanager
async def peer_of_a_server(server: asyncio.AbstractServer, *, handshake: bool = True) -> AsyncIterator[Peer]:
    """A client that the test drives, connected to *server*."""
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address_of(server))
        peer = Peer(sock, client_context(), server_hostname="localhost")
        if handshake:
            await peer.step(peer.tls.do_handshake)
        yield peer


async def tls_server(factory: Callable[[], Any], **options: Any) -> asyncio.Server:
    """A TLS server on loopback."""
    options.setdefault("ssl", server_context())
    return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **options)


@asynccontextmanager
async def connected(factory: Callable[[], Any], **options: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
    """Both ends of a TLS connection in this loop: our transport, our protocol, and the server's protocol."""
    server = await tls_server(peers := Peers(), **options)
    transport, protocol = await asyncio.get_running_loop().create_connection(
        factory, *address_of(server), ssl=client_context(), server_hostname="localhost"
    )
    peer = await peers.next()
    try:
        yield transport, protocol, peer
    finally:
        transport.close()
        await asyncio.gather(peer.lost, protocol.lost)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)
