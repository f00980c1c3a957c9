"""A response's body into a file, without holding it.

Invariant: the file has its name only when it is complete; until then it stands beside it under another, and is removed
when the download fails. The file is written in a thread, piece by piece, while the next one comes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable
from typing import IO, Any

from weft.http.response import Response

__all__ = ["save"]

# What is gathered for one write, in bytes: a thread's turn costs as much as writing some 100 KiB.
BLOCK = 1 << 20


async def save(response: Response, path: str | os.PathLike[str]) -> int:
    """Write the body to ``path``; returns its length in bytes.

    Raises:
        HTTPError: the body did not come whole.
        OSError: the file cannot be written.
    """
    target = os.fspath(path)
    folder, base = os.path.split(target)
    name = os.path.join(folder, f".{base[:200]}.{secrets.token_hex(4)}.part")
    file = await asyncio.to_thread(open, name, "xb", buffering=0)
    try:
        size = await _copy(response, file)
        await asyncio.to_thread(_finish, file, name, target)
    except BaseException:
        file.close()
        os.unlink(name)
        raise
    return size


async def _copy(response: Response, file: IO[bytes]) -> int:
    size = 0
    writing: Awaitable[Any] | None = None
    pieces: list[bytes] = []
    gathered = 0
    try:
        async for piece in response:
            pieces.append(piece)
            gathered += len(piece)
            if gathered >= BLOCK:
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(asyncio.to_thread(_write, file, pieces))
                size += gathered
                pieces, gathered = [], 0
    finally:
        if writing is not None:
            # The thread must have let go of the file before it is closed, also when this task is cancelled.
            await asyncio.shield(asyncio.wait([writing]))  # type: ignore[type-var]
    if writing is not None:
        await writing
    if pieces:
        await asyncio.to_thread(_write, file, pieces)
    return size + gathered


def _write(file: IO[bytes], pieces: list[bytes]) -> None:
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]


def _finish(file: IO[bytes], name: str, target: str) -> None:
    file.close()
    os.replace(name, target)
