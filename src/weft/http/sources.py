"""Where the bytes of a request's body come from: memory, a file, an iterable, an async iterable.

Owns the reading of what a caller gave, and who closes it: a file object that the caller opened stays open, what is
opened here is closed here. Its invariant: a source never gives an empty chunk (it would end a chunked body), and a
source with a length gives exactly so many bytes or raises. Made by body.py and multipart.py.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import io
import os
import stat
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, cast

from weft.http.errors import BodyError

CHUNK = 256 * 1024  # Bytes per read of a file: a hop to a thread costs some 50 µs, so aiohttp's 64 KiB would be slower.


class Source:
    """Bytes to be sent, read piece by piece.

    Attributes:
        length: how many bytes it gives; None where that shows only at the end.
        replayable: whether it can be read from its beginning again.
    """

    __slots__ = ("length", "replayable")

    def __init__(self, length: int | None, replayable: bool) -> None:
        self.length = length
        self.replayable = replayable

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes, in pieces that are not empty. Who stops early calls ``aclose()`` on the iterator."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what this source opened; it cannot be read afterwards. Can be called twice."""


def source_of(value: Any) -> bytes | Source:
    """What ``value`` gives: bytes if it is in memory, else a source.

    Args:
        value: bytes, bytearray, memoryview, str (sent as UTF-8), a path object, a file object (also one whose ``read``
            is a coroutine), an iterable or an async iterable of bytes.

    Raises:
        BodyError: it is none of those, or a file that is closed.
        OSError: a path that cannot be looked at.
    """
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case bytearray() | memoryview():
            return bytes(value)
        case os.PathLike():
            return PathSource(value)
        case io.BytesIO() if not value.closed:
            # Not read(): the same object can then make the body of the next request as well.
            return value.getvalue()[value.tell() :]
    # aiohttp's StreamReader iterates by line; the same bytes come in larger pieces here.
    if hasattr(value, "iter_any"):
        return AsyncSource(value.iter_any())
    if hasattr(value, "read"):
        if hasattr(value, "__aiter__") or inspect.iscoroutinefunction(value.read):
            return AsyncSource(_read_all(value))
        return FileSource(value)
    if hasattr(value, "__aiter__"):
        return AsyncSource(value)
    if hasattr(value, "__iter__") and not isinstance(value, Mapping):
        return IterableSource(value)
    raise BodyError(
        f"a body cannot be made of {type(value).__name__}: give bytes, str, a file, a path, or an iterable of bytes"
    )


def as_bytes(piece: Any, origin: Any) -> bytes:
    """One piece of a body as bytes; text as UTF-8.

    Raises:
        BodyError: ``piece``, which came from ``origin``, is something else.
    """
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise BodyError(f"{_described(origin)} gave {type(piece).__name__} where bytes are needed")


def _described(origin: Any) -> str:
    name = getattr(origin, "name", None)
    return repr(name) if isinstance(name, str) else f"the body's {type(origin).__name__}"


class _OncePerPass(Source):
    """What the sources share that run out: a second pass is refused unless the origin can start again."""

    __slots__ = ("_origin", "_spent")

    def __init__(self, origin: Any, length: int | None, replayable: bool) -> None:
        super().__init__(length, replayable)
        self._origin = origin
        self._spent = False

    def _begin(self) -> None:
        if self._spent:
            raise BodyError(
                f"{_described(self._origin)} was read already and cannot be read again: "
                "pass bytes, a path, or an object whose iteration can start over"
            )
        self._spent = not self.replayable

    def close(self) -> None:
        self.replayable = False
        self._spent = True


class IterableSource(_OncePerPass):
    """An iterable of bytes. It runs in the loop's thread, between two writes."""

    __slots__ = ()

    def __init__(self, origin: Iterable[Any]) -> None:
        super().__init__(origin, None, not hasattr(origin, "__next__"))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        self._begin()
        iterator = iter(self._origin)
        try:
            for piece in iterator:
                if data := as_bytes(piece, self._origin):
                    yield data
        finally:
            # A generator that nobody will resume gives back what it holds now, not when it is collected.
            if hasattr(iterator, "close"):
                iterator.close()


