"""Every exception that the HTTP client raises: one class per phase and blame.

Invariant: each is an :class:`HTTPError`, carries the URL of its request, and is also what the standard library raises
for the same thing (``TimeoutError``, ``ConnectionError``, ``ValueError``), so that a program which catches that goes on
working. Whose fault it is stands in ``blame``. Imported by every part of ``weft.http``; imports nothing of it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from weft.errors import WeftError

__all__ = [
    "BodyError",
    "CertificateError",
    "ClientClosedError",
    "ConnectError",
    "ConnectTimeoutError",
    "DecodingError",
    "DecompressionBombError",
    "FirstByteTimeoutError",
    "HTTPError",
    "HTTPTimeoutError",
    "IdleTimeoutError",
    "IncompleteBodyError",
    "InvalidHeaderError",
    "InvalidURLError",
    "NetworkError",
    "PeerClosedError",
    "PeerProtocolError",
    "PoolTimeoutError",
    "ProxyError",
    "RedirectError",
    "ResolveError",
    "ResponseError",
    "SendError",
    "StatusError",
    "StreamConsumedError",
    "TLSError",
    "TooManyRedirectsError",
    "TotalTimeoutError",
    "WebSocketError",
]


class HTTPError(WeftError):
    """Base of everything that ``weft.http`` raises.

    Args:
        message: what went wrong.
        url: the URL of the request as text; it is put in front of the message.

    Attributes:
        url: that URL, or None where there is none yet.
        blame: who can mend it: ``"caller"``, ``"peer"``, ``"network"`` or ``"proxy"``.
    """

    blame: ClassVar[Literal["caller", "peer", "network", "proxy"]] = "network"
    url: str | None

    def __init__(self, message: str | None = None, *, url: Any = None) -> None:
        text = self.message if message is None else message
        self.url = None if url is None else str(url)
        super().__init__(text if self.url is None else f"{self.url}: {text}")


# -- the caller's


class InvalidURLError(HTTPError, ValueError):
    """The URL cannot be requested."""

    message = "this URL cannot be requested"
    blame = "caller"


class InvalidHeaderError(HTTPError, ValueError):
    """A header that would end the line early, or that HTTP has no way to write."""

    message = "this header cannot be sent"
    blame = "caller"


class BodyError(HTTPError, ValueError):
    """The request's body cannot be sent as given: a wrong length, a second use of what can be read once."""

    message = "this body cannot be sent"
    blame = "caller"


class ClientClosedError(HTTPError, RuntimeError):
    """The client was closed, or belongs to another loop."""

    message = "this client is closed"
    blame = "caller"
    remedy = "Make the requests inside `async with Client() as client`, or close the client after the last of them."


class StreamConsumedError(HTTPError, RuntimeError):
    """The body was streamed to someone already, or the response was closed before it was read."""

    message = "this body is gone"
    blame = "caller"
    remedy = "Read a body once: `await response.read()` keeps it and can be repeated, iteration cannot."


class NetworkError(HTTPError, ConnectionError):
    """Base of what goes wrong with a connection: it cannot be made, or it broke before there was an answer."""

    message = "the connection failed"


# -- getting there


class ConnectError(NetworkError):
    """No connection could be made. ``__cause__`` is what the operating system said."""

    message = "cannot connect"


class ResolveError(ConnectError):
    """The host's name has no address."""

    message = "cannot resolve the host's name"


class TLSError(ConnectError):
    """The TLS handshake failed."""

    message = "the TLS handshake failed"
    blame = "peer"


class CertificateError(TLSError):
    """The server's certificate is not one to trust."""

    message = "the server's certificate is not valid"
    remedy = "For a private authority pass `tls=ssl.create_default_context(cafile=...)`; verification stays on."


class ProxyError(ConnectError):
    """The proxy refused, or does not speak what it should."""

    message = "the proxy refused"
    blame = "proxy"


# -- time limits


class HTTPTimeoutError(HTTPError, TimeoutError):
    """Base of the time limits; which one it was is the class.

    Attributes:
        limit: its name in ``Timeout``.
    """

    message = "timed out"
    limit: ClassVar[str] = "total"

    @classmethod
    def of(cls, request: Any) -> Self:
        """That ``request`` has taken longer than its limit allows."""
        return cls(f"{cls.message}: Timeout.{cls.limit} is {getattr(request.timeout, cls.limit)} s", url=request.url)


