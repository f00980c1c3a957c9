"""A WebSocket over a tunnel (RFC 6455): what comes, what goes, and its end.

Owns ``WebSocket``, whose one task reads the tunnel from beginning to end: so pings are answered and the end is noticed
also while nobody receives, and ``receive()`` can be cancelled without losing anything. The invariant: every way to the
end leads through ``_end()``, which closes the tunnel and wakes whoever waits. Made by client.py, after the handshake.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from weft.http.errors import HTTPError, WebSocketError
from weft.http.wsframes import LOST, MAX_SIZE, Deflate, Frames, Message, MessageType
from weft.http.wshandshake import Handshake, check_handshake, handshake_headers

__all__ = [
    "Deflate",
    "Handshake",
    "Message",
    "MessageType",
    "Tunnel",
    "WSMessage",
    "WSMsgType",
    "WebSocket",
    "check_handshake",
    "handshake_headers",
]

T = TypeVar("T")

WSMsgType, WSMessage = MessageType, Message  # The names that aiohttp's users know.

MAX_UNREAD = 1024 * 1024  # Bytes. With more waiting to be received the peer has to wait.
MESSAGE_COST = 128  # Bytes that a message counts for beside its content.
CLOSE_TIMEOUT = 10.0  # Seconds, as in aiohttp and websockets.
ENDINGS = (MessageType.CLOSE, MessageType.CLOSING, MessageType.CLOSED)


class Tunnel(Protocol):
    """The connection after its upgrade: bytes in both directions."""

    async def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        ...

    def write(self, data: bytes) -> None:
        """Send, or keep to be sent."""
        ...

    async def drain(self) -> None:
        """Wait while too much is kept."""
        ...

    def close(self) -> None:
        """Close when everything has been sent."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...

    def get_extra_info(self, name: str) -> Any:
        """What is known of the transport."""
        ...


