"""By which way a request goes: straight, by a proxy, or to a Unix socket; and the network transport that goes it.

Invariant: what decides is asked once per place that requests go to, and the answer is part of the pool's key, so that a
connection is only used for what it was made for.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from weft.http.dial import Dialer, Route
from weft.http.names import Names
from weft.http.network import NetworkTransport
from weft.http.outgoing import Request
from weft.http.proxies import Proxy, environment_proxy
from weft.http.settings import Limits
from weft.http.url import URL

__all__ = ["Routes", "network"]

MOST_NAMED = 1000


class Routes:
    """The ways of one client."""

    def __init__(self, *, proxy: Any, trust_env: bool, tls: Any, unix_socket: Any) -> None:
        self._proxy = as_proxy(proxy)
        self._trusts_environment = trust_env
        self._tls = tls
        self._unix = None if unix_socket is None else os.fspath(unix_socket)
        self._named: dict[tuple[str, str, int], Proxy | None] = {}

    def __call__(self, request: Request) -> Route:
        """The route of ``request``; notes in its place what a proxy must be told."""
        url, place = request.url, request.place
        proxy = as_proxy(place.proxy) if place.proxy is not None else self._proxy
        tls = self._tls if place.tls is None else place.tls
        if proxy is None and self._unix is None and self._trusts_environment:
            proxy = self._from_environment(url)
        scheme = "https" if url.is_secure else "http"
        # A WebSocket is not forwarded, and not spoken over HTTP/2.
        alpn = ("http/1.1",) if request.may_switch else None
        route = Route(scheme, url.host, url.port, proxy, tls, None, self._unix, request.may_switch, alpn)
        if proxy is not None and route.is_forwarded:
            place.is_absolute = True
            place.proxy_headers = proxy.headers
            if proxy.authorization is not None:
                place.proxy_headers = (*proxy.headers, ("Proxy-Authorization", proxy.authorization))
            # One proxy serves every host of plain HTTP.
            return Route("http", proxy.host, proxy.port, proxy)
        return route

    def _from_environment(self, url: URL) -> Proxy | None:
        """The proxy that the environment names for a place; asked once for each, as it is read anew every time."""
        place = url.origin
        if place not in self._named:
            if len(self._named) >= MOST_NAMED:
                self._named.clear()
            self._named[place] = environment_proxy(url, os.environ)
        return self._named[place]


def as_proxy(given: Any) -> Proxy | None:
    """A :class:`Proxy` from what a user gives: one, its URL, or None."""
    return given if given is None or isinstance(given, Proxy) else Proxy(given)


def network(
    loop: asyncio.AbstractEventLoop, limits: Limits, *, proxy: Any, trust_env: bool, tls: Any, http2: bool,
    unix_socket: Any, resolver: Any,
) -> NetworkTransport:  # fmt: skip
    """The network transport of a client with these options."""
    names = Names(resolver=resolver) if resolver is not None else Names()
    offers_h2 = http2 and has_h2()
    dialer = Dialer(names, alpn=("h2", "http/1.1") if offers_h2 else ("http/1.1",))
    routes = Routes(proxy=proxy, trust_env=trust_env, tls=tls, unix_socket=unix_socket)
    return NetworkTransport(loop, dialer, limits, routes, offers_h2)


def has_h2() -> bool:
    """Whether the library for HTTP/2 is there."""
    from importlib.util import find_spec

    return find_spec("h2") is not None
