"""Two other parsers of responses behind one function each: llhttp in its strict mode (``httptools``), and ``h11``.

Both get one response to a GET, and whether the connection ends behind it; they say whether they take it, and its body.
Used by the comparison of parsers, and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What a parser made of the bytes: ``error`` if it refused them, else whether the response is whole."""

    body: bytes = b""
    error: str | None = None
    is_done: bool = False


class _Collector:
    """Notes the first final response; what comes after it is not looked at."""

    def __init__(self) -> None:
        self.body = b""
        self.is_done = False
        self.has_head = False
        self.parser: Any = None

    def on_headers_complete(self) -> None:
        self.has_head = self.parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        if not self.is_done:
            self.body += data

    def on_message_complete(self) -> None:
        if self.has_head:
            self.is_done = True


def httptools_verdict(data: bytes) -> Verdict:
    """llhttp's opinion. It cannot be told of the connection's end, so without framing it waits for ever."""
    import httptools

    collector = _Collector()
    collector.parser = parser = httptools.HttpResponseParser(collector)
    try:
        for i in range(len(data)):
            parser.feed_data(data[i : i + 1])
            if collector.is_done:
                break
    except httptools.HttpParserUpgrade:
        return Verdict(error="upgrade")
    except httptools.HttpParserError as error:
        return Verdict(collector.body, f"{type(error).__name__}: {error}")
    return Verdict(collector.body, None, collector.is_done)


def h11_verdict(data: bytes, *, ends: bool) -> Verdict:
    """h11's opinion."""
    import h11

    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    body = b""
    try:
        for piece in (data, b"") if ends else (data,):
            if piece or ends:
                connection.receive_data(piece)
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return Verdict(body, None, True)
                elif isinstance(event, h11.ConnectionClosed) or event in (h11.NEED_DATA, h11.PAUSED):
                    break
    except h11.RemoteProtocolError as error:
        return Verdict(body, str(error))
    return Verdict(body, None, False)
