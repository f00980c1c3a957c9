"""The names that programs written for aiohttp use, so that ``import weft.http as aiohttp`` is the only change.

Owns nothing but the translation: each name is a class of weft's, or a function that makes one.
"""

from __future__ import annotations

from typing import Any

from weft.http.auth import BasicAuth
from weft.http.cookies import NoCookies
from weft.http.errors import (
    CertificateError,
    ConnectError,
    ConnectTimeoutError,
    DecodingError,
    HTTPError,
    HTTPTimeoutError,
    IncompleteBodyError,
    InvalidURLError,
    NetworkError,
    PeerClosedError,
    ProxyError,
    ResolveError,
    StatusError,
    TLSError,
    TooManyRedirectsError,
    WebSocketError,
)
from weft.http.response import Response
from weft.http.settings import Connector, Limits, Timeout

__all__ = [
    "ClientConnectionError",
    "ClientConnectorCertificateError",
    "ClientConnectorDNSError",
    "ClientConnectorError",
    "ClientConnectorSSLError",
    "ClientError",
    "ClientOSError",
    "ClientPayloadError",
    "ClientProxyConnectionError",
    "ClientResponse",
    "ClientResponseError",
    "ClientSSLError",
    "ClientTimeout",
    "ConnectionTimeoutError",
    "ContentTypeError",
    "DummyCookieJar",
    "InvalidURL",
    "ServerConnectionError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "SocketTimeoutError",
    "TCPConnector",
    "TooManyRedirects",
    "UnixConnector",
    "WSServerHandshakeError",
    "encode_basic_auth",
]

ClientError = HTTPError
ClientResponse = Response
ClientResponseError = StatusError
ClientConnectionError = NetworkError
ClientOSError = NetworkError
ServerConnectionError = NetworkError
ClientConnectorError = ConnectError
ClientConnectorDNSError = ResolveError
ClientConnectorSSLError = TLSError
ClientConnectorCertificateError = CertificateError
ClientProxyConnectionError = ProxyError
ClientPayloadError = IncompleteBodyError
ClientSSLError = TLSError
ContentTypeError = DecodingError
ServerDisconnectedError = PeerClosedError
ServerTimeoutError = HTTPTimeoutError
SocketTimeoutError = HTTPTimeoutError
WSServerHandshakeError = WebSocketError
ConnectionTimeoutError = ConnectTimeoutError
InvalidURL = InvalidURLError
TooManyRedirects = TooManyRedirectsError
DummyCookieJar = NoCookies


# Arguments of aiohttp's connector that leave out nothing that a program could miss.
WITHOUT_EFFECT = frozenset(
    {
        "enable_cleanup_closed", "happy_eyeballs_delay", "interleave", "loop", "resolver_cache", "ssl_shutdown_timeout",
        "timeout_ceil_threshold", "ttl_dns_cache", "use_dns_cache",
    }
)  # fmt: skip


def encode_basic_auth(login: str, password: str = "", encoding: str = "utf-8") -> str:
    """The value of ``Authorization`` for a name and a password (RFC 7617)."""
    return BasicAuth(login, password, encoding).encode()


def ClientTimeout(
    total: float | None = 300.0,
    connect: float | None = None,
    sock_read: float | None = None,
    sock_connect: float | None = 30.0,
    ceil_threshold: float = 5.0,
) -> Timeout:
    """A :class:`Timeout` from aiohttp's words: ``connect`` is its wait for a connection, ``sock_read`` for bytes."""
    return Timeout(total or None, sock_connect or None, connect or None, sock_read or None, sock_read or None)


def TCPConnector(
    *,
    limit: int | None = 100,
    limit_per_host: int | None = 0,
    keepalive_timeout: float | None = 15.0,
    ssl: Any = True,
    force_close: bool = False,
    **more: Any,
) -> Connector:
    """A client's limits and TLS from aiohttp's words; 0 is no limit. What only aiohttp's own parts need is ignored.

    Raises:
        TypeError: what a program relies on, and has another place here.
    """
    if refused := more.keys() - WITHOUT_EFFECT:
        raise TypeError(f"TCPConnector has no {', '.join(sorted(refused))} here: see the options of weft.http.Client")
    keepalive = 0.0 if force_close else keepalive_timeout
    return Connector(Limits(limit or None, limit_per_host or None, keepalive), tls=True if ssl is None else ssl)


def UnixConnector(path: str, *, limit: int | None = 100, **ignored: Any) -> Connector:
    """A client whose connections go to the Unix socket at ``path``."""
    return Connector(Limits(limit or None), unix_socket=path)
