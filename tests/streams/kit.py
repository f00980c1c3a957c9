"""Connections for the tests of streams: both ends of one, over a socket pair or a server; transports that only note.

The invariant: what is opened here is closed, and waited for, by the end of the ``async with`` block.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.streams.conftest import Kind

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets the connection


async def settle() -> None:
    """Let everything go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Transport(asyncio.Transport):
    """Notes whether it was told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


async def end(writer: Any) -> None:
    """Close, and wait until that is done; how it ends is no matter."""
    writer.close()
    with contextlib.suppress(OSError, BufferError):
        await writer.wait_closed()


@asynccontextmanager
async def pair(kind: Kind, *, limit: int = 2**16, buffers: int | None = None) -> AsyncIterator[tuple[Any, Any, Any]]:
    """Reader and writer of one end, and the other end: a plain socket that does not block."""
    ours, peer = socket.socketpair()
    if buffers is not None:
        for sock in (ours, peer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
    peer.setblocking(False)
    reader, writer = await kind.streams.open_unix_connection(sock=ours, limit=limit)
    try:
        yield reader, writer, peer
    finally:
        peer.close()
        await end(writer)


async def shut(server: Any) -> None:
    """Close a server, and wait for the tasks of its connections: up to 3.11 it does not."""
    server.close()
    await server.wait_closed()
    await until(lambda: len(asyncio.all_tasks()) == 1)


@asynccontextmanager
async def serving(kind: Kind, handler: Callable[[Any, Any], Any], **options: Any) -> AsyncIterator[int]:
    """A server on a free port of loopback, which is given."""
    server = await kind.streams.start_server(handler, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await shut(server)


@asynccontextmanager
async def connected(kind: Kind, port: int, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A connection to a server."""
    reader, writer = await kind.streams.open_connection("127.0.0.1", port, **options)
    try:
        yield reader, writer
    finally:
        await end(writer)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until ``condition()`` holds; a kernel that must do something first is given time for it."""
    for turn in range(20_000):
        if condition():
            return
        await asyncio.sleep(0 if turn < 1000 else 0.001)
    raise AssertionError(f"{condition} did not come true")


def reports() -> list[dict[str, Any]]:
    """From now on, what the running loop reports goes to this list."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found
