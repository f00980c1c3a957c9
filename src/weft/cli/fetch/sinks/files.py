"""A directory with one file for each body, named after the URL.

Invariant: a name that is there is a whole body of a fetch that succeeded: bodies grow in a temporary file, which is
renamed at the end. No URL leads out of the directory, and no two URLs have one name. Implements ``Sink``; its bodies
are written by ``weft.cli.fetch.http`` while they come.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from weft.cli.fetch.model import Refused, Result, SinkError

__all__ = ["BodyFile", "Files", "file_name"]

READABLE = 100  # characters of a name that are for people; with the rest it stays far below NAME_MAX, which is 255
DIGEST = 16  # bytes: two of 10^15 URLs share a digest with a probability of 10^-9
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
PIECE = 256 << 10  # bytes that are gathered before a thread writes them
THREADS = 4  # a disk has little use for more


def file_name(url: str) -> str:
    """A name for the body of a URL: what can be read of host and path, a digest of the whole, the path's suffix."""
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    except ValueError:
        host, path = "", ""
    suffix = os.path.splitext(path)[1]
    suffix = suffix if SUFFIX.fullmatch(suffix) else ""
    readable = UNSAFE.sub("_", f"{host}{path.removesuffix(suffix)}").strip("._-")[:READABLE]
    digest = blake2b(url.encode("utf-8", "surrogatepass"), digest_size=DIGEST).hexdigest()
    return f"{readable or 'body'}-{digest}{suffix}"


class Files:
    """The directory.

    Args:
        directory: its name; it is made if it is not there.

    Raises:
        Refused: when it cannot be made or written to.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._number = count()
        self._threads: ThreadPoolExecutor | None = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise Refused(f"cannot write to {directory}: {exc.strerror or exc}") from None
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise Refused(f"cannot write to {directory}: permission denied")

    def done(self, urls: Sequence[str]) -> set[str]:
        return {url for url in urls if (self._directory / file_name(url)).is_file()}

    def write(self, results: Sequence[Result]) -> None:
        """Nothing: the bodies are there already."""

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def body(self, url: str) -> BodyFile:
        """A place for a body that is about to come."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="weft-fetch-file")
        temporary = self._directory / f".weft-{os.getpid()}-{next(self._number)}.part"
        return BodyFile(self._threads, temporary, self._directory / file_name(url))


class BodyFile:
    """One body on its way to its file. Use it in ``async with``: what was not finished leaves nothing.

    Attributes:
        name: of the finished file, in its directory.
    """

    def __init__(self, threads: ThreadPoolExecutor, temporary: Path, final: Path) -> None:
        self._threads = threads
        self._temporary = temporary
        self._final = final
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._stream: BinaryIO | None = None
        self._under_way: asyncio.Future[None] | None = None
        self.name = final.name

    async def __aenter__(self) -> BodyFile:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._under_way is not None:
            await _end_of(self._under_way)
            self._under_way.exception()  # whoever was cancelled has not asked for it
        if self._stream is not None:
            self._stream.close()
            with suppress(OSError):
                self._temporary.unlink()

    async def write(self, data: bytes) -> None:
        """Takes a part of the body.

        Raises:
            SinkError: when it cannot be written.
        """
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered >= PIECE:
            await asyncio.shield(self._in_thread(finish=False))

    async def finish(self) -> None:
        """Gives the file its name: now it is there, as a whole.

        Being cancelled does not end this: otherwise a file could be there that no result tells of. Who awaits it finds
        in ``Task.cancelling`` that they were.

        Raises:
            SinkError: when it cannot be written.
        """
        under_way = self._in_thread(finish=True)
        await _end_of(under_way)
        under_way.result()

    def _in_thread(self, finish: bool) -> asyncio.Future[None]:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        loop = asyncio.get_running_loop()
        self._under_way = loop.run_in_executor(self._threads, self._work, pieces, finish)
        return self._under_way

    def _work(self, pieces: Sequence[bytes], finish: bool) -> None:
        try:
            if self._stream is None:
                self._stream = open(self._temporary, "wb", buffering=0)  # noqa: SIM115  # see __aexit__
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[self._stream.write(rest) :]
            if finish:
                self._stream.close()
                os.replace(self._temporary, self._final)
                self._stream = None
        except OSError as exc:
            raise SinkError(f"cannot write {self._final}: {exc.strerror or exc}") from exc


async def _end_of(future: asyncio.Future[None]) -> None:
    """Waits for a thread, however often we are cancelled: it cannot be stopped anyway."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
