"""What the tests of the wire share: a loop that turns when told to, a transport of lists, a way to read a response.

Invariant: nothing happens by itself. Time stands until ``advance``, callbacks wait for ``turn``, and a transport does
nothing but remember what was asked of it. Used by the tests of the parser, the connection, the pool and the deadlines.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from weft.http._wire.connection import H1Connection
from weft.http._wire.incoming import Incoming
from weft.http._wire.parser import ResponseParser, Step
from weft.http.errors import HTTPError, PeerProtocolError
from weft.http.settings import DEFAULT_TIMEOUT, Timeout

URL = "http://peer.example/"


class ManualLoop:
    """As much of an event loop as the wire needs. Not a real one: it runs in the thread that calls ``turn``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.errors: list[dict[str, Any]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)  # type: ignore[arg-type]
        self.ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        handle = asyncio.TimerHandle(when, callback, args, self, context)  # type: ignore[arg-type]
        self._count += 1
        heapq.heappush(self.timers, (when, self._count, handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by ``TimerHandle.cancel``."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def create_task(self, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=self)  # type: ignore[arg-type]

    def turn(self) -> None:
        """Run callbacks until none is left."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)  # type: ignore[arg-type]  # from 3.14 on tasks step on the running loop alone
        try:
            while self.ready:
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(outer)

    def due(self) -> list[float]:
        """When the timers that stand are due."""
        return sorted(when for when, _, handle in self.timers if not handle.cancelled())

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer on the way fires at its own time."""
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            when, _, handle = heapq.heappop(self.timers)
            if not handle.cancelled():
                self.now = max(self.now, when)
                handle._run()
                self.turn()
        self.now = end


@dataclass
class Body:
    """The body of a request that goes up in pieces; an exception among them is raised, a future awaited."""

    pieces: Iterable[Any]
    length: int | None = None
    taken: int = 0
    was_closed: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if isinstance(piece, BaseException):
                    raise piece
                if isinstance(piece, asyncio.Future):
                    await piece
                    continue
                self.taken += 1
                yield piece
        finally:
            self.was_closed = True


@dataclass
class FakeRequest:
    """What the wire asks of a request."""

    method: str = "GET"
    url: str = URL
    timeout: Timeout = DEFAULT_TIMEOUT
    may_switch: bool = False
    body: Body | None = None
    wire: bytes = b"GET / HTTP/1.1\r\nHost: peer.example\r\n\r\n"

    @property
    def streams_body(self) -> bool:
        return self.body is not None


@dataclass
class FakeTransport:
    """Remembers what was asked of it. ``lose`` is the end of it, as a loop would tell it."""

    loop: ManualLoop
    protocol: Any = None
    written: list[bytes] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    is_lost: bool = False

    def write(self, data: bytes) -> None:
        assert not self.is_lost, "written to after the connection was lost"
        self.written.append(data)

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        if not self.is_closing():
            self.loop.call_soon(self.lose, None)
        self.calls.append(how)

    def is_closing(self) -> bool:
        return self.is_lost or "close" in self.calls or "abort" in self.calls

    def lose(self, error: BaseException | None = None) -> None:
        """The connection is lost, once."""
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connection_lost(error)

    def pause_reading(self) -> None:
        assert not self.is_lost
        self.calls.append("pause")

    def resume_reading(self) -> None:
        assert not self.is_lost
        self.calls.append("resume")

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 80)}.get(name, default)


# -- one connection

FREE, GONE = "free", "gone"


class Wire:
    """A connection between a loop that turns when told to and a transport that only remembers."""

    def __init__(self, loop: ManualLoop | None = None) -> None:
        self.loop = loop or ManualLoop()
        self.changes: list[str] = []
        self.connection = H1Connection(self.loop, self._changed)  # type: ignore[arg-type]
        self.transport = FakeTransport(self.loop, self.connection)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.ends: list[str] = []

    def _changed(self, connection: H1Connection) -> None:
        assert connection is self.connection
        self.changes.append(FREE if connection.is_open else GONE)
        assert connection.room == (1 if connection.is_open else 0)

    def ask(self, method: str = "GET", **options: Any) -> Incoming:
        """Send a request."""
        incoming = Incoming(FakeRequest(method, **options), self.loop)  # type: ignore[arg-type]
        incoming.observer = self.ends.append
        self.connection.exchange(incoming.request, incoming)
        self.loop.turn()
        return incoming

    def come(self, *pieces: bytes) -> None:
        """Bytes come from the peer."""
        for piece in pieces:
            self.transport.protocol.data_received(piece)

    def eof(self) -> None:
        """The peer sends no more; the transport closes, as the protocol has nothing against it."""
        assert not self.transport.protocol.eof_received()
        self.transport.close()
        self.loop.turn()

    def abort(self) -> None:
        """This side closes at once."""
        self.connection.abort()
        self.loop.turn()

    @property
    def is_idle(self) -> bool:
        return self.connection.room == 1

    def check_gone(self) -> None:
        """It takes nothing more, and said so once; the rest of its end tells nobody anything."""
        assert not self.connection.is_open and self.connection.room == 0
        assert self.changes.count(GONE) == 1 and self.changes[-1] == GONE
        ends = list(self.ends)
        self.loop.turn()
        self.transport.lose()
        self.loop.turn()
        assert self.transport.is_lost and self.changes.count(GONE) == 1
        assert self.ends == ends
        with pytest.raises(RuntimeError, match="takes no request"):
            self.ask()


def error_of(incoming: Incoming) -> BaseException:
    """Why ``incoming`` ended; it must have, once."""
    assert incoming.is_ended and not incoming.is_complete
    with pytest.raises(HTTPError) as caught:
        while incoming.take():
            pass
    return caught.value


# -- reading one response


@dataclass
class Read:
    """What the parser made of some bytes."""

    error: str | None = None
    status: int = 0
    version: int = 0
    notes: int = 0
    head: bytes | None = None
    body: bytes = b""
    trailer: bytes | None = None
    taken: int = 0  # bytes that belong to the response; after an error 0, as it is nobody's business
    is_done: bool = False
    has_switched: bool = False
    is_reusable: bool = False


def body_of(incoming: Incoming) -> bytes:
    """What lies unread in ``incoming``."""
    try:
        return incoming.take() or b""
    except Exception:
        return b""


def read(
    pieces: Sequence[bytes], *, has_no_body: bool = False, may_switch: bool = False, may_tunnel: bool = False,
    ends: bool = False, parser: ResponseParser | None = None,
) -> Read:  # fmt: skip
    """Feed ``pieces`` to a parser up to the end of one response. ``ends``: the peer closes after them."""
    loop: Any = ManualLoop()
    incoming = Incoming(FakeRequest(), loop)
    parser = ResponseParser() if parser is None else parser
    parser.begin(incoming, has_no_body, may_switch, may_tunnel)
    found = Read()
    try:
        for piece in pieces:
            found.taken += parser.receive(piece)
            if parser.step >= Step.DONE:
                break
        found.is_done = parser.close() if ends else parser.step >= Step.DONE
        found.has_switched = parser.step == Step.SWITCHED
        found.is_reusable = parser.is_reusable
    except PeerProtocolError as error:
        found.error = str(error)
        found.taken = 0
    found.status, found.version, found.notes = incoming.status, incoming.version, incoming.notes
    found.head, found.trailer, found.body = incoming.head, incoming.trailer, body_of(incoming)
    return found


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``places``; none is empty."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def singly(data: bytes) -> list[bytes]:
    """``data`` byte by byte."""
    return [data[i : i + 1] for i in range(len(data))]
