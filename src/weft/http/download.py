"""A response's body into a file, without holding it.

Invariant: the file has its name only when it is complete; until then it stands beside it under another, and is removed
when the download fails. The file is written in a thread, piece by piece, while the next one comes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
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
    part = Part(os.fspath(path))
    try:
        await in_thread(part.open)
        size = await _copy(response, part)
        await in_thread(part.complete)
    finally:
        # No thread is at it any more, however this ended.
        part.discard()
    return size


class Part:
    """The file that is being written. Its methods are for threads, one at a time."""

    def __init__(self, target: str) -> None:
        folder, base = os.path.split(target)
        self._target = target
        # So short that the name fits where the target's does.
        self._name = os.path.join(folder, f".{base[:32]}.{secrets.token_hex(4)}.part")
        self._file: IO[bytes] | None = None
        self._is_complete = False

    def open(self) -> None:
        try:
            self._file = open(self._name, "xb", buffering=0)  # noqa: SIM115  # closed by another method
        except OSError as error:
            # The name that the caller knows.
            raise OSError(error.errno, error.strerror, self._target) from None

    def write(self, pieces: list[bytes]) -> None:
        assert self._file is not None
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]

    def complete(self) -> None:
        """Close the file, and give it its name."""
        assert self._file is not None
        self._file.close()
        os.replace(self._name, self._target)
        self._is_complete = True

    def discard(self) -> None:
        """Remove the file, unless it is complete."""
        if self._file is not None and not self._is_complete:
            self._file.close()
            os.unlink(self._name)


async def _copy(response: Response, part: Part) -> int:
    size = gathered = 0
    writing: asyncio.Task[None] | None = None
    pieces: list[bytes] = []
    try:
        async for piece in response:
            pieces.append(piece)
            gathered += len(piece)
            if gathered >= BLOCK:
                if writing is not None:
                    await asyncio.shield(writing)
                writing = asyncio.create_task(in_thread(part.write, pieces))
                size += gathered
                pieces, gathered = [], 0
    finally:
        if writing is not None:
            await settled(writing)
    if writing is not None:
        writing.result()
    if pieces:
        await in_thread(part.write, pieces)
    return size + gathered


async def in_thread(function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function`` in a thread; when this is cancelled, it ends with the thread's work and not before."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await settled(future)
        raise


async def settled(future: asyncio.Future[Any]) -> None:
    """Wait until ``future`` is done, however often this is cancelled, and raise the cancellation then."""
    cancelled: BaseException | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if not future.cancelled():
        future.exception()  # seen
    if cancelled is not None:
        raise cancelled
