"""One HTTP/2 connection, which carries many exchanges (RFC 9113).

Owns its transport, its streams and the order in which their bytes leave. Its invariants: every exchange is told its
end once; what one of them suffers (a reset, a reader that went away, a body that fails) the others do not notice; and a
request that the server has surely not acted on ends with an error that says so. Frames are written by ``h2``
(:mod:`weft.http.h2_framing`), one stream is :mod:`weft.http.h2_stream`. Importing this file needs the extra
``weft[http]``: the pool does so when a server has agreed to HTTP/2. The pool calls ``exchange``, the transport the
protocol's methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar, Final

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from weft.http.errors import (
    HTTPError,
    IncompleteBodyError,
    PeerClosedError,
    PeerProtocolError,
    SendError,
)
from weft.http.h2_framing import ASSUMED_STREAMS, FRAME_SIZE, Framing, request_fields
from weft.http.h2_stream import Stream, Upload

__all__ = ["H2Connection"]

# The most exchanges at once, whatever the server allows: h2 looks at each for every request. nginx allows 128.
MOST_STREAMS: Final = 256
# How much is framed before it is written, in bytes, and how often in one turn of the loop: an upload over a fast
# network must not keep the loop from the rest.
BATCH: Final = 64 * 1024
ROUNDS: Final = 8
# How much may wait that the peer made us say (acknowledgements, answers to PING) and does not read, in bytes.
MOST_OWED: Final = 256 * 1024
# How long a peer that does not read may keep a closed connection, in seconds.
LINGER: Final = 2.0
# RFC 9113, 5.1.1
LAST_STREAM: Final = 2**31 - 1


class State(IntEnum):
    """The life of a connection. It goes one way."""

    NEW = 0  # without a transport
    OPEN = 1
    DRAINING = 2  # takes no more exchanges; those under way go on
    CLOSING = 3  # said goodbye; nothing that still comes counts
    LOST = 4


class H2Connection(asyncio.Protocol):
    """One connection. Made by the pool, and given its transport by ``connection_made``.

    Args:
        loop: the event loop.
        on_change: called with the connection when ``room`` or ``is_open`` has changed without the pool's doing, and
            when the transport is gone.

    Attributes:
        bucket: the pool's.
        on_lost: called with the connection when its transport is gone.
        uses: how many exchanges it was given.
    """

    is_multiplexed: ClassVar[bool] = True

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_change: Callable[[H2Connection], None] | None = None
    ) -> None:
        self.loop = loop
        self.on_change = on_change
        self.on_lost: Callable[[H2Connection], None] | None = None
        self.bucket: Any = None
        self.uses = 0
        self.transport: asyncio.Transport | None = None
        self._framing = Framing(loop.time)
        self._state = State.NEW
        self._streams: dict[int, Stream] = {}
        self._uploads: dict[int, Stream] = {}
        self._has_settings = False
        self._is_write_paused = False
        self._owed = 0
        self._packets = 0
        self._parting = ""
        self._flushing: asyncio.Handle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._reported = (0, False)

    def __repr__(self) -> str:
        return f"<weft.http.H2Connection {self._state.name.lower()} streams={len(self._streams)} {self.transport!r}>"

    # -- for the pool --------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it stands. It may do so without room: a connection that drains has exchanges under way."""
        return (
            State.OPEN <= self._state <= State.DRAINING
            and self.transport is not None
            and not self.transport.is_closing()
        )

    @property
    def is_lost(self) -> bool:
        """Whether its transport is gone."""
        return self._state is State.LOST

    @property
    def room(self) -> int:
        """How many more exchanges it takes now."""
        if self._state is not State.OPEN or not self.is_open:
            return 0
        limit = self._framing.remote_settings.max_concurrent_streams if self._has_settings else ASSUMED_STREAMS
        return max(0, min(limit, MOST_STREAMS) - len(self._streams))

    @property
    def active(self) -> int:
        """How many exchanges are under way."""
        return len(self._streams)

    def exchange(self, request: Any, incoming: Any) -> None:
        """Send ``request``; what comes back goes to ``incoming``.

        Raises:
            RuntimeError: there is no room.
            InvalidHeaderError: the request has a header that cannot be sent. The connection is as it was.
        """
        if self.room <= 0:
            raise RuntimeError(f"{self!r} takes no request now")
        fields = request_fields(request)
        body = request.body
        has_body = body is not None and body.content != b""
        number = self._framing.get_next_available_stream_id()
        self._framing.send_headers(number, fields, end_stream=not has_body)
        self._streams[number] = stream = Stream(self, number, request, incoming, self._packets)
        incoming.source = stream
        self.uses += 1
        if has_body:
            stream.upload = Upload(self, stream, self.loop)
            self._uploads[number] = stream
            stream.upload.start()
        if number + 2 > LAST_STREAM:
            self._state = State.DRAINING
        self._flush_soon()
        self._reported = (self.room, self.is_open)

    def close(self) -> None:
        """Take no more exchanges, and close when those under way have ended."""
        self._state = max(self._state, State.DRAINING)
        self._close_if_done()
        self._report()

    def abort(self) -> None:
        """Close at once; what is under way fails."""
        self._state = max(self._state, State.CLOSING)
        if self.transport is not None:
            self.transport.abort()

    # -- for the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's transport can do both
        if self._state is not State.NEW:
            self._close_if_done()
            return
        self._state = State.OPEN
        self._framing.start()
        self._flush_soon()
        self._reported = (self.room, self.is_open)

    def data_received(self, data: bytes) -> None:
        if self._state >= State.CLOSING:
            return
        self._packets += 1
        before = self._framing.unsent
        events, broken = self._framing.receive(data)
        self._owed += self._framing.unsent - before
        for event in events:
            if (handler := _HANDLERS.get(type(event))) is not None:
                handler(self, event)
        if broken is not None:
            self._break(str(broken), broken)
        elif self._is_write_paused and self._owed > MOST_OWED:
            self._break("it makes us answer, and does not read the answers", None)
        if self._framing.unsent or self._uploads:
            self._flush_soon()
        self._report()

    def eof_received(self) -> None:
        """The peer sends nothing more: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = State.LOST
        for handle in (self._flushing, self._linger):
            if handle is not None:
                handle.cancel()
        for stream in self._take_all():
            stream.incoming.fail(self._loss(stream, exc))
        if self.on_change is not None:
            self.on_change(self)
        if self.on_lost is not None:
            self.on_lost(self)

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._flush_soon()

    # -- for the streams -----------------------------------------------------------------------------------------------

    def credit(self, stream: Stream, count: int) -> None:
        """Let the peer send ``count`` bytes more on the stream."""
        if self._state < State.CLOSING and self._framing.accepts_credit(stream.number):
            self._framing.increment_flow_control_window(count, stream.number)
            self._flush_soon()

    def abandon(self, stream: Stream) -> None:
        """Nobody wants the rest of the response: reset the stream."""
        if self._take(stream.number) is not None:
            self._framing.reset(stream.number, ErrorCodes.CANCEL)
            self._flush_soon()
            self._close_if_done()
            self._report()

    def upload_moved(self) -> None:
        """There is more of a body to send."""
        self._flush_soon()

    def upload_failed(self, stream: Stream, error: BaseException) -> None:
        """The body cannot be sent to its end: neither can the request."""
        if self._streams.get(stream.number) is stream:
            self.abandon(stream)
            stream.incoming.fail(error)

    # -- what the peer did ---------------------------------------------------------------------------------------------

    def _on_response(self, event: ResponseReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            self._refuse(stream, stream.answer(event.headers, ended=event.stream_ended is not None))

    def _on_informational(self, event: InformationalResponseReceived) -> None:
        # RFC 9113 8.6: HTTP/2 has no 101. The others say nothing that a client must know.
        if (stream := self._streams.get(event.stream_id)) is not None and (b":status", b"101") in event.headers:
            self._refuse(stream, "101 has no meaning in HTTP/2")

    def _on_data(self, event: DataReceived) -> None:
        self._framing.took(event.flow_controlled_length)
        if (stream := self._streams.get(event.stream_id)) is not None:
            self._refuse(stream, stream.receive(event.data, event.flow_controlled_length))

    def _on_trailers(self, event: TrailersReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            # As HTTP/1.1 has it, with the blank line.
            lines = [b"%b: %b\r\n" % (name, value) for name, value in event.headers]
            stream.incoming.keep_trailer(b"".join([*lines, b"\r\n"]))

    def _on_end(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        if (wrong := stream.check_end()) is not None:
            self._refuse(stream, wrong)
            return
        self._take(stream.number)
        # An answer before the whole request has come means that the rest is of no use (RFC 9113, 8.1).
        self._framing.reset(stream.number, ErrorCodes.NO_ERROR)
        stream.incoming.finish()
        self._close_if_done()

    def _on_reset(self, event: StreamReset) -> None:
        stream = self._take(event.stream_id)
        if stream is None:
            return
        stream.incoming.fail(_reset_error(stream, event.error_code, by_peer=event.remote_reset))
        self._close_if_done()

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        last = event.last_stream_id if event.last_stream_id is not None else LAST_STREAM
        words = (event.additional_data or b"")[:200].decode("latin-1")
        self._parting = f" after GOAWAY ({_name(event.error_code)}{': ' + ascii(words) if words else ''})"
        self._state = max(self._state, State.DRAINING)
        for stream in [stream for stream in self._streams.values() if stream.number > last]:
            self._take(stream.number)
            error = PeerClosedError(f"the server did not take the request{self._parting}", url=stream.request.url)
            error.unprocessed = True
            stream.incoming.fail(error)
        self._close_if_done()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._has_settings = True

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _take(self, number: int) -> Stream | None:
        """Forget a stream: nothing more is sent for it, and what comes is dropped."""
        self._uploads.pop(number, None)
        stream = self._streams.pop(number, None)
        if stream is not None and stream.upload is not None:
            stream.upload.cancel()
        return stream

    def _take_all(self) -> list[Stream]:
        return [stream for number in list(self._streams) if (stream := self._take(number)) is not None]

    def _refuse(self, stream: Stream, wrong: str | None) -> None:
        """The response cannot be what was meant (RFC 9113, 8.1.1): a matter of this stream alone."""
        if wrong is not None and self._take(stream.number) is not None:
            self._framing.reset(stream.number, ErrorCodes.PROTOCOL_ERROR)
            stream.incoming.fail(PeerProtocolError(wrong, url=stream.request.url))
            self._close_if_done()

    def _break(self, wrong: str, cause: BaseException | None) -> None:
        """The peer broke the protocol: nothing on this connection can be trusted any more."""
        self._state = max(self._state, State.DRAINING)
        for stream in self._take_all():
            error = PeerProtocolError(f"the server broke HTTP/2: {wrong}", url=stream.request.url)
            error.__cause__ = cause
            stream.incoming.fail(error)
        self._close_if_done()

    def _loss(self, stream: Stream, cause: BaseException | None) -> HTTPError:
        url = stream.request.url
        error: HTTPError
        if stream.is_answered:
            error = IncompleteBodyError(f"{IncompleteBodyError.message}{self._parting}", url=url)
        elif stream.upload is not None and cause is not None:
            error = SendError(f"{SendError.message}: {cause}", url=url)
        else:
            error = PeerClosedError(f"{PeerClosedError.message}{self._parting}", url=url)
            error.was_reused = stream.number > 1 and stream.packets_before == self._packets
        error.__cause__ = cause
        return error

    def _close_if_done(self) -> None:
        """Say goodbye, if nothing is under way and nothing will be."""
        if self._state is not State.DRAINING or self._streams or self.transport is None:
            return
        self._state = State.CLOSING
        self._framing.finish()
        self.transport.write(self._framing.data_to_send())
        self.transport.close()
        self._linger = self.loop.call_later(LINGER, self.transport.abort)

    def _report(self) -> None:
        now = (self.room, self.is_open)
        if now != self._reported:
            self._reported = now
            if self.on_change is not None:
                self.on_change(self)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Write at the end of the turn, whatever is framed until then, in one piece."""
        if self._flushing is None and self._state < State.CLOSING:
            self._flushing = self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        for _ in range(ROUNDS):
            if self._is_write_paused or self._state >= State.CLOSING or self.transport is None:
                return
            is_full = self._fill()
            if self._framing.unsent:
                self._owed = 0
                self.transport.write(self._framing.data_to_send())
            if not is_full:
                return
        self._flush_soon()

    def _fill(self) -> bool:
        """Frame what bodies there are, a frame of each in turn. Returns whether a batch is full."""
        moved = True
        while moved:
            moved = False
            for number, stream in list(self._uploads.items()):
                if self._framing.unsent >= BATCH:
                    return True
                if self._send_piece(stream):
                    moved = True
                    # To the end of the line, so that the next batch begins with another.
                    if (uploading := self._uploads.pop(number, None)) is not None:
                        self._uploads[number] = uploading
        return False

    def _send_piece(self, stream: Stream) -> bool:
        upload = stream.upload
        if upload is None or not upload.is_ready:
            return False
        most = min(self._framing.local_flow_control_window(stream.number), self._framing.max_outbound_frame_size)
        if upload.piece and most <= 0:
            return False
        piece = upload.cut(min(most, FRAME_SIZE))
        is_last = upload.is_last and not upload.piece
        self._framing.send_data(stream.number, piece, end_stream=is_last)
        self._framing.forgive(1)
        stream.incoming.sent()  # the peer takes it: its silence counts from here on
        if is_last:
            stream.upload = None
            del self._uploads[stream.number]
        return True