class AsyncSource(_OncePerPass):
    """An async iterable of bytes."""

    __slots__ = ()

    def __init__(self, origin: Any) -> None:
        super().__init__(origin, None, not hasattr(origin, "__anext__"))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        self._begin()
        iterator = aiter(self._origin)
        try:
            async for piece in iterator:
                if data := as_bytes(piece, self._origin):
                    yield data
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()


async def _read_all(file: Any) -> AsyncGenerator[bytes, None]:
    """What a file gives whose ``read`` is a coroutine (``aiofiles``, ``asyncio.StreamReader``)."""
    while data := await file.read(CHUNK):
        yield as_bytes(data, file)


class FileSource(_OncePerPass):
    """A file object of the caller's, from where it stands; it is read in threads and not closed."""

    __slots__ = ("_start",)

    def __init__(self, file: Any) -> None:
        # What `tempfile` wraps around a file hides what it is.
        file = file.file if isinstance(file, tempfile._TemporaryFileWrapper) else file
        if getattr(file, "closed", False):
            raise BodyError(f"{_described(file)} is closed: keep the file open until the response is there")
        seekable = bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek")
        self._start = file.tell() if seekable else 0
        super().__init__(file, _length_left(file, self._start, seekable), seekable)

    def chunks(self) -> AsyncGenerator[bytes, None]:
        self._begin()
        if self.replayable:
            self._origin.seek(self._start)
        return _read_in_threads(self._origin, self.length)


class PathSource(_OncePerPass):
    """A file that is opened for each pass and closed at the pass's end."""

    __slots__ = ("_opened",)

    def __init__(self, path: os.PathLike[str]) -> None:
        name = os.fspath(path)
        found = os.stat(name)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        regular = stat.S_ISREG(found.st_mode)
        super().__init__(path, found.st_size if regular else None, regular)
        self._opened: set[_Handle] = set()

    def chunks(self) -> AsyncGenerator[bytes, None]:
        self._begin()
        handle = _Handle(os.fspath(self._origin))
        self._opened.add(handle)

        def done() -> None:
            self._opened.discard(handle)
            handle.close()

        return _read_in_threads(handle, self.length, done)

    def close(self) -> None:
        super().close()
        while self._opened:
            self._opened.pop().close()


class _Handle:
    """A file opened for one pass and read in threads. It is closed once, also while a read is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._file: io.FileIO | None = None
        self._closed = False
        self._lock = threading.Lock()

    def read(self, size: int) -> bytes:
        try:
            with self._lock:
                if self._closed:
                    raise BodyError(f"{self.name!r} was closed while it was read")
                if self._file is None:
                    self._file = open(self.name, "rb", buffering=0)  # noqa: SIM115
                return self._file.read(size)
        finally:
            # A cancelled task does not wait for its thread: whoever comes last closes.
            if self._closed:
                self.close()

    def close(self) -> None:
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                if self._file is not None:
                    self._file.close()
            finally:
                self._lock.release()


async def _read_in_threads(
    file: Any, length: int | None, done: Callable[[], None] = lambda: None
) -> AsyncGenerator[bytes, None]:
    """What a file gives until it gives nothing; with a length exactly that much, however the file has changed."""
    left = length
    try:
        while left is None or left:
            # A file that grew since its length was announced is cut off: as much is sent as was promised.
            size = CHUNK if left is None else min(CHUNK, left)
            data = as_bytes(await asyncio.to_thread(file.read, size), file)[:left]
            if not data:
                if left:
                    raise BodyError(f"{_described(file)} ended {left} bytes short of the {length} it had before")
                return
            if left is not None:
                left -= len(data)
            yield data
    finally:
        done()


def _length_left(file: Any, start: int, seekable: bool) -> int | None:
    """How many bytes a file object has from ``start`` on, where that can be told without reading it."""
    raw = getattr(file, "raw", file)
    if isinstance(raw, io.FileIO):
        found = os.fstat(raw.fileno())
        return max(0, found.st_size - start) if stat.S_ISREG(found.st_mode) else None
    # The end of what unpacks while it reads is found by unpacking it all; that of text is no count of bytes.
    if not seekable or isinstance(file, io.BufferedIOBase | io.TextIOBase):
        return None
    try:
        end = cast("int | None", file.seek(0, os.SEEK_END))
        end = file.tell() if end is None else end
        file.seek(start)
    except (OSError, ValueError):
        return None
    return max(0, end - start) if isinstance(end, int) else None
