"""Frames between a worker and its parent, over a socketpair.

A frame is a header (length of the rest, kind, seconds, number of indices), the indices of the jobs that it is about,
and a pickle of protocol 5. The indices stand outside the pickle, so that one which cannot be read still says whom it is
about.
Invariant: frames arrive whole, in order, and all that was sent before an end arrives before the end. Used by both
sides.
"""

from __future__ import annotations

import array
import asyncio
import struct
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple, cast

__all__ = ["Frame", "Kind", "Wire"]

HEADER = struct.Struct("<QBdI")
INDEX_SIZE = 8


class Kind(IntEnum):
    """What a frame says."""

    SETUP = 1  # to the worker: what to do, and how
    JOBS = 2  # to the worker: a list of items
    READY = 3  # from here on all come from the worker: send me jobs
    RESULTS = 4  # a list of pairs: whether it succeeded, and the value or the exception
    UNREADABLE = 5  # these items cannot be unpickled; the exception
    BROKEN = 6  # I cannot work at all; the exception
    AWAITS = 7  # the function gives awaitables, though it is no coroutine function: send me more at once


class Frame(NamedTuple):
    """What arrived."""

    kind: Kind
    seconds: float  # that the worker was at it
    indices: list[int]
    payload: bytes


class Wire(asyncio.Protocol):
    """One end.

    Args:
        on_frame: called with each frame.
        on_end: called once, when nothing more will come.
        on_writable: called when ``paused`` has become false.
    """

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        on_end: Callable[[], None],
        on_writable: Callable[[], None],
    ) -> None:
        self.paused = False
        self._on_frame = on_frame
        self._on_end = on_end
        self._on_writable = on_writable
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._wanted = HEADER.size

    def send(self, kind: Kind, payload: bytes = b"", indices: Iterable[int] = (), seconds: float = 0.0) -> None:
        """Sends a frame; one that comes after the end goes nowhere."""
        numbers = array.array("q", indices)
        header = HEADER.pack(len(numbers) * INDEX_SIZE + len(payload), kind, seconds, len(numbers))
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines((header, numbers.tobytes(), payload))

    def close(self) -> None:
        """Ends it, when what was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_end()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._on_writable()

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered < self._wanted:  # of a large frame: not joined before it is whole
            return
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        position = 0
        while True:
            rest = len(data) - position
            self._wanted = HEADER.size
            if rest < self._wanted:
                break
            length, kind, seconds, count = HEADER.unpack_from(data, position)
            self._wanted += length
            if rest < self._wanted:
                break
            start = position + HEADER.size
            middle, position = start + count * INDEX_SIZE, start + length
            indices = array.array("q", data[start:middle]).tolist()
            self._on_frame(Frame(Kind(kind), seconds, indices, data[middle:position]))
        self._pieces = [data[position:]] if rest else []
        self._gathered = rest