def _name(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"code {code}"


def _reset_error(stream: Stream, code: ErrorCodes | int | None, *, by_peer: bool) -> HTTPError:
    """What the reset of a stream means to its exchange."""
    url = stream.request.url
    if not by_peer:
        return PeerProtocolError(f"the server broke HTTP/2 on the stream ({_name(code)})", url=url)
    words = f"the server reset the stream ({_name(code)})"
    if stream.is_answered:
        return IncompleteBodyError(words, url=url)
    error = PeerClosedError(words, url=url)
    error.unprocessed = code == ErrorCodes.REFUSED_STREAM
    if code == ErrorCodes.HTTP_1_1_REQUIRED:
        error.add_note("The server wants HTTP/1.1 for this: make the client with `http2=False`.")
    return error


_HANDLERS: Final[dict[type[Event], Callable[[H2Connection, Any], None]]] = {
    ConnectionTerminated: H2Connection._on_goaway,
    DataReceived: H2Connection._on_data,
    InformationalResponseReceived: H2Connection._on_informational,
    RemoteSettingsChanged: H2Connection._on_settings,
    ResponseReceived: H2Connection._on_response,
    StreamEnded: H2Connection._on_end,
    StreamReset: H2Connection._on_reset,
    TrailersReceived: H2Connection._on_trailers,
}
