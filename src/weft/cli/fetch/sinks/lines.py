"""JSON lines, to a file or to standard output; and which URLs such a file holds.

Invariant: the file consists of whole lines. A batch is written by as few calls as the system takes; a line that a crash
cut short is cut off before anything is appended. Implements ``Sink``.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import stat
import sys
from collections.abc import Sequence
from typing import BinaryIO

from weft.cli.fetch.model import Refused, Result, SinkError
from weft.cli.fetch.sinks import records
from weft.cli.fetch.sinks.known import Known

__all__ = ["Lines"]

START = b'{"url":'  # what every record begins with
BLOCK = 1 << 20  # bytes to look through at a time for the last line's end
STANDARD_OUTPUT = 1


class Lines:
    """Writes results as JSON lines.

    Args:
        file: its name, ``"-"`` for standard output.
        body: how bodies are shown.
        show_headers: whether headers are.
        resume: append, and know what is there.

    Raises:
        Refused: when the file cannot be written, or is no such file.
    """

    def __init__(self, file: str, *, body: str = "auto", show_headers: bool = False, resume: bool = False) -> None:
        self._name = "standard output" if file == "-" else file
        self._body = body
        self._show_headers = show_headers
        self._owned = file != "-"
        self._known: Known | None = None
        if not self._owned and sys.stdout is None:  # closed by whoever started us: its number may be anything's by now
            raise Refused("cannot write standard output: it is closed")
        self._fd = self._open(file, resume) if self._owned else STANDARD_OUTPUT

    def done(self, urls: Sequence[str]) -> set[str]:
        return self._known.among(urls) if self._known is not None else set()

    def write(self, results: Sequence[Result]) -> None:
        try:
            _write(self._fd, b"".join(records.line(each, self._body, self._show_headers) for each in results))
        except OSError as exc:
            raise SinkError(f"cannot write {self._name}: {exc.strerror or exc}") from exc

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if self._known is not None:
            self._known.close()
        if self._owned and fd >= 0:
            os.close(fd)

    def _open(self, file: str, resume: bool) -> int:
        try:
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as exc:
            raise Refused(f"cannot write {file}: {exc.strerror or exc}") from None
        try:
            self._prepare(fd, resume)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _prepare(self, fd: int, resume: bool) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            if resume:
                raise Refused(f"cannot resume {self._name}: it is no regular file, so what was written to it is gone")
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{self._name} is in use by another weft fetch") from None
        except OSError:
            pass  # a file system without locks
        if not resume:
            os.ftruncate(fd, 0)
            return
        with open(os.dup(fd), "rb") as stream:
            stream.seek(0)
            self._known = _known(stream, self._name)
        os.ftruncate(fd, _end_of_last_line(fd))


def _known(stream: BinaryIO, name: str) -> Known:
    """The URLs of the records that succeeded.

    Raises:
        Refused: when there is a line that is no record: rather ask than append to somebody's file.
    """
    known = Known()
    try:
        for number, line in enumerate(stream, 1):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
                good = START.startswith(line[: len(START)]) if record is None else isinstance(record["ok"], bool)
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                raise Refused(f"cannot resume {name}: its line {number} was not written by weft fetch")
            if record is not None and record["ok"]:
                known.add(record["url"])
    except BaseException:
        known.close()
        raise
    return known


def _end_of_last_line(fd: int) -> int:
    position = os.fstat(fd).st_size
    while position > 0:
        start = max(position - BLOCK, 0)
        found = os.pread(fd, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:  # standard output can be a pipe that another process has made non-blocking
            select.select([], [fd], [])
