"""The client: what users call.

Owns the defaults of its requests and what it learns from responses (cookies, prepared requests); where they go is its
transport's business. Its invariant: a client belongs to one event loop, from its first request until ``aclose()``,
which gives back everything. A URL that is requested again is not prepared again, with the options of a call or without:
the last thousand are kept.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from weft._version import __version__
from weft.http._wire.incoming import Note
from weft.http.auth import Auth, BasicAuth, netrc_auth, netrc_path
from weft.http.calls import Call
from weft.http.cookies import CookieJar
from weft.http.decoding import ACCEPT_ENCODING
from weft.http.defaults import Defaults, merge
from weft.http.errors import ClientClosedError, HTTPError
from weft.http.headers import Headers
from weft.http.hooks import Hooks
from weft.http.journey import Journey
from weft.http.outgoing import Request
from weft.http.preparing import Prepared, as_auth, as_retry, as_tls, check
from weft.http.response import Response
from weft.http.retries import Retry
from weft.http.settings import DEFAULT_TIMEOUT, Connector, Limits, RequestOptions, Timeout
from weft.http.transport import Transport
from weft.http.url import URL

__all__ = ["Client"]

HAS_COOKIES = int(Note.HAS_COOKIES)
INFINITY = float("inf")
MOST_PREPARED = 1000
# Options that are done with once the request is prepared, where they are looked at too.
PLAIN = frozenset({"params", "headers", "content", "data", "json", "files", "timeout", "proxy", "tls", "ssl"})
# What a body may unpack to, in bytes, unless the client is told otherwise.
MOST_DECODED = 1 << 30
USER_AGENT = f"weft/{__version__}"
# A URL of these classes is the same whenever it comes again. What is derived from them may not be.
IMMUTABLE = frozenset({str, URL})


class Client:
    """An HTTP client. ``ClientSession`` is the same class.

    Args:
        base_url: what relative URLs are resolved against.
        headers: sent with every request; a request's own replace them by name.
        cookies: put into the jar for every host, as aiohttp and requests do.
        cookie_jar: keeps cookies; ``NoCookies()`` keeps none.
        auth: an :class:`Auth`, or a pair of login and password.
        timeout: a :class:`Timeout`, seconds for the whole request, or None for no limit.
        limits: how many connections there may be.
        retry: a :class:`Retry`, or how often to repeat what may be repeated; by default a request is repeated only
            when a connection turned out to have been dead.
        follow_redirects: whether redirects are followed.
        max_redirects: how many in a row.
        raise_for_status: raise for every status of 400 and above.
        proxy: the URL of a proxy for everything, http, https, socks5 or socks5h.
        trust_env: take proxies from the environment (``https_proxy``, ``no_proxy``) and passwords from ``~/.netrc``.
        tls: True to trust the system's authorities, the path of a file to trust those in it, an ``ssl.SSLContext``
            for everything else (client certificates); False to verify nothing.
        http2: whether to offer HTTP/2 to servers with TLS, where the ``h2`` library is there.
        unix_socket: the path of a Unix socket to connect to instead of the URL's host.
        max_decoded_size: what a body may unpack to, in bytes.
        transport: where requests go instead of the network: see :mod:`weft.http.testing` and :mod:`weft.http.asgi`.
        hooks: told of the phases of each request.
        resolver: looks up names: ``await resolver(host)`` gives addresses and their time to live in seconds.
        connector: limits, tls and unix_socket in one, for those who come from aiohttp.
    """

    base_url: URL | None
    headers: Headers
    auth: Auth | None
    timeout: Timeout

    def __init__(
        self,
        base_url: Any = None,
        *,
        headers: Any = None,
        cookies: Mapping[str, str] | None = None,
        cookie_jar: CookieJar | None = None,
        auth: Any = None,
        timeout: Any = DEFAULT_TIMEOUT,
        limits: Limits | None = None,
        retry: Retry | int | None = None,
        follow_redirects: bool = True,
        max_redirects: int = 10,
        raise_for_status: bool = False,
        proxy: Any = None,
        trust_env: bool = True,
        tls: Any = True,
        http2: bool = True,
        unix_socket: str | os.PathLike[str] | None = None,
        max_decoded_size: int | None = MOST_DECODED,
        transport: Transport | None = None,
        hooks: Hooks | None = None,
        resolver: Any = None,
        connector: Connector | None = None,
    ) -> None:
        if connector is not None:
            limits, tls, unix_socket = connector.limits, connector.tls, connector.unix_socket
        self.base_url = base_url
        defaults = Headers({"Accept": "*/*", "Accept-Encoding": ACCEPT_ENCODING, "User-Agent": USER_AGENT})
        self.headers = merge(defaults, headers or ())
        self.cookies = CookieJar() if cookie_jar is None else cookie_jar
        self._own_cookies = dict(cookies or {})
        self.auth = auth
        self.timeout = timeout
        self.limits = Limits() if limits is None else limits
        self.retry = as_retry(retry)
        self.follow_redirects = follow_redirects
        self.max_redirects = max_redirects
        self.raise_for_status = raise_for_status
        self.trust_env = trust_env
        self.max_decoded_size = max_decoded_size
        self.hooks = hooks
        self._network_options = {"proxy": proxy, "tls": as_tls(tls), "http2": http2, "unix_socket": unix_socket} | {
            "trust_env": trust_env, "resolver": resolver
        }  # fmt: skip
        self._given_transport = transport
        self._transport: Transport | None = None
        self._loop: Any = None
        self._time: Any = None
        self._is_closed = False
        self._common: Headers | None = None
        self._prepared: dict[tuple[str, Any], Prepared] = {}
        self._forget()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in PREPARED_FROM:
            value = PREPARED_FROM[name](value)
            if name == "headers":
                value = Defaults(value, self._forget)
        super().__setattr__(name, value)
        if name in PREPARED_FROM:
            self._forget()

    def _forget(self) -> None:
        """What requests are prepared from has changed: those that are ready are not any more."""
        if "_prepared" in self.__dict__:
            self._prepared.clear()
            self._common = None
            self._has_netrc = self.trust_env and self.auth is None and os.path.exists(netrc_path())

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "new" if self._transport is None else "open"
        base = "" if self.base_url is None else f" {self.base_url!r}"
        return f"<weft.http.Client {state}{base}>"

    def __del__(self) -> None:
        if getattr(self, "_transport", None) is not None and not self._is_closed:
            message = f"{self!r} was never closed: use it as `async with Client() as client`, or await its aclose()"
            warnings.warn(message, ResourceWarning, source=self)

    # -- requests

    def request(self, method: str, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """Request ``url``.

        ``await`` gives the response as soon as its head is there; ``async with`` gives it too, and gives its connection
        back at the end of the block.

        Args:
            method: GET, POST, ...
            url: sent as it is written; relative ones are resolved against ``base_url``.
            params: added to the query.
            headers: replace the client's by name; a value of None leaves a header out.
            cookies: sent with this request beside those of the jar.
            content: a body as it is: bytes, text, a file, an iterable or async iterable of bytes.
            data: a form (mapping or pairs, :class:`FormData`), or a body like ``content``.
            json: a body to write as JSON.
            files: a multipart form's files.
            auth: replaces the client's.
            timeout: replaces the client's.
            follow_redirects: replaces the client's; ``allow_redirects`` is the same.
            max_redirects: replaces the client's.
            retry: replaces the client's.
            raise_for_status: replaces the client's.
            decode: False leaves the body in the coding in which it came.
            upgrade: ask to switch protocols: a 101 gives ``response.tunnel``.
            proxy: replaces the client's.
            tls: replaces the client's; ``ssl`` is the same.

        Raises:
            HTTPError: there is no response; its class says in which phase, and ``blame`` by whose fault.
        """
        return Call(self._request(method.upper() if method.islower() else method, url, options))

    def get(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """GET ``url``; see :meth:`request`."""
        return Call(self._request("GET", url, options))

    def head(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """HEAD ``url``; see :meth:`request`. Redirects are followed as for GET."""
        return Call(self._request("HEAD", url, options))

    def options(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """OPTIONS of ``url``; see :meth:`request`."""
        return Call(self._request("OPTIONS", url, options))

    def post(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """POST to ``url``; see :meth:`request`."""
        return Call(self._request("POST", url, options))

    def put(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """PUT to ``url``; see :meth:`request`."""
        return Call(self._request("PUT", url, options))

    def patch(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """PATCH ``url``; see :meth:`request`."""
        return Call(self._request("PATCH", url, options))

    def delete(self, url: Any, **options: Unpack[RequestOptions]) -> Call:
        """DELETE ``url``; see :meth:`request`."""
        return Call(self._request("DELETE", url, options))

    async def _request(self, method: str, url: Any, options: RequestOptions) -> Response:
        if asyncio.get_running_loop() is not self._loop:
            self._open(url)
        is_plain = PLAIN.issuperset(options)
        if not is_plain:
            check(options)
        prepared = self._prepared.get((method, url)) if url.__class__ in IMMUTABLE else None
        if prepared is None:
            prepared = self._prepare(method, url)
        request = prepared.varied(options) if options or not prepared.is_whole else prepared.request
        if self.hooks is not None or (not is_plain and "cookies" in options):
            return await Journey(self, request, options).run()
        # A journey works out the cookies of each of its requests anew: it gets this one without.
        sent = request
        if self.cookies or self._own_cookies:
            sent = prepared.with_cookies(request, self.cookies, self.cookie_header)
        total = request.timeout.total
        limit = INFINITY if total is None else self._time() + total
        try:
            incoming = await self._transport.send(sent, limit)  # type: ignore[union-attr]
        except HTTPError as error:
            if self.retry is None and "retry" not in options:
                raise
            return await Journey(self, request, options, limit).after_error(error)
        if incoming.status >= 300 or incoming.notes & HAS_COOKIES or not is_plain:
            return await Journey(self, request, options, limit).after(incoming)
        return Response(incoming, request, self.max_decoded_size)

    async def download(self, url: Any, path: str | os.PathLike[str], **options: Unpack[RequestOptions]) -> int:
        """GET ``url`` into the file at ``path``, which is there when it is complete; returns its length in bytes.

        Raises:
            HTTPError: the body did not come whole, or the status is 400 or above.
            OSError: the file cannot be written.
        """
        from weft.http.download import save

        async with self.get(url, **options) as response:
            return await save(response.raise_for_status(), path)

    def websocket(self, url: Any, **options: Any) -> Any:
        """Open a WebSocket (RFC 6455) to ``url``; ``await`` gives it, ``async with`` closes it too.

        The options are those of :meth:`request`, and of :class:`WebSocket`: ``subprotocols``, ``heartbeat``,
        ``max_size``, ``compress``, ``close_timeout``, ``autoping``.
        """
        from weft.http.upgrade import open_websocket

        return open_websocket(self, url, options)

    ws_connect = websocket

    def events(self, url: Any, **options: Any) -> Any:
        """The server-sent events of ``url``, as an async iterator that connects again when the server hangs up.

        A stream has no end, so unless ``timeout`` is given there is no limit on the whole, nor on silence. The other
        options are those of :meth:`request` and of :func:`weft.http.sse.events`.
        """
        from weft.http.sse import events

        if "timeout" not in options:
            options["timeout"] = replace(self.timeout, total=None, idle=None)
        return events(self, url, **options)

    # -- preparing a request

    def _prepare(self, method: str, url: Any) -> Prepared:
        target = self._url(url)
        auth = self.auth_for(target, {})
        if target.username is not None:
            target = target.without_userinfo()
        prepared = Prepared(method, target, self._common_headers(), auth, self.timeout)
        if url.__class__ in IMMUTABLE:
            if len(self._prepared) >= MOST_PREPARED:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[method, url] = prepared
        return prepared

    def _common_headers(self) -> Headers:
        """The client's headers as they are now, the same object for every request that has none of its own."""
        if self._common is None:
            self._common = self.headers.copy()
        return self._common

    def _url(self, url: Any) -> URL:
        return URL(url) if self.base_url is None else self.base_url.join(url)

    def auth_for(self, url: URL, options: RequestOptions) -> Auth | None:
        """Who vouches for a request: its own, that in its URL, the client's, or what ``~/.netrc`` has for the host."""
        if options.get("auth") is not None:
            return as_auth(options["auth"])
        if url.username is not None:
            return BasicAuth(url.username, url.password or "")
        return netrc_auth(url.host) if self._has_netrc else self.auth

    def retry_for(self, options: RequestOptions) -> Retry | None:
        """How a request may be repeated."""
        return as_retry(options["retry"]) if "retry" in options else self.retry

    def cookie_header(self, request: Request, given: Mapping[str, str] | None) -> str | None:
        """The Cookie header of a request: from the jar, the client, and those ``given`` for it."""
        own = self._own_cookies | dict(given or {})
        pairs = [f"{name}={value}" for name, value in own.items()]
        kept = self.cookies.header_for(request.url) if self.cookies else None
        if kept is not None:
            pairs[:0] = [pair for pair in kept.split("; ") if pair.partition("=")[0] not in own]
        return "; ".join(pairs) or None

    # -- the life of a client

    def _open(self, url: Any = None) -> None:
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise ClientClosedError(url=url)
        if self._loop is not None:
            raise ClientClosedError(f"{self!r} belongs to another event loop: make one client per loop", url=url)
        self._loop = loop
        self._time = loop.time
        if self._given_transport is not None:
            self._transport = self._given_transport
        else:
            from weft.http.routes import network

            self._transport = network(loop, self.limits, **self._network_options)

    @property
    def transport(self) -> Transport:
        """Where the requests go."""
        if asyncio.get_running_loop() is not self._loop:
            self._open()
        assert self._transport is not None
        return self._transport

    @property
    def cookie_jar(self) -> CookieJar:
        """The same as ``cookies``, under the name that aiohttp's users know."""
        return self.cookies

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._is_closed

    async def aclose(self) -> None:
        """Close every connection. Requests under way fail; the client cannot be used again."""
        self._is_closed = True
        self._loop = None
        self._prepared.clear()
        if self._transport is not None:
            await self._transport.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        if asyncio.get_running_loop() is not self._loop:
            self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


# What requests are prepared from, and what is made of a value that is given for it.
PREPARED_FROM: dict[str, Callable[[Any], Any]] = {
    "auth": as_auth,
    "base_url": lambda url: None if url is None else URL(url),
    "headers": Headers,
    "timeout": Timeout.of,
}
