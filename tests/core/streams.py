"""Stream transports over a socket pair, for tests: one end is the transport, the other a plain socket in our hands.

Invariant: every socket made here is closed by the end of the ``with`` block that made it.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from tests.core.kit import turns

Event: TypeAlias = tuple[Any, ...]

NOISE = random.Random(1).randbytes(1 << 20)  # any slice of it tells where it came from


class Log(asyncio.Protocol):
    """Notes what its transport tells it; ``keep_open`` is what it answers to the end of the stream."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.events: list[Event] = []
        self.data = bytearray()
        self.keep_open = keep_open
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append(("made",))

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data

    def eof_received(self) -> bool:
        self.events.append(("eof",))
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", type(exc).__name__))

    def pause_writing(self) -> None:
        self.events.append(("pause",))

    def resume_writing(self) -> None:
        self.events.append(("resume",))

    @property
    def is_lost(self) -> bool:
        return any(event[0] == "lost" for event in self.events)


class BufferedLog(asyncio.BufferedProtocol):
    """The same, with a buffer of its own of ``size`` bytes."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.lost: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(type(exc).__name__)


@contextmanager
def connected(
    loop: asyncio.AbstractEventLoop, protocol: Any = None, *, buffers: int | None = None
) -> Iterator[tuple[Any, Any, socket.socket]]:
    """A transport, its protocol (a ``Log`` if left out), and the peer: a plain socket that does not block."""
    ours, peer = socket.socketpair()
    for sock in (ours, peer):
        sock.setblocking(False)
        if buffers is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
    protocol = Log() if protocol is None else protocol
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        if not loop.is_closed():
            if not transport.is_closing():
                transport.abort()
            turns(loop, 3)


def until(loop: asyncio.AbstractEventLoop, condition: Callable[[], object]) -> None:
    """Turn until ``condition()`` holds. Whoever waits for the kernel here waits for a socket pair, which is quick."""
    for _ in range(100_000):
        if condition():
            return
        turns(loop)
    raise AssertionError(f"{condition} did not come true")


def received(loop: asyncio.AbstractEventLoop, peer: socket.socket, count: int) -> bytes:
    """The next ``count`` bytes that the peer gets (fewer at the end of the stream), with the loop turning meanwhile."""
    data = bytearray()

    def enough() -> bool:
        try:
            piece = peer.recv(count - len(data))
        except BlockingIOError:
            return False
        data.extend(piece)
        return not piece or len(data) == count

    until(loop, enough)
    return bytes(data)