class ConnectTimeoutError(HTTPTimeoutError, ConnectError):
    """Connecting, with name look-up, proxy and TLS, took longer than ``Timeout.connect``."""

    message = "timed out while connecting"
    limit = "connect"


class PoolTimeoutError(HTTPTimeoutError):
    """No connection came free within ``Timeout.pool``."""

    message = "timed out waiting for a free connection"
    limit = "pool"
    blame = "caller"
    remedy = "Raise `Limits` or `Timeout.pool`, and read or close every response: an open one keeps its connection."


class FirstByteTimeoutError(HTTPTimeoutError):
    """The request was sent, and no answer began within ``Timeout.first_byte``."""

    message = "timed out waiting for the first byte of the response"
    limit = "first_byte"
    blame = "peer"


class IdleTimeoutError(HTTPTimeoutError):
    """The response began, and then nothing more came for ``Timeout.idle``."""

    message = "timed out between two bytes of the response"
    limit = "idle"
    blame = "peer"


class TotalTimeoutError(HTTPTimeoutError):
    """The whole request, body included, took longer than ``Timeout.total``."""

    message = "timed out as a whole"


# -- the peer's


class SendError(NetworkError):
    """The connection broke while the request was being sent."""

    message = "the connection broke while the request was sent"


class PeerClosedError(NetworkError, ConnectionResetError):
    """The peer closed the connection, or over HTTP/2 the stream, instead of answering.

    Attributes:
        unprocessed: the server said that it has not acted on the request (RFC 9113, 6.8 and 8.7): whatever its method,
            it can be sent again on another connection.
        was_reused: the connection had been used before, or been idle, and nothing came over it since this request was
            sent: it may well have died in the meantime.
    """

    message = "the server closed the connection without an answer"
    blame = "peer"
    unprocessed: bool = False
    was_reused: bool = False


class PeerProtocolError(HTTPError):
    """The peer sent what is not HTTP, or what two readers could understand differently (RFC 9112)."""

    message = "the response is not valid HTTP"
    blame = "peer"


class IncompleteBodyError(PeerProtocolError, ConnectionError):
    """The connection ended in the middle of the body."""

    message = "the connection ended before the body was complete"


class DecodingError(HTTPError, ValueError):
    """The body is not in the coding, or the character set, that its headers name."""

    message = "the body cannot be decoded"
    blame = "peer"


class DecompressionBombError(DecodingError):
    """The body unpacks to more than the limit."""

    message = "the body unpacks to more than the limit"
    remedy = "Raise `max_decoded_size` if so much is meant, or stream with `decode=False`."


class ResponseError(HTTPError):
    """Base of what is wrong with a response that came whole. ``response`` is that response."""

    message = "the response cannot be used"
    blame = "peer"

    def __init__(self, message: str | None = None, *, url: Any = None, response: Any = None) -> None:
        super().__init__(message, url=url)
        self.response = response


class StatusError(ResponseError):
    """The response's status says that the request failed (400 and above); see ``Response.raise_for_status``.

    Attributes:
        status: the status code.
        reason: the reason that the server gave, may be empty.
        headers: the response's headers.
    """

    message = "the server answered with an error"

    def __init__(self, message: str | None = None, *, url: Any = None, response: Any = None) -> None:
        super().__init__(message, url=url, response=response)
        self.status: int = getattr(response, "status", 0)
        self.reason: str = getattr(response, "reason", "")
        self.message = self.reason  # as aiohttp's users know it
        self.headers = getattr(response, "headers", None)


class RedirectError(ResponseError):
    """A redirect that cannot be followed: no target, a target that is no URL, a body that cannot be sent again."""

    message = "this redirect cannot be followed"


class TooManyRedirectsError(RedirectError):
    """More redirects than ``max_redirects``."""

    message = "too many redirects"


class WebSocketError(HTTPError):
    """The WebSocket handshake or a frame was wrong (RFC 6455), or the connection is closed.

    Attributes:
        code: the close code, or None where there was none.
    """

    message = "the WebSocket failed"
    blame = "peer"

    def __init__(self, message: str | None = None, *, url: Any = None, code: int | None = None) -> None:
        super().__init__(message, url=url)
        self.code = code
