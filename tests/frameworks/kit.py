"""What the tests of the frameworks share: bodies that can be checked, a turn of waiting, processes with a bounded life.

Owns no state. Its one invariant: whatever is made here ends with the block that made it. Used by all of
``tests/frameworks``; the rest of weft's tests know nothing of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]

LIMIT = 30.0
"""Seconds after which a test gives up waiting for what should come at once; far more than a busy machine takes."""

BODY = bytes(range(251)) * 8192
"""2 MB: more than a socket's buffers take, and no power of two, so that a piece in the wrong place shows."""


def digest(data: bytes) -> str:
    """What stands for a body in a comparison: a failed one need not print megabytes."""
    return hashlib.sha256(data).hexdigest()


async def pieces(data: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    """A body in pieces, with a turn of the loop between them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def within(awaitable: Any) -> Any:
    """The result of what must come soon; fails instead of hanging."""
    return await asyncio.wait_for(awaitable, LIMIT)


async def until_held_back(
    write: Callable[[], Coroutine[Any, Any, Any]], transport: asyncio.WriteTransport
) -> tuple[int, asyncio.Task[Any]]:
    """Write until a write has to wait for the peer to read.

    Returns:
        How many writes were begun, and the last of them, which waits.
    """
    for count in range(1, 1000):
        writing = asyncio.ensure_future(write())
        # One that waits for the other side of the very same loop to read on is done in a moment; one that is held back
        # is not done however long one waits.
        done, _ = await asyncio.wait([writing], timeout=0.1)
        if not done and transport.get_write_buffer_size() > 0:
            return count, writing
        await writing
    raise AssertionError("nothing holds the writer back")


def free_port() -> int:
    """A TCP port on loopback that nobody used a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is killed when the block ends, if it has not ended by then, and is waited for either way."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, **options) as process:
        try:
            yield process
        finally:
            process.kill()
