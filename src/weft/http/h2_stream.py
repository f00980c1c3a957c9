"""One exchange over HTTP/2: a stream, with its request's body on the way up and its response on the way down.

Owns :class:`Stream`, which is the ``source`` of its ``Incoming``, and :class:`Upload`. Invariant: an ``Incoming`` hears
of its end once, and of nothing after that; what a reader has not taken is not offered to the peer again as window.
Made by :mod:`weft.http.h2`, which tells a stream what came and asks uploads for what can be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Protocol

from weft.http.errors import BodyError
from weft.http.h2_framing import STREAM_WINDOW, response_fields

__all__ = ["Owner", "Stream", "Upload"]

# Responses without content, whatever their fields say (RFC 9110, 6.4.1).
_EMPTY: Final = frozenset({204, 304})
# How much window is given back at once, in bytes: four frames of 13 bytes for each MiB, and never an empty window.
_CREDIT: Final = STREAM_WINDOW // 4


class Owner(Protocol):
    """What a stream asks of its connection."""

    def credit(self, stream: Stream, count: int) -> None:
        """Let the peer send ``count`` bytes more on the stream."""

    def abandon(self, stream: Stream) -> None:
        """Nobody wants the rest of the response."""

    def upload_moved(self) -> None:
        """There is more of a body to send."""

    def upload_failed(self, stream: Stream, error: BaseException) -> None:
        """The body cannot be sent to its end."""


class Stream:
    """One exchange.

    Args:
        owner: the connection.
        number: the stream's identifier.
        request: what was sent.
        incoming: where the response goes.
        packets: how many the connection had received before.
    """

    __slots__ = (
        "_credit", "_expected", "_owner", "_paused", "_received", "incoming", "is_answered", "is_empty", "number",
        "packets_before", "request", "upload",
    )  # fmt: skip

    def __init__(self, owner: Owner, number: int, request: Any, incoming: Any, packets: int) -> None:
        self._owner = owner
        self.number = number
        self.request = request
        self.incoming = incoming
        self.packets_before = packets
        self.upload: Upload | None = None
        self.is_answered = False
        self.is_empty = request.method == "HEAD"
        self._expected: int | None = None
        self._received = 0
        self._credit = 0
        self._paused = False

    def __repr__(self) -> str:
        state = "answered" if self.is_answered else "waits"
        return f"<Stream {self.number} {self.request.method} {self.request.url} {state}>"

    # -- what came -----------------------------------------------------------------------------------------------------

    def answer(self, fields: Iterable[tuple[bytes, bytes]], *, ended: bool) -> str | None:
        """The head of the response. Returns what is wrong with it, or None."""
        written, headers = response_fields(fields)
        if len(written) != 3 or not written.isdigit():
            return f"{written!r} is no status"
        status = int(written)
        self.is_empty = self.is_empty or status in _EMPTY
        if not self.is_empty and (length := headers.get("content-length")) is not None:
            self._expected = int(length)  # h2 has refused what is no number, and numbers that differ
        self.is_answered = True
        self.incoming.answer(status, headers, 20)
        if not ended:
            self.incoming.streams()
        return None

    def receive(self, data: bytes, charged: int) -> str | None:
        """A piece of the body, and what it took of the window. Returns what is wrong, or None."""
        self._credit += charged
        if data:
            if self.is_empty:
                return "a response that has no content came with some"
            self._received += len(data)
            self.incoming.feed(data)
        self._give()
        return None

    def check_end(self) -> str | None:
        """The response has ended. Returns what is missing, or None."""
        # h2 compares lengths where DATA ends the stream, and neither where HEADERS or trailers do.
        if self._expected is not None and self._received != self._expected:
            return f"the response ended after {self._received} bytes of {self._expected}"
        return None

    def _give(self) -> None:
        if not self._paused and self._credit >= _CREDIT:
            count, self._credit = self._credit, 0
            self._owner.credit(self, count)

    # -- for the reader of the response --------------------------------------------------------------------------------

    def pause(self) -> None:
        """The reader has enough for now: the peer may fill its window, and no more."""
        self._paused = True

    def resume(self) -> None:
        """The reader wants more."""
        self._paused = False
        self._give()

    def abandon(self) -> None:
        """The reader wants nothing more; the other streams of the connection go on."""
        self._owner.abandon(self)


class Upload:
    """The body of a request on its way. Silence is counted against the peer only while the peer is what it waits for.

    Args:
        owner: the connection.
        stream: whose body it is.
        loop: the event loop.

    Attributes:
        piece: what can be sent now.
        is_last: nothing comes after that.
    """

    __slots__ = ("_loop", "_owner", "_stream", "_taken", "_task", "is_last", "piece")

    def __init__(self, owner: Owner, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._stream = stream
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._taken: asyncio.Future[None] | None = None
        content = stream.request.body.content
        self.piece = memoryview(content or b"")
        self.is_last = content is not None

    def start(self) -> None:
        """Begin to read what comes in chunks."""
        if not self.is_last:
            self._stream.incoming.is_sending = True
            task = self._loop.create_task(self._run())
            if not task.done():  # with eager tasks it may be
                self._task = task

    @property
    def is_ready(self) -> bool:
        """Whether there is something to send, be it only the end."""
        return self.is_last or len(self.piece) > 0

    def cut(self, most: int) -> memoryview:
        """Take at most ``most`` bytes of the piece."""
        head, self.piece = self.piece[:most], self.piece[most:]
        if not self.piece and self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        return head

    def cancel(self) -> None:
        """Send no more of it."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._read()
        except Exception as error:
            self._task = None
            self._owner.upload_failed(self._stream, error)
        else:
            self.is_last = True
            self._stream.incoming.sent()
            self._owner.upload_moved()

    async def _read(self) -> None:
        request = self._stream.request
        left = request.body.length
        chunks = request.body.chunks()
        try:
            async for chunk in chunks:
                if left is not None:
                    left -= len(chunk)
                    if left < 0:
                        raise BodyError("the body is longer than its Content-Length", url=request.url)
                if chunk:
                    await self._offer(chunk)
        finally:
            # A generator that is stopped half way would be closed by the garbage collector, at some later time.
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()
        if left:
            raise BodyError(f"the body ended {left} bytes before its Content-Length", url=request.url)

    async def _offer(self, chunk: bytes) -> None:
        self.piece = memoryview(chunk)
        self._taken = self._loop.create_future()
        self._stream.incoming.sent()
        self._owner.upload_moved()
        await self._taken
        self._stream.incoming.is_sending = True
