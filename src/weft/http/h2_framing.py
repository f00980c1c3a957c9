"""HTTP/2 frames for a client: the library ``h2`` with its settings, and what it leaves to be mended.

Owns :class:`Framing`, one per connection, which does no I/O. Its invariant: what the peer sent before it broke the
protocol, or before it said that it goes away, is still delivered, however the bytes were cut into packets. Also here:
how the fields of a request and a response look in HTTP/2. Importing this file needs the extra ``weft[http]``.
Called by :mod:`weft.http.h2`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from h2.config import H2Configuration
from h2.connection import ConnectionState
from h2.connection import H2Connection as Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

from weft.http.errors import InvalidHeaderError
from weft.http.headers import Headers

if TYPE_CHECKING:
    from hpack.struct import Header

__all__ = ["ASSUMED_STREAMS", "CONNECTION_WINDOW", "STREAM_WINDOW", "Framing", "request_fields", "response_fields"]

# What the peer may send before it hears that something was read, in bytes. A stream is as fast as its window per round
# trip: 1 MiB is 80 Mbit/s over 100 ms, where the protocol's 64 KiB would be 5. It is also what one reader that stops
# reading holds in memory, so no more. (nghttp2's curl: 10 MiB, Go: 4 MiB, Firefox: 12 MiB.)
STREAM_WINDOW: Final = 1024 * 1024
# A window for all streams, so 16 of them can be at full speed. It is given back as the bytes come: readers are held by
# the windows of their streams, and one that sleeps must not stop the others.
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
# The largest frame taken, in bytes: a frame costs some 20 µs whatever its size, and delays the others while it comes.
FRAME_SIZE: Final = 64 * 1024
# The fields of one response, decoded, in bytes (RFC 9113, 6.5.2); what curl takes is 300 KiB, node 16 KiB.
FIELDS_SIZE: Final = 64 * 1024
# How many requests at once before the peer has said how many it takes: the least that RFC 9113 6.5.2 recommends to
# allow, so refusals are rare.
ASSUMED_STREAMS: Final = 100

# Frames that bring nothing forward (PING, SETTINGS, empty DATA, frames of closed streams) within a minute, beyond those
# that do: 5,000 cost a tenth of a second of a core.
IDLE_FRAMES: Final = 5000
IDLE_PERIOD: Final = 60.0
# A frame that does bring something forward makes up for so many: a server may well send two window updates with each.
IDLE_PER_USEFUL: Final = 4
# A stream that we reset: what is under way in its window, in frames of 4 KiB.
IDLE_PER_RESET: Final = STREAM_WINDOW // 4096


class Framing(Connection):
    """The frames of one connection, of the client's side.

    Args:
        clock: seconds, for the limit on idle frames.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        # request_fields checks the fields of requests: what h2 refuses, it refuses with the stream half made.
        super().__init__(H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False))
        settings = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: FRAME_SIZE,
            SettingCodes.MAX_HEADER_LIST_SIZE: FIELDS_SIZE,
        }
        self.local_settings = Settings(client=True, initial_values=settings)
        self.max_inbound_frame_size = FRAME_SIZE
        self.decoder.max_header_list_size = FIELDS_SIZE
        self._clock = clock
        self._idle = 0
        self._idle_since = clock()
        self._returned = 0
        self._has_begun = False
        self._events: list[Event] = []

    @property
    def unsent(self) -> int:
        """How many bytes wait for ``data_to_send``."""
        return len(self._data_to_send)

    def start(self) -> None:
        """Write the preface, the settings and the window of the connection (RFC 9113, 3.4)."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def receive(self, data: bytes) -> tuple[list[Event], ProtocolError | None]:
        """Take what came.

        Returns:
            What happened, and how the peer then broke the protocol, if it did.
        """
        events: list[Event] = []
        self._events = events
        try:
            self.receive_data(data)
            self._refuse_long_frame()
        except ProtocolError as error:
            return events, error
        return events, None

    def _refuse_long_frame(self) -> None:
        """Refuse a frame by the length it announces. h2 waits for all of it first: 16 MiB, or a server of HTTP/1.1."""
        length = int.from_bytes(self.incoming_buffer._data[:3], "big")
        if length > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError(f"a frame of {length} bytes, where {self.max_inbound_frame_size} are allowed")

    def _receive_frame(self, frame: Frame) -> list[Event]:
        """One frame. h2 calls this, and drops what it returns if a later frame of the same bytes is wrong."""
        if not self._has_begun:
            if not isinstance(frame, SettingsFrame) or "ACK" in frame.flags:  # RFC 9113, 3.4
                raise ProtocolError("the first frame is not the server's SETTINGS")
            self._has_begun = True
        if isinstance(frame, GoAwayFrame):
            # h2 takes GOAWAY for the end: it drops what was to be sent, and refuses every frame that follows. But the
            # streams up to the last one named go on (RFC 9113, 6.8).
            unsent, state = self._data_to_send, self.state_machine.state
            events = super()._receive_frame(frame)
            self._data_to_send, self.state_machine.state = unsent, state
        else:
            events = super()._receive_frame(frame)
        self._events += events
        self._weigh(events)
        return events

    def _weigh(self, events: list[Event]) -> None:
        """Count frames that bring nothing forward, and give up when there are too many of them."""
        for event in events:
            if isinstance(event, ResponseReceived | StreamEnded | StreamReset) or (
                isinstance(event, DataReceived) and event.data
            ):
                self.forgive(IDLE_PER_USEFUL)
                return
        self._idle += 1
        if self._idle > IDLE_FRAMES:
            now = self._clock()
            if now - self._idle_since < IDLE_PERIOD:
                raise DenialOfServiceError(f"{IDLE_FRAMES} frames that bring nothing, in {IDLE_PERIOD:g} s")
            self._idle, self._idle_since = 0, now

    def forgive(self, frames: int) -> None:
        """Allow so many more frames that bring nothing forward."""
        self._idle = max(0, self._idle - frames)

    @property
    def is_closed(self) -> bool:
        """Whether goodbye was said: nothing can be framed any more."""
        return self.state_machine.state is ConnectionState.CLOSED

    def finish(self) -> None:
        """Say goodbye (GOAWAY), unless that was done."""
        if not self.is_closed:
            self.close_connection()

    def took(self, count: int) -> None:
        """Give ``count`` bytes of the connection's window back, when it is worth a frame."""
        self._returned += count
        if self._returned >= CONNECTION_WINDOW // 4 and not self.is_closed:
            self.increment_flow_control_window(self._returned)
            self._returned = 0

    def reset(self, stream: int, code: ErrorCodes) -> None:
        """End a stream before its time, unless it has ended already."""
        known = self.streams.get(stream)
        if known is None or known.closed or self.is_closed:
            return
        self.reset_stream(stream, code)
        self.forgive(IDLE_PER_RESET)

    def accepts_credit(self, stream: int) -> bool:
        """Whether the peer may still send on a stream."""
        known = self.streams.get(stream)
        return known is not None and known.open and not self.is_closed


