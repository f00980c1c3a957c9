"""How a call becomes a request: what is kept of a method and a URL, and what the options of a call change of it.

Owns :class:`Prepared`. Its invariant: what depends on the moment (a token, the answer to a challenge) is asked for once
per request and never kept; all else of a method and a URL is made once, and shared by what is made from it.
Called by the client, which forgets what it has prepared when one of its defaults changes.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any

from weft.http.auth import Auth, BasicAuth
from weft.http.body import Body, make_body
from weft.http.cookies import CookieJar
from weft.http.defaults import merge
from weft.http.errors import InvalidHeaderError
from weft.http.headers import Headers
from weft.http.outgoing import Place, Request
from weft.http.retries import Retry
from weft.http.settings import RequestOptions, Timeout
from weft.http.url import URL

__all__ = ["Prepared", "as_auth", "as_retry", "as_tls", "check", "with_cookie"]

KNOWN = frozenset(RequestOptions.__annotations__)
BODIES = frozenset({"content", "data", "json", "files"})
# Options that change the headers, but for those that follow from the body.
HEADS = frozenset({"headers", "auth"})
# Options that may lead elsewhere than their request would go without.
WAYS = frozenset({"proxy", "tls", "ssl", "upgrade"})


class Prepared:
    """A method and a URL, ready to be requested, with options or without.

    Args:
        method: as it is sent.
        url: what to request; not with user and password, for whom ``auth`` stands.
        headers: the client's, which requests share: they are not changed.
        auth: who vouches for the requests, if they do not say so themselves.
        timeout: the client's.

    Attributes:
        request: what is sent where there are no options, if it is whole.
        is_whole: no header depends on when the request is sent.
    """

    __slots__ = ("_auth", "_cookies", "_headers", "is_whole", "request")

    def __init__(self, method: str, url: URL, headers: Headers, auth: Auth | None, timeout: Timeout) -> None:
        self._auth = auth
        self._headers = headers
        self.is_whole = auth is None or isinstance(auth, BasicAuth)
        if self.is_whole:
            headers = vouched(headers, auth, method, url)
        self.request = Request(method, url, headers, None, timeout)
        self._cookies: tuple[CookieJar, int, str | None, Request] | None = None

    def varied(self, options: RequestOptions) -> Request:
        """The request with ``options``, whose names are checked already."""
        plain = self.request
        url, headers, place, may_switch = plain.url, plain.headers, plain.place, False
        if "params" in options:
            url = url.with_query(options["params"])
        if not self.is_whole or not HEADS.isdisjoint(options):
            headers = self._headers_for(url, options)
        body = None if BODIES.isdisjoint(options) else body_of(options, headers, url)
        timeout = Timeout.of(options["timeout"]) if "timeout" in options else plain.timeout
        if not WAYS.isdisjoint(options):
            tls = as_tls(options.get("ssl"))
            if "tls" in options:
                tls = as_tls(options["tls"])
            place = Place(options.get("proxy"), tls)
            may_switch = bool(options.get("upgrade"))
        return Request(plain.method, url, headers, body, timeout, may_switch=may_switch, place=place)

    def with_cookies(
        self, request: Request, jar: CookieJar, header_for: Callable[[Request, None], str | None]
    ) -> Request:
        """``request``, which was made here, with the cookies that go there; as it is where there are none.

        Args:
            request: what :meth:`varied` made, or ``self.request``.
            jar: on which the answer depends.
            header_for: asked for the header when the jar is another than it was, or has changed.
        """
        kept = self._cookies
        if kept is None or kept[0] is not jar or kept[1] != jar.version:
            header = header_for(self.request, None)
            kept = self._cookies = (jar, jar.version, header, with_cookie(self.request, header))
        return kept[3] if request is self.request else with_cookie(request, kept[2])

    def _headers_for(self, url: URL, options: RequestOptions) -> Headers:
        own, auth = options.get("headers"), options.get("auth")
        headers = merge(self._headers, own) if own else self._headers
        return vouched(headers, self._auth if auth is None else as_auth(auth), self.request.method, url)


def vouched(headers: Headers, auth: Auth | None, method: str, url: URL) -> Headers:
    """``headers`` with the credentials of ``auth``, unless there are some among them."""
    if auth is None or "Authorization" in headers:
        return headers
    value = auth.header_for(method, url)
    if value is not None:
        headers = headers.copy()
        headers["Authorization"] = value
    return headers


def with_cookie(request: Request, header: str | None) -> Request:
    """``request`` with that header ``Cookie``, unless it has one of its own."""
    if header is None or "Cookie" in request.headers:
        return request
    headers = request.headers.copy()
    headers["Cookie"] = header
    return request.replace(headers=headers)


def body_of(options: RequestOptions, headers: Headers, url: URL) -> Body | None:
    """The body that a call gives its request."""
    body = make_body(
        content=options.get("content"), data=options.get("data"), json=options.get("json"), files=options.get("files")
    )
    if body is not None and body.length is None and "Content-Length" in headers:
        body.length = as_length(headers["Content-Length"], url)
    return body


def check(options: RequestOptions) -> None:
    """Refuse what a request cannot be given, before anything of it is done."""
    if not KNOWN.issuperset(options):
        unknown, known = sorted(options.keys() - KNOWN), ", ".join(sorted(KNOWN))
        raise TypeError(f"a request has no option {', '.join(map(repr, unknown))}: it has {known}")
    as_retry(options.get("retry"))


def as_length(given: str, url: URL) -> int:
    """The length of a body that does not know its own, as the caller's headers tell it."""
    if not (given.isascii() and given.isdecimal()):
        raise InvalidHeaderError(f"Content-Length is {given!r}: give a number of bytes", url=url)
    return int(given)


def as_tls(given: Any) -> Any:
    """How TLS is verified, from what a user gives."""
    if given is None or isinstance(given, bool | str | os.PathLike | ssl.SSLContext):
        return given
    raise TypeError(f"tls is {given!r}: give True, False, the file of an authority, or an ssl.SSLContext")


def as_auth(given: Any) -> Auth | None:
    """An :class:`Auth` from what a user gives."""
    if given is None or isinstance(given, Auth):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return BasicAuth(*given)
    raise TypeError(f"auth is {given!r}: give a pair of login and password, or a weft.http.Auth")


def as_retry(given: Any) -> Retry | None:
    """A :class:`Retry` from what a user gives."""
    if given is None or isinstance(given, Retry):
        return given
    return Retry.of(given)
