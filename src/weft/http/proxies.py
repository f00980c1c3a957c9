"""Proxies: what one is, and which one the environment asks for.

Invariant: a :class:`Proxy` is checked when it is made, never changes, and prints without its secrets.
Called by the client, which chooses; ``dial`` and ``tunnels`` speak to it. Does no I/O.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from weft.http.errors import InvalidHeaderError, InvalidURLError

__all__ = ["Proxy", "environment_proxy"]

PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
LONGEST_SOCKS_SECRET = 255  # bytes: its length is one byte (RFC 1929, 2)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_A_HOST = re.compile(r"[\x00-\x20\x7f/?#@\\<>\"]")


class Target(Protocol):
    """The part of a URL that decides about its proxy."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Proxy:
    """A proxy server; equal and hashed by all that it was made of.

    Args:
        url: ``http://``, ``https://``, ``socks5://`` (names are resolved here) or ``socks5h://`` (by the proxy), with
            ``user:password@`` where it wants them; without a scheme it is an HTTP proxy. The port is 80, 443 or 1080
            unless given.
        auth: (user, password), instead of those in the URL.
        headers: more headers for its requests, as name and value.
        tls: how to verify an ``https://`` proxy: a context, None for the system's authorities, False for not at all.

    Attributes:
        scheme: one of the four, in lower case.
        host: name or address, IPv6 without brackets.
        port: a number.
        auth: (user, password) or None.
        headers: as given, as a tuple of pairs.
        tls: as given.

    Raises:
        InvalidURLError: the URL is not that of a proxy.
        InvalidHeaderError: a header that would end its line early.
    """

    __slots__ = ("_key", "auth", "headers", "host", "port", "scheme", "tls")

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None
    headers: tuple[tuple[str, str], ...]
    tls: ssl.SSLContext | bool | None

    def __init__(
        self,
        url: object,
        *,
        auth: tuple[str, str] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        tls: ssl.SSLContext | bool | None = None,
    ) -> None:
        parts = _split(str(url))
        scheme = parts.scheme.lower()
        if scheme not in PORTS:
            raise InvalidURLError(
                f"a proxy's URL begins with {', '.join(f'{one}://' for one in PORTS)}, not {scheme}://"
            )
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise InvalidURLError("a proxy's URL ends with its host and port: nothing is asked of the proxy by a path")
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidURLError(f"a proxy's port is a number from 1 to 65535: {error}") from None
        host = _ascii(parts.hostname or "")
        if not host or _NOT_IN_A_HOST.search(host) or port == 0:
            raise InvalidURLError("a proxy's URL names its host, and a port from 1 to 65535, as in http://proxy:3128")
        if auth is None and parts.username is not None:
            auth = unquote(parts.username), unquote(parts.password or "")
        _check_auth(scheme, auth)
        self.scheme, self.host, self.port, self.auth, self.tls = scheme, host, port or PORTS[scheme], auth, tls
        self.headers = _checked(headers)
        self._key = (scheme, host, self.port, auth, self.headers, tls)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS 5 (RFC 1928), not HTTP."""
        return self.scheme in {"socks5", "socks5h"}

    @property
    def resolves(self) -> bool:
        """Whether it is the proxy that resolves host names."""
        return self.scheme != "socks5"

    @property
    def authorization(self) -> str | None:
        """The value of ``Proxy-Authorization`` (RFC 7617) for requests that go through it without a tunnel, or None."""
        if self.auth is None or self.is_socks:
            return None
        return "Basic " + base64.b64encode(":".join(self.auth).encode()).decode("ascii")

    def __str__(self) -> str:
        """Its URL without user and password, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        scheme, _, rest = str(self).partition("//")
        user = "" if self.auth is None else f"{self.auth[0]}:***@"
        return f"<Proxy {scheme}//{user}{rest}>"

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Proxy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Proxy may hold a TLS context and secrets: pass its URL on instead")


def _split(text: str) -> SplitResult:
    # urlsplit() would drop tabs and line ends, and take what is left for the URL.
    if _NOT_IN_A_VALUE.search(text) or "\t" in text or " " in text.strip():
        raise InvalidURLError("a proxy's URL has a space or control character: write it as %XX, or leave it out")
    text = text.strip()
    try:
        return urlsplit(text if "://" in text else f"http://{text}")
    except ValueError as error:
        raise InvalidURLError(f"this is not a proxy's URL: {error}") from None


def _ascii(host: str) -> str:
    """The host name as it is looked up."""
    host = unquote(host).lower()
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidURLError(f"a proxy's host name {host!r} cannot be: {error}") from None


def _check_auth(scheme: str, auth: tuple[str, str] | None) -> None:
    if auth is None:
        return
    if scheme.startswith("socks") and max(len(part.encode()) for part in auth) > LONGEST_SOCKS_SECRET:
        raise InvalidURLError(f"SOCKS takes users and passwords of up to {LONGEST_SOCKS_SECRET} bytes")
    if not scheme.startswith("socks") and ":" in auth[0]:
        raise InvalidURLError("a user's name cannot have a colon where HTTP's basic authentication carries it")


def _checked(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in pairs:
        if not _TOKEN.fullmatch(name) or _NOT_IN_A_VALUE.search(value):
            raise InvalidHeaderError(f"the header {name!r} for a proxy has a character that headers cannot have")
    return pairs


# -- the environment


def environment_proxy(url: Target, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that the environment names for *url*, as curl and others read it.

    ``http_proxy``, ``https_proxy`` (which go by the scheme of *url*) and then ``all_proxy`` name it, ``no_proxy`` for
    whom there is none; each also in capitals, which count less. An empty one counts as not set. In a CGI program, which
    ``REQUEST_METHOD`` shows, ``HTTP_PROXY`` is a header of the request (httpoxy), so it is ignored.

    Args:
        url: where the request goes: a scheme (http, https, ws or wss), a host and a port.
        environ: instead of ``os.environ``.

    Raises:
        InvalidURLError: a variable, which the message names, holds something else.
    """
    environ = os.environ if environ is None else environ
    scheme = {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        text = environ.get(name, "").strip()
        if not text or (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            continue
        if _is_excepted(url, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
            return None
        try:
            return Proxy(text)
        except InvalidURLError as error:
            raise InvalidURLError(f"the environment variable {name}: {error}") from None
    return None


def _is_excepted(url: Target, no_proxy: str) -> bool:
    host = url.host.lower().rstrip(".")
    return any(_matches(entry, host, url.port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of ``no_proxy`` is about a host: ``*``, a domain and what is in it, an address, a network."""
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    # "[::1]:80", "[::1]", "::1", "name:80", "name"
    if match := re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?", entry):
        entry, wanted = match[1] or match[3], match[2] or match[4]
        if wanted and int(wanted) != port:
            return False
    if address is not None:
        return address == _address(entry)
    entry = entry.removeprefix("*").strip(".")
    if not entry.isascii():
        try:
            entry = entry.encode("idna").decode("ascii")
        except UnicodeError:
            return False
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