# -- fields ------------------------------------------------------------------------------------------------------------

# RFC 9110 5.6.2, lower case as HTTP/2 wants it (RFC 9113, 8.2.1).
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
# RFC 9113 8.2.1 forbids three of them; no other control character has a use either.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What is about one HTTP/1 connection (RFC 9113, 8.2.2); the host, which is a pseudo-header here; and the length, which
# follows from the body.
_LEFT_OUT: Final = frozenset(
    {
        "connection", "content-length", "host", "http2-settings", "keep-alive", "proxy-connection", "transfer-encoding",
        "upgrade",
    }
)  # fmt: skip


def request_fields(request: Any) -> list[Header]:
    """The fields of a request as HTTP/2 has them, pseudo-headers first (RFC 9113, 8.3.1).

    Raises:
        InvalidHeaderError: a name is no token, or a value has control characters.
    """
    url = request.url
    pairs = [(name.lower(), value.strip(" \t")) for name, value in request.headers.items()]
    named = {one.strip().lower() for name, value in pairs if name == "connection" for one in value.split(",")}
    fields: list[tuple[str, str]] = [
        (":method", request.method),
        (":authority", request.headers.get("host") or url.authority),
        (":scheme", "https" if url.is_secure else "http"),
        (":path", url.target),
    ]
    for name, value in pairs:
        if name in _LEFT_OUT or name in named or (name == "te" and value.lower() != "trailers"):
            continue
        if not _NAME.fullmatch(name):
            raise InvalidHeaderError(f"a header cannot be called {name!r}", url=url)
        fields.append((name, value))
    fields += [(name.lower(), value) for name, value in request.framing()]
    return [_encoded(name, value, url) for name, value in fields]


def _encoded(name: str, value: str, url: Any) -> tuple[bytes, bytes]:
    if _CONTROL.search(value):
        raise InvalidHeaderError(f"the header {name!r} has a control character in its value {value!r}", url=url)
    try:
        return name.encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        return name.encode("ascii"), value.encode("utf-8")


def response_fields(fields: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, Headers]:
    """The status as written, and the headers, of what h2 found to be a response's fields."""
    status = b""
    pairs = []
    for name, value in fields:
        if name[0] == 0x3A:  # ":status", the only pseudo-header of a response: h2 has seen to that
            status = value
        else:
            pairs.append((name.decode("latin-1"), value.decode("latin-1")))
    return status, Headers(pairs)
