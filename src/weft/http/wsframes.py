"""The WebSocket protocol without I/O (RFC 6455): frames to messages, and messages to frames, over ``wsproto``.

Owns ``Frames``, and the extension permessage-deflate (RFC 7692), which is our own: it limits what a message unpacks to,
and knows that a ping may stand between the frames of a packed message. The invariant: no message is larger than
``max_size``, and no more than that is held of one. Used by websocket.py.
"""

from __future__ import annotations

import enum
import json
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from weft.http.errors import WebSocketError

if TYPE_CHECKING:
    from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

MAX_SIZE = 4 * 1024 * 1024  # Bytes of a message, as in aiohttp.
# A peer may end its stream of blocks with a message (RFC 7692, 7.2.3.4). To end it thousands of times would cost much.
MAX_STREAMS = 16
PACKED_FROM = 32  # Bytes. Packing less than this makes it longer, or saves nothing.

NO_CODE = 1005  # RFC 6455, 7.4.1: the peer gave none.
LOST = 1006  # There was no closing handshake.
TOO_BIG = 1009


class MessageType(enum.IntEnum):
    """The kinds of messages; names and numbers are aiohttp's, the first ones also RFC 6455's."""

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    CLOSING = 0x100
    CLOSED = 0x101
    ERROR = 0x102


class Message(NamedTuple):
    """One message.

    Attributes:
        type: what it is.
        data: str of TEXT; bytes of BINARY, PING and PONG; the code of CLOSE; the exception of ERROR; else None.
        extra: the reason of CLOSE.
    """

    type: MessageType
    data: Any = None
    extra: str | None = None

    def json(self, *, loads: Callable[[Any], Any] = json.loads) -> Any:
        """The object whose JSON this message is."""
        return loads(self.data)


class Deflate(NamedTuple):
    """What client and server have agreed on for permessage-deflate (RFC 7692, 7.1)."""

    client_no_context_takeover: bool = False
    server_no_context_takeover: bool = False
    client_max_window_bits: int = 15
    server_max_window_bits: int = 15


