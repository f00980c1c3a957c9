"""Server-sent events: a response of the type ``text/event-stream`` as a stream of events (WHATWG HTML, 9.2).

Owns ``EventParser``, which does no I/O, ``ServerSentEvents``, which reads one response through it, and ``events``,
which goes on with another response when one has ended. The invariant: however the bytes are cut, the same events come
of them; an event that the stream ends in the middle of does not come at all. Called by client.py.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from weft.http.errors import PeerProtocolError, ResponseError, StatusError

__all__ = ["Event", "EventParser", "ServerSentEvents", "events"]

MEDIA_TYPE = "text/event-stream"
MAX_EVENT = 16 * 1024 * 1024  # Bytes. No one sends such an event, but a stream may be anything.
RECONNECT_DELAY = 3.0  # Seconds, as in Chromium; a server changes it with "retry".
MIN_DELAY, MAX_DELAY = 0.1, 300.0  # Seconds. A server that asks for no pause must not make this a busy loop.
PASSING = frozenset({429, 500, 502, 503, 504})  # Of a server that has sent events before: it may do so again.


class Event(NamedTuple):
    """One event.

    Attributes:
        data: its text; several lines are joined by line feeds.
        event: its type.
        id: the last identifier that the stream gave, which goes into Last-Event-ID; empty if there was none.
        retry: milliseconds to wait before reconnecting, where the event said so.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class EventParser:
    """Makes events of bytes. Feed it the body in any pieces.

    Args:
        last_event_id: what the stream that this one continues gave last.
        max_size: bytes of one event.

    Attributes:
        last_event_id: what to send as Last-Event-ID when this stream is continued.
        retry: milliseconds that the stream asked to wait before that, or None.
    """

    def __init__(self, last_event_id: str = "", *, max_size: int = MAX_EVENT) -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._max_size = max_size
        self._size = 0
        self._line: list[bytes] = []  # The beginning of a line that has not ended, in pieces.
        self._at_start = True
        self._after_return = False
        self._data: list[str] = []
        self._type = ""
        self._id = last_event_id
        self._event_retry: int | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete with ``data``.

        Raises:
            PeerProtocolError: an event is larger than ``max_size``.
        """
        if not data:
            return []
        # The line ended with the carriage return already: an event must not wait for the line feed to know.
        body = data[1:] if self._after_return and data.startswith(b"\n") else data
        self._after_return = data.endswith(b"\r")
        found = []
        for line in body.splitlines(keepends=True):
            self._size += len(line)
            if self._size > self._max_size:
                raise PeerProtocolError(f"an event of the stream is larger than {self._max_size} bytes")
            if not line.endswith((b"\n", b"\r")):
                self._line.append(line)
                continue
            if self._line:
                line = b"".join([*self._line, line])  # noqa: PLW2901
                self._line.clear()
            if event := self._end_line(line.rstrip(b"\r\n")):
                found.append(event)
        return found

    def _end_line(self, line: bytes) -> Event | None:
        if self._at_start:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._at_start = False
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value.decode("utf-8", "replace"))
            case b"event":
                self._type = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit():
                self._event_retry = self.retry = int(value[:12])  # Some thousand digits are more than int() takes.
            case b"":  # A comment; many are sent to keep the connection open.
                self._size -= len(line)
        return None

    def _end_event(self) -> Event | None:
        self.last_event_id = self._id
        event = None
        if self._data:
            event = Event("\n".join(self._data), self._type or "message", self._id, self._event_retry)
        self._data = []
        self._type, self._event_retry, self._size = "", None, 0
        return event


class ByteStream(Protocol):
    """What is read here of a response."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class ServerSentEvents:
    """The events of one response: ``async for event in ServerSentEvents(response)``.

    It ends with the response. As an async context manager, and with ``aclose()``, it closes the response.

    Args:
        response: what gives the bytes of the body when it is iterated; its header is not looked at.
        last_event_id: what the response that this one continues gave last.
        max_size: bytes of one event.

    Raises:
        PeerProtocolError: (while iterating) an event is larger than ``max_size``.
        HTTPError: (while iterating) whatever reading the response raises.
    """

    def __init__(self, response: ByteStream, *, last_event_id: str = "", max_size: int = MAX_EVENT) -> None:
        self.response = response
        self._parser = EventParser(last_event_id, max_size=max_size)
        self._ready: list[Event] = []
        self._taken = last_event_id
        self._chunks: AsyncIterator[bytes] | None = None

    @property
    def last_event_id(self) -> str:
        """What to send as Last-Event-ID to continue after the events that were taken; empty: nothing."""
        return self._taken if self._ready else self._parser.last_event_id

    @property
    def retry(self) -> float | None:
        """Seconds that the server asked to wait before reconnecting, or None."""
        return None if self._parser.retry is None else self._parser.retry / 1000

    def __aiter__(self) -> ServerSentEvents:
        return self

    async def __anext__(self) -> Event:
        if self._chunks is None:
            self._chunks = aiter(self.response)
        while not self._ready:
            # A stack: the next event is its last.
            self._ready = self._parser.feed(await anext(self._chunks))[::-1]
        event = self._ready.pop()
        self._taken = event.id
        return event

    async def __aenter__(self) -> ServerSentEvents:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the response."""
        if self._chunks is not None and hasattr(self._chunks, "aclose"):
            await self._chunks.aclose()
        await _close(self.response)


async def _close(response: Any) -> None:
    closing = response.close()
    if inspect.isawaitable(closing):
        await closing


# -- more than one response


async def events(
    client: Any,
    url: Any,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    last_event_id: str = "",
    reconnect_delay: float = RECONNECT_DELAY,
    max_failures: int | None = None,
    max_size: int = MAX_EVENT,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    **options: Any,
) -> AsyncGenerator[Event, None]:
    """The events of a URL, also when the connection breaks or the server ends it: then it is asked to continue.

    The first response has to be a stream of events. After that a broken connection, a time limit, and a server that is
    down for a while (429, 500, 502, 503, 504) are followed by a pause, which doubles while nothing comes; status 204
    ends it, as does ``aclose()`` on the generator.

    Args:
        client: a ``Client``. Its limit on the total time ends each response, not the stream.
        url: what to ask for.
        method: how to ask.
        headers: more headers; they replace those that are sent of itself.
        last_event_id: continue after this event.
        reconnect_delay: seconds to wait, as long as the server does not name another time.
        max_failures: how many attempts in a row may fail before their error is raised; None: any number.
        max_size: bytes of one event.
        sleep: waits for so many seconds.
        options: for ``client.request``.

    Raises:
        StatusError: the server answered with another status.
        ResponseError: the answer is no stream of events.
        HTTPError: the first request failed, or one after ``max_failures`` others.
    """
    stream: ServerSentEvents | None = None
    quiet = 0  # Attempts in a row that gave no event.
    while True:
        quiet += 1
        try:
            response = await client.request(method, url, headers=_headers(headers, last_event_id), **options)
            async with ServerSentEvents(response, last_event_id=last_event_id, max_size=max_size) as opened:
                if response.status == 204:
                    return
                _check(response)
                stream = opened
                async for event in stream:
                    quiet = 0
                    yield event
        except (ConnectionError, TimeoutError, StatusError) as error:
            passing = not isinstance(error, StatusError) or error.status in PASSING
            if stream is None or not passing or (max_failures is not None and quiet > max_failures):
                raise
        if stream is not None:
            last_event_id = stream.last_event_id
            reconnect_delay = reconnect_delay if stream.retry is None else max(MIN_DELAY, stream.retry)
        await sleep(min(reconnect_delay * 2 ** max(0, min(quiet, 16) - 1), max(MAX_DELAY, reconnect_delay)))


def _headers(given: Mapping[str, str] | None, last_event_id: str) -> dict[str, str]:
    headers = {"Accept": MEDIA_TYPE, "Cache-Control": "no-store"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    given = given or {}
    replaced = {name.lower() for name in given}
    return {name: value for name, value in headers.items() if name.lower() not in replaced} | dict(given)


def _check(response: Any) -> None:
    url = getattr(response, "url", None)
    if response.status != 200:
        raise StatusError(f"the server answered with status {response.status}", url=url, response=response)
    kind = str(response.headers.get("Content-Type", ""))
    if kind.partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ResponseError(f"the response is {kind or 'of no type'} and not {MEDIA_TYPE}", url=url, response=response)
