"""An HTTP client for coroutines, on weft's loop and on any other asyncio loop.

``Client`` is where to begin; ``ClientSession`` is the same class. Owns the names that users import; some are aiohttp's,
so that programs written for it run with the import changed. What only some programs need is imported when asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from weft.http.aiohttp_names import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientOSError,
    ClientPayloadError,
    ClientProxyConnectionError,
    ClientResponse,
    ClientResponseError,
    ClientSSLError,
    ClientTimeout,
    ConnectionTimeoutError,
    ContentTypeError,
    DummyCookieJar,
    InvalidURL,
    ServerConnectionError,
    ServerDisconnectedError,
    ServerTimeoutError,
    SocketTimeoutError,
    TCPConnector,
    TooManyRedirects,
    UnixConnector,
    WSServerHandshakeError,
    encode_basic_auth,
)
from weft.http.auth import Auth, BasicAuth, BearerAuth, DigestAuth, NetrcAuth
from weft.http.body import FormData
from weft.http.client import Client
from weft.http.cookies import Cookie, CookieJar, NoCookies
from weft.http.errors import (
    BodyError,
    CertificateError,
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    DecodingError,
    DecompressionBombError,
    FirstByteTimeoutError,
    HTTPError,
    HTTPTimeoutError,
    IdleTimeoutError,
    IncompleteBodyError,
    InvalidHeaderError,
    InvalidURLError,
    NetworkError,
    PeerClosedError,
    PeerProtocolError,
    PoolTimeoutError,
    ProxyError,
    RedirectError,
    ResolveError,
    ResponseError,
    SendError,
    StatusError,
    StreamConsumedError,
    TLSError,
    TooManyRedirectsError,
    TotalTimeoutError,
    WebSocketError,
)
from weft.http.headers import Headers
from weft.http.hooks import Hooks, Trace
from weft.http.oneoff import delete, get, head, options, patch, post, put, request
from weft.http.outgoing import Request
from weft.http.proxies import Proxy
from weft.http.response import Response
from weft.http.retries import Retry
from weft.http.settings import Connector, Limits, Timeout
from weft.http.transport import Transport
from weft.http.url import URL

if TYPE_CHECKING:
    from weft.http.asgi import ASGITransport
    from weft.http.sse import Event
    from weft.http.websocket import Message, WebSocket, WSMsgType

ClientSession = Client

# What most programs do not use is imported when it is first asked for (PEP 562).
_LATER = {
    "ASGITransport": "weft.http.asgi",
    "Event": "weft.http.sse",
    "Message": "weft.http.websocket",
    "WSMsgType": "weft.http.websocket",
    "WebSocket": "weft.http.websocket",
}

__all__ = [
    "URL",
    "ASGITransport",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "BodyError",
    "CertificateError",
    "Client",
    "ClientClosedError",
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
    "ClientSession",
    "ClientTimeout",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionTimeoutError",
    "Connector",
    "ContentTypeError",
    "Cookie",
    "CookieJar",
    "DecodingError",
    "DecompressionBombError",
    "DigestAuth",
    "DummyCookieJar",
    "Event",
    "FirstByteTimeoutError",
    "FormData",
    "HTTPError",
    "HTTPTimeoutError",
    "Headers",
    "Hooks",
    "IdleTimeoutError",
    "IncompleteBodyError",
    "InvalidHeaderError",
    "InvalidURL",
    "InvalidURLError",
    "Limits",
    "Message",
    "NetrcAuth",
    "NetworkError",
    "NoCookies",
    "PeerClosedError",
    "PeerProtocolError",
    "PoolTimeoutError",
    "Proxy",
    "ProxyError",
    "RedirectError",
    "Request",
    "ResolveError",
    "Response",
    "ResponseError",
    "Retry",
    "SendError",
    "ServerConnectionError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "SocketTimeoutError",
    "StatusError",
    "StreamConsumedError",
    "TCPConnector",
    "TLSError",
    "Timeout",
    "TooManyRedirects",
    "TooManyRedirectsError",
    "TotalTimeoutError",
    "Trace",
    "Transport",
    "UnixConnector",
    "WSMsgType",
    "WSServerHandshakeError",
    "WebSocket",
    "WebSocketError",
    "delete",
    "encode_basic_auth",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'weft.http' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
