"""Where the URLs come from: arguments first, then the lines of a file or of standard input, as they are wanted.

Invariant: memory holds one block of the file, however long the file or a line of it is, and nothing here blocks the
loop: a regular file is read in a thread, a pipe or terminal when it has something to give. A line that cannot be a URL
becomes an item with a ``problem``, and its number. Called by the engine's feed.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import stat
from collections.abc import Sequence
from itertools import islice

from weft.cli.fetch.model import Item, Refused

__all__ = ["Source"]

STANDARD_INPUT = 0
BLOCK = 64 << 10  # bytes read at a time: what a pipe holds, and about a thousand URLs
LINE = 64 << 10  # bytes; no server takes a URL of that length (nginx: 8 KiB, Apache: 8 KiB)
BATCH = 1000  # arguments at a time


class Source:
    """The items, in batches, as they come.

    Args:
        urls: those of the command line.
        file: a file's name, ``"-"`` for standard input, or None.

    Raises:
        Refused: when the file cannot be opened.
    """

    def __init__(self, urls: Sequence[str], file: str | None) -> None:
        self._urls = iter(urls)
        self._lines = _Lines()
        self._fd: int | None = None if file is None else _open(file)
        self._owned = file not in (None, "-")
        self._regular = False
        self._size = 0
        self._read = 0
        if self._fd is not None:
            status = os.fstat(self._fd)
            self._regular, self._size = stat.S_ISREG(status.st_mode), status.st_size

    @property
    def fraction(self) -> float | None:
        """How much of the file has been read, between 0 and 1; None where nobody knows how long it is."""
        return min(self._read / self._size, 1.0) if self._regular and self._size else None

    async def batch(self) -> list[Item]:
        """The next items, at least one; an empty list at the end.

        Raises:
            Refused: when the file cannot be read.
        """
        if items := [_argument(url.strip()) for url in islice(self._urls, BATCH)]:
            return items
        while self._fd is not None and not items:
            block = await self._next_block(self._fd)
            self._read += len(block)
            items = self._lines.feed(block) if block else self._lines.finish()
            if not block:
                self.close()
        return items

    def close(self) -> None:
        """Closes the file. May be called again."""
        fd, self._fd = self._fd, None
        if fd is not None and self._owned:
            os.close(fd)

    async def _next_block(self, fd: int) -> bytes:
        try:
            if not self._regular:
                await _readable(fd)
                return os.read(fd, BLOCK)
            return await asyncio.to_thread(os.read, fd, BLOCK)
        except BlockingIOError:  # somebody else, who shares the pipe, was faster
            return await self._next_block(fd)
        except OSError as exc:
            raise Refused(f"cannot read the URLs: {exc.strerror or exc}") from None


def _open(file: str) -> int:
    try:
        if file == "-":
            os.fstat(STANDARD_INPUT)  # it can be closed
            return STANDARD_INPUT
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise Refused(f"cannot read {file}: {exc.strerror or exc}") from None


def _argument(url: str) -> Item:
    try:
        url.encode()
    except UnicodeEncodeError:  # the bytes of an argument that is not in the locale's coding
        return Item(url.encode("utf-8", "backslashreplace").decode(), problem="not UTF-8")
    return Item(url)


async def _readable(fd: int) -> None:
    """Waits until a read would not block. What epoll cannot watch (``/dev/null``) never does."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    except PermissionError:
        return
    try:
        await ready
    finally:
        loop.remove_reader(fd)


class _Lines:
    """Makes items of blocks of bytes."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._skipping = False  # the rest of a line that was too long

    def feed(self, block: bytes) -> list[Item]:
        *lines, self._rest = (self._rest + block).split(b"\n")
        items = []
        for line in lines:
            if self._skipping:
                self._skipping = False
            else:
                self._number += 1
                items += self._item(line)
        if len(self._rest) > LINE:
            if not self._skipping:
                self._number += 1
                items += self._item(self._rest)
                self._skipping = True
            self._rest = b""
        return items

    def finish(self) -> list[Item]:
        rest, self._rest = self._rest, b""
        self._number += 1
        return [] if self._skipping else self._item(rest)

    def _item(self, line: bytes) -> list[Item]:
        if self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        line = line.strip()
        if not line or line.startswith(b"#"):
            return []
        shown = line[:200].decode("utf-8", "backslashreplace")
        if len(line) > LINE:
            return [Item(f"{shown}...", self._number, f"longer than {LINE} bytes")]
        try:
            return [Item(line.decode("utf-8"), self._number)]
        except UnicodeDecodeError:
            return [Item(shown, self._number, "not UTF-8")]