def wsproto(module: str) -> Any:
    """A module of ``wsproto``.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(f"wsproto.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "wsproto":
            raise  # it is there, and something that it needs is not
        raise ModuleNotFoundError("WebSockets need the package wsproto: install weft[http]", name="wsproto") from None


class _Extension:
    """Stands between wsproto and the frames (its ``Extension``): unpacks and counts what comes, packs what goes."""

    name = "permessage-deflate"

    def __init__(self, deflate: Deflate | None, max_size: int | None, client: bool) -> None:
        self._deflate = deflate
        self._max_size = max_size
        self._reasons: type[CloseReason] = wsproto("frame_protocol").CloseReason
        self._rsv: type[RsvBits] = wsproto("frame_protocol").RsvBits
        agreed = deflate or Deflate()
        bits, self._forgets = (
            (agreed.client_max_window_bits, agreed.client_no_context_takeover)
            if client
            else (agreed.server_max_window_bits, agreed.server_no_context_takeover)
        )
        self._peer_forgets = agreed.server_no_context_takeover if client else agreed.client_no_context_takeover
        # zlib has no window of 8 bits; a message may always go unpacked.
        self._packs = deflate is not None and bits > 8
        self._bits = bits
        self._packer: Any = None
        self._unpacker: Any = None
        self._is_packed = False  # The message that comes now,
        self._is_control = False  # the frame that comes now,
        self._size = 0  # and the bytes of the message so far, unpacked.

    def enabled(self) -> bool:
        return True

    # -- what comes

    def frame_inbound_header(self, proto: Any, opcode: Opcode, rsv: RsvBits, length: int) -> RsvBits | CloseReason:
        self._is_control = opcode.iscontrol()
        begins = not self._is_control and opcode != 0
        if begins:
            self._is_packed = bool(rsv.rsv1)
        if not (self._is_control or self._is_packed) and self._exceeds(length):
            return self._reasons.MESSAGE_TOO_BIG
        return self._rsv(self._deflate is not None and begins, False, False)

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        if self._is_control:
            return data
        return self._unpacked(data) if self._is_packed else self._counted(data)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        if self._is_control or not fin:
            return None
        rest = self._unpacked(b"\x00\x00\xff\xff") if self._is_packed else b""  # RFC 7692, 7.2.2
        if self._peer_forgets:
            self._unpacker = None
        self._size = 0
        return rest

    def _exceeds(self, more: int) -> bool:
        return self._max_size is not None and self._size + more > self._max_size

    def _counted(self, data: bytes) -> bytes | CloseReason:
        if self._exceeds(len(data)):
            return self._reasons.MESSAGE_TOO_BIG
        self._size += len(data)
        return data

    def _unpacked(self, data: bytes) -> bytes | CloseReason:
        pieces, size = [], 0
        # One byte more than is allowed shows that there are more; 0 would mean any number.
        room = 0 if self._max_size is None else self._max_size - self._size + 1
        try:
            for _ in range(MAX_STREAMS):
                if self._unpacker is None:
                    self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)  # Reads smaller windows too.
                pieces.append(self._unpacker.decompress(data, room))
                size += len(pieces[-1])
                if room and size >= room:
                    return self._reasons.MESSAGE_TOO_BIG
                if not self._unpacker.eof:
                    return self._counted(b"".join(pieces))
                data, self._unpacker = self._unpacker.unused_data, None
        except zlib.error:
            pass
        return self._reasons.INVALID_FRAME_PAYLOAD_DATA

    # -- what goes

    def frame_outbound(self, proto: Any, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool) -> tuple[RsvBits, bytes]:
        if not self._packs or opcode.iscontrol() or len(data) < PACKED_FROM:
            return rsv, data
        if self._packer is None:
            # Level of memory 5: 40 KiB in place of 260 for each connection, and as dense for short messages.
            self._packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._bits, 5)
        packed = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        if self._forgets:
            self._packer = None
        return rsv._replace(rsv1=True), packed[:-4]


class Frames:
    """One end of a WebSocket after its handshake.

    Args:
        deflate: what was agreed on for permessage-deflate; None: nothing is packed.
        max_size: bytes of a message that comes, unpacked; None: no limit.
        client: which end this is.
    """

    def __init__(self, *, deflate: Deflate | None = None, max_size: int | None = MAX_SIZE, client: bool = True) -> None:
        connection = wsproto("connection")
        self._events: Any = wsproto("events")
        self._states: Any = connection.ConnectionState
        kind = connection.ConnectionType.CLIENT if client else connection.ConnectionType.SERVER
        self._connection: Any = connection.Connection(kind, [_Extension(deflate, max_size, client)])
        self._pieces: list[Any] = []
        self._failed = False

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: neither end has sent a CLOSE yet."""
        return self._connection.state is self._states.OPEN and not self._failed

    @property
    def may_close(self) -> bool:
        """Whether a CLOSE can be sent: this end has not sent one yet."""
        return self._connection.state in (self._states.OPEN, self._states.REMOTE_CLOSING)

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with ``data``, each unpacked when it is asked for; take all of them.

        A CLOSE is the last, and so is an ERROR with a ``WebSocketError``, whose ``code`` says what to close with;
        whatever follows is ignored.
        """
        if self._failed or self._connection.state not in (self._states.OPEN, self._states.LOCAL_CLOSING):
            return
        self._connection.receive_data(data)
        for event in self._connection.events():
            if (message := self._message(event)) is not None:
                yield message

    def _message(self, event: Any) -> Message | None:
        events = self._events
        if isinstance(event, events.Message):
            self._pieces.append(event.data)
            if not event.message_finished:
                return None
            is_text = isinstance(event, events.TextMessage)
            whole = "".join(self._pieces) if is_text else b"".join(self._pieces)
            self._pieces = []
            return Message(MessageType.TEXT if is_text else MessageType.BINARY, whole)
        if isinstance(event, events.Ping):
            return Message(MessageType.PING, bytes(event.payload))
        if isinstance(event, events.Pong):
            return Message(MessageType.PONG, bytes(event.payload))
        code = int(event.code)
        if self._connection.state in (self._states.REMOTE_CLOSING, self._states.CLOSED):
            return Message(MessageType.CLOSE, code, event.reason or "")
        # A frame that is wrong comes as a CLOSE as well, but leaves the state as it was.
        self._failed, self._pieces = True, []
        reason = event.reason or ""
        if "codec" in reason:  # Python's own words, which name a place that depends on how the bytes came
            reason = "a text that is not UTF-8"
        text = "a message is larger than the limit" if code == TOO_BIG else f"the server broke the protocol: {reason}"
        return Message(MessageType.ERROR, WebSocketError(text, code=code))

    def text(self, data: str) -> bytes:
        """The frame of a text message."""
        return self._sent(self._events.TextMessage(data=data))

    def binary(self, data: bytes) -> bytes:
        """The frame of a binary message."""
        return self._sent(self._events.BytesMessage(data=data))

    def ping(self, payload: bytes = b"") -> bytes:
        """A ping, with at most 125 bytes."""
        return self._sent(self._events.Ping(payload=payload))

    def pong(self, payload: bytes = b"") -> bytes:
        """A pong, with at most 125 bytes."""
        return self._sent(self._events.Pong(payload=payload))

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        """The frame that begins the closing handshake, or answers it; a long reason is cut off."""
        if code == NO_CODE:
            return self._sent(self._events.CloseConnection(code=None))
        return self._sent(self._events.CloseConnection(code=code, reason=reason))

    def _sent(self, event: Any) -> bytes:
        return bytes(self._connection.send(event))