class WebSocket:
    """One end of a WebSocket: send and receive, or ``async for message in websocket``.

    Names and behaviour are those of aiohttp's ``ClientWebSocketResponse``. It is made in a coroutine, and closed by
    ``close()`` or as an async context manager. One task at a time receives; any number may send.

    Args:
        tunnel: the connection.
        handshake: what ``check_handshake`` gave; None: nothing was chosen.
        heartbeat: seconds without anything from the peer after which it gets a ping, to which it has half of that to
            answer; None: never.
        max_size: bytes of a message, unpacked; None: no limit.
        close_timeout: seconds that ``close()`` waits for the peer.
        autoping: answer pings, and receive neither them nor pongs.
        url: for messages.

    Attributes:
        subprotocol: what the server chose, or None; also as ``protocol``.
        close_code: how it ended: the peer's code, or the one of RFC 6455, 7.4.1; None while it has not.
        close_reason: what the peer said about that.
    """

    def __init__(
        self,
        tunnel: Tunnel,
        handshake: Handshake | None = None,
        *,
        heartbeat: float | None = None,
        max_size: int | None = MAX_SIZE,
        close_timeout: float = CLOSE_TIMEOUT,
        autoping: bool = True,
        url: Any = None,
    ) -> None:
        handshake = handshake or Handshake()
        self.subprotocol = self.protocol = handshake.subprotocol
        self.close_code: int | None = None
        self.close_reason = ""
        self._tunnel = tunnel
        self._frames = Frames(deflate=handshake.deflate, max_size=max_size)
        self._close_timeout = close_timeout
        self._autoping = autoping
        self._url = url
        self._unread: deque[Message] = deque()
        self._unread_size = 0
        self._error: BaseException | None = None
        self._ended = False  # The tunnel is closed; there may be messages left.
        self._over = False  # Whoever receives has seen the end, or has closed.
        self._receiver: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None  # Waited for by the reader, while too much is unread.
        self._loop = asyncio.get_running_loop()
        self._heartbeat = heartbeat
        self._heard = self._loop.time()
        self._pinged = 0.0  # What _heard was at the last ping.
        self._timer: asyncio.TimerHandle | None = None
        if heartbeat is not None:
            self._timer = self._loop.call_later(heartbeat, self._beat)
        self._reader = self._loop.create_task(self._read(), name="weft: WebSocket")

    def __repr__(self) -> str:
        state = f"closed with {self.close_code}" if self._ended else "open" if self._frames.is_open else "closing"
        return f"<WebSocket {self._url or ''} {state}, {len(self._unread)} unread>"

    @property
    def closed(self) -> bool:
        """Whether it was closed here, or the end was received. Messages that came before the end are received first."""
        return self._over

    def exception(self) -> BaseException | None:
        """What ended it, if that was an error."""
        return self._error

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the transport: ``peername``, ``ssl_object``, ..."""
        found = self._tunnel.get_extra_info(name)
        return default if found is None else found

    # -- sending

    async def send_str(self, data: str) -> None:
        """Send a text message. A cancelled call may have sent it, as a whole.

        Raises:
            WebSocketError: it is closed, or the connection broke.
            TypeError: it is no str.
        """
        if not isinstance(data, str):
            raise TypeError(
                f"a text message is str, not {type(data).__name__}; send_bytes() and send_json() take others"
            )
        await self._send(self._frames.text, data)

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message; see ``send_str``."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a binary message is bytes, not {type(data).__name__}")
        await self._send(self._frames.binary, bytes(data))

    async def send_json(self, data: Any, *, dumps: Callable[[Any], str] = json.dumps) -> None:
        """Send an object as a text message in JSON; see ``send_str``."""
        await self.send_str(dumps(data))

    async def ping(self, message: bytes | str = b"") -> None:
        """Send a ping with at most 125 bytes; see ``heartbeat`` for doing that regularly."""
        await self._send(self._frames.ping, _payload(message))

    async def pong(self, message: bytes | str = b"") -> None:
        """Send a pong with at most 125 bytes. With ``autoping`` that is done where it is needed."""
        await self._send(self._frames.pong, _payload(message))

    async def _send(self, frame: Callable[[T], bytes], data: T) -> None:
        if self._ended or self._over or not self._frames.is_open:
            raise self._closed_error()
        try:
            self._tunnel.write(frame(data))
            await self._tunnel.drain()
        except (OSError, HTTPError) as error:
            raise WebSocketError(f"the connection broke: {error}", url=self._url, code=LOST) from error

    def _closed_error(self) -> WebSocketError:
        code = f" with code {self.close_code}" if self.close_code else ""
        reason = f": {self.close_reason!r}" if self.close_reason else ""
        error = WebSocketError(f"the WebSocket is closed{code}{reason}", url=self._url, code=self.close_code)
        error.__cause__ = self._error
        return error

    # -- receiving

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message. A cancelled call has taken none.

        The end is a message too: CLOSE with the peer's code; ERROR with an exception as its data; and CLOSED, as often
        as one asks, after that and after ``close()``.

        Args:
            timeout: seconds to wait.

        Raises:
            TimeoutError: none came in time.
            RuntimeError: another task receives.
        """
        if self._receiver is not None:
            raise RuntimeError("another task receives from this WebSocket: let one task receive and hand messages on")
        if not self._unread and not self._ended and not self._over:
            self._receiver = self._loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._receiver
            finally:
                self._receiver = None
        if self._over or not self._unread:
            self._over = True
            return Message(MessageType.CLOSED)
        message = self._unread.popleft()
        self._unread_size -= _cost(message)
        if self._unread_size <= MAX_UNREAD:
            _wake(self._room)
        self._over = message.type in (MessageType.CLOSE, MessageType.ERROR)
        return message

    async def receive_str(self, *, timeout: float | None = None) -> str:
        """The next message, which has to be text.

        Raises:
            WebSocketError: there is none: it ended.
            TypeError: it is another message; that is lost.
        """
        text: str = await self._receive(MessageType.TEXT, timeout)
        return text

    async def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """The next message, which has to be binary; see ``receive_str``."""
        data: bytes = await self._receive(MessageType.BINARY, timeout)
        return data

    async def receive_json(self, *, loads: Callable[[str], Any] = json.loads, timeout: float | None = None) -> Any:
        """The object that the next message, which has to be text, is the JSON of; see ``receive_str``."""
        return loads(await self.receive_str(timeout=timeout))

    async def _receive(self, kind: MessageType, timeout: float | None) -> Any:
        message = await self.receive(timeout)
        if message.type is kind:
            return message.data
        if message.type is MessageType.ERROR:
            raise message.data
        if message.type in ENDINGS:
            raise self._closed_error()
        raise TypeError(f"the message is {message.type.name}, not {kind.name}")

    def __aiter__(self) -> WebSocket:
        return self

    async def __anext__(self) -> Message:
        message = await self.receive()
        if message.type in ENDINGS:
            raise StopAsyncIteration
        return message

    # -- ending

    async def close(self, code: int = 1000, reason: str = "", *, message: bytes | str = b"") -> bool:
        """Close: say so, and wait for the peer to say so too. What it sends until then is dropped.

        Args:
            code: what the peer is told (RFC 6455, 7.4.1).
            reason: the same in at most 123 bytes; more are cut off.
            message: another name for ``reason``.

        Returns:
            Whether this call closed it, and not one before.

        Raises:
            ValueError: ``code`` is not one of 1000 to 4999.
        """
        if not 1000 <= code <= 4999:
            raise ValueError(f"{code} is no code for closing a WebSocket: RFC 6455 has 1000 to 4999")
        first, self._over = not self._over, True
        self._unread.clear()
        self._unread_size = 0
        _wake(self._receiver)
        _wake(self._room)
        if not self._ended and self._frames.is_open:
            self._tunnel.write(self._frames.close(code, reason or _payload(message).decode("utf-8", "replace")))
        try:
            # Not awaited itself: that would raise what it ended with.
            await asyncio.wait({self._reader}, timeout=self._close_timeout)
        finally:
            self._end(LOST, None)
            if not self._reader.done():
                self._tunnel.abort()
                self._reader.cancel()
        await asyncio.wait({self._reader})
        return first

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _end(self, code: int, error: BaseException | None, reason: str = "") -> None:
        """Close the tunnel and wake who waits. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        self.close_code, self.close_reason, self._error = code, reason, error
        if self._timer is not None:
            self._timer.cancel()
        self._tunnel.close()
        _wake(self._receiver)

    def _fail(self, error: WebSocketError) -> None:
        """End it with an error, which whoever receives gets after the messages that came before it."""
        if not (self._ended or self._over):
            self._unread.append(Message(MessageType.ERROR, error))
        self._end(error.code or LOST, error)

    # -- the task that reads

    async def _read(self) -> None:
        try:
            while not self._ended:
                data = await self._tunnel.read()
                if not data:
                    return self._fail(WebSocketError("the connection ended without a close", url=self._url, code=LOST))
                self._heard = self._loop.time()
                for message in self._frames.feed(data):
                    if self._take(message):
                        # Who sends pings and does not read the answers has to wait.
                        await self._tunnel.drain()
                    if self._unread_size > MAX_UNREAD and not (self._over or self._ended):
                        self._room = self._loop.create_future()
                        await self._room
                        self._room, self._heard = None, self._loop.time()
        except (OSError, HTTPError) as error:
            broken = WebSocketError(f"the connection broke: {error}", url=self._url, code=LOST)
            broken.__cause__ = error
            self._fail(broken)
        finally:
            # Cancelled, or failed in a way that nobody has thought of.
            if not self._ended:
                self._end(LOST, None)
                self._tunnel.abort()

    def _take(self, message: Message) -> bool:
        """Take what came; whether a pong was sent for it."""
        match message.type:
            case MessageType.CLOSE:
                if not self._over:
                    self._unread.append(message)
                self._answer_close(message.data)
                self._end(message.data, None, message.extra or "")
            case MessageType.ERROR:
                error = WebSocketError(str(message.data), url=self._url, code=message.data.code)
                self._answer_close(message.data.code)
                self._fail(error)
            case MessageType.PING if self._autoping:
                if self._frames.is_open:
                    self._tunnel.write(self._frames.pong(message.data))
                return True
            case MessageType.PONG if self._autoping:
                pass
            case _ if not self._over:
                self._unread.append(message)
                self._unread_size += _cost(message)
                _wake(self._receiver)
        return False

    def _answer_close(self, code: int) -> None:
        if self._frames.may_close:
            self._tunnel.write(self._frames.close(code))

    def _beat(self) -> None:
        """Send a ping when it has been quiet; end it when the last one was not answered."""
        assert self._heartbeat is not None
        quiet = self._loop.time() - self._heard
        if self._room is not None:  # Nothing is read, so nothing can be heard.
            wait = self._heartbeat
        elif quiet < self._heartbeat:
            wait = self._heartbeat - quiet
        elif self._pinged != self._heard:
            if self._frames.is_open:
                self._tunnel.write(self._frames.ping())
            self._pinged = self._heard
            wait = self._heartbeat / 2
        else:
            text = f"the server did not answer a ping within {self._heartbeat / 2:g} s"
            self._fail(WebSocketError(text, url=self._url, code=LOST))
            self._tunnel.abort()
            self._reader.cancel()
            return
        self._timer = self._loop.call_later(wait, self._beat)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _payload(message: bytes | str) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(message)


def _cost(message: Message) -> int:
    return MESSAGE_COST + (len(message.data) if isinstance(message.data, str | bytes) else 0)
