"""What the tests of HTTP/2 share: a server of ``h2`` in memory, and an exchange whose every word is remembered.

Owns :class:`Pair`, a connection of ours and that server with no network between them: bytes move when the test says so,
cut as the test says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection as Framing
from h2.events import DataReceived, Event, StreamEnded
from h2.settings import SettingCodes, Settings

from weft.http.body import Body
from weft.http.h2 import H2Connection
from weft.http.headers import Headers
from weft.http.outgoing import Request
from weft.http.url import URL

E = TypeVar("E", bound=Event)
Fields = list[tuple[str, str]]


@dataclass
class FakeBody:
    """A body of a request in chunks, which the test can look at."""

    content: None = None
    length: int | None = None
    pieces: Any = ()
    content_type: str | None = None
    replayable: bool = True
    closed: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            if hasattr(self.pieces, "__aiter__"):
                async for piece in self.pieces:
                    yield piece
            else:
                for piece in self.pieces:
                    yield piece
        finally:
            self.closed = True


def whole(content: bytes) -> Body:
    """A body that is there as a whole."""
    return Body(content)


def make(method: str = "GET", target: str = "/", headers: Fields | None = None, body: Any = None) -> Request:
    """A request to the server in memory."""
    return Request(method, URL(f"https://example.com{target}"), Headers(headers or []), body)


class FakeIncoming:
    """Remembers what it is told, and fails the test if that makes no sense."""

    def __init__(self, high_water: int | None = None) -> None:
        self.source: Any = None
        self.status = 0
        self.headers = Headers()
        self.body = bytearray()
        self.trailer: bytes | None = None
        self.error: BaseException | None = None
        self.is_complete = False
        self.is_streamed = False
        self.is_sending = False
        self.progress: list[bool] = []
        self.high_water = high_water
        self.ended = asyncio.Event()
        self.moved = asyncio.Event()

    def _alive(self) -> None:
        assert not self.ended.is_set(), "told something after the end"
        self.moved.set()

    def answer(self, status: int, headers: Headers, version: int = 20) -> None:
        self._alive()
        assert self.status == 0, "answered twice"
        assert version == 20
        self.status, self.headers = status, headers

    def streams(self) -> None:
        self._alive()
        self.is_streamed = True

    def sent(self) -> None:
        self._alive()
        self.is_sending = False
        self.progress.append(True)

    def feed(self, data: bytes) -> None:
        self._alive()
        assert self.status, "a body before its head"
        assert type(data) is bytes
        assert data
        self.body += data
        if self.high_water is not None and len(self.body) > self.high_water:
            self.high_water = None
            self.source.pause()

    def keep_trailer(self, trailer: bytes) -> None:
        self._alive()
        self.trailer = trailer

    def finish(self) -> None:
        self._alive()
        assert self.status, "ended before its head"
        self.is_complete = True
        self.ended.set()

    def fail(self, error: BaseException) -> None:
        self._alive()
        self.error = error
        self.ended.set()

    @property
    def result(self) -> tuple[Any, ...]:
        """What the exchange came to."""
        pairs = sorted(self.headers.items())
        return self.status, pairs, bytes(self.body), self.trailer, self.is_complete, type(self.error)


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self.written = bytearray()
        self.writes = 0
        self.is_aborted = False
        self.is_lost = False
        self._is_closing = False

    def write(self, data: Any) -> None:
        assert data, "an empty write"
        self.writes += 1
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.is_aborted = True
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The end, from either side."""
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._protocol.connection_lost(error)


class Pair:
    """A connection of ours, and a server.

    Args:
        settings: what the server sends in its first SETTINGS; None: it sends none yet.
    """

    def __init__(self, settings: dict[SettingCodes, int] | None = None, *, silent: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.changes: list[tuple[int, bool]] = []
        self.connection = H2Connection(loop, lambda one: self.changes.append((one.room, one.is_open)))
        self.transport = MemoryTransport(loop, self.connection)
        # The server says what a bad one would: nothing that it sends is checked.
        self.server = Framing(
            H2Configuration(
                client_side=False,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.events: list[Event] = []
        self.is_silent = silent
        if not silent:
            self.server.local_settings = Settings(
                client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 100} | (settings or {})
            )
            self.server.initiate_connection()
        self.connection.connection_made(self.transport)

    async def turn(self, cut: Callable[[bytes], Iterable[bytes]] | None = None) -> list[Event]:
        """Let everything move until nothing does. Returns what the server saw."""
        seen: list[Event] = []
        while True:
            for _ in range(4):
                await asyncio.sleep(0)
            data, self.transport.written = bytes(self.transport.written), bytearray()
            seen += self.server.receive_data(data)
            back = self.server.data_to_send()
            if self.transport.is_closing():
                back = b""
            if not data and not back:
                break
            if back and not self.transport.is_closing():
                for piece in [back] if cut is None else cut(back):
                    self.connection.data_received(piece)
        self.events += seen
        return seen

    def inject(self, data: bytes) -> None:
        """Bytes from the server that its library would not send."""
        self.connection.data_received(self.server.data_to_send() + data)

    def get(self, method: str = "GET", **more: Any) -> FakeIncoming:
        """Begin an exchange."""
        incoming = FakeIncoming(more.pop("high_water", None))
        self.connection.exchange(make(method, **more), incoming)
        return incoming

    def answer(self, stream: int, status: str = "200", fields: Sequence[tuple[str, str]] = (), **more: Any) -> None:
        """The head of a response."""
        self.server.send_headers(stream, [(":status", status), *fields], **more)

    def seen(self, kind: type[E]) -> list[E]:
        """What the server saw of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def end(self) -> None:
        """Take the connection down."""
        self.connection.abort()
        while not self.transport.is_lost:
            await asyncio.sleep(0)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """The bytes of a frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def sent_on(pair: Pair, stream: int) -> bytes:
    """What the server received of a request's body."""
    return b"".join(event.data for event in pair.seen(DataReceived) if event.stream_id == stream)


def ended(pair: Pair) -> list[int]:
    """The streams whose requests the server has whole."""
    return [event.stream_id for event in pair.seen(StreamEnded)]
