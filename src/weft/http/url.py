"""The URL of a request: taken apart once, sent as it was written.

Owns the class :class:`URL`. Its invariant: ``text`` is ASCII without anything that could end or split a request line,
has a scheme of ours and a host, and differs from what the user wrote only where that could not have been sent (spaces,
quotes, angle brackets, characters beyond ASCII). So a signed URL stays signed, and ``URL(url.text) == url``.
Crawlers make millions of them: the usual URL is checked and cut by methods of ``str``, without a regular expression.
Used by every part of ``weft.http``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any, Final, TypeAlias
from urllib.parse import quote_plus, unquote, unquote_to_bytes

from weft.http.errors import InvalidURLError

__all__ = ["URL", "QueryParams", "form_quoted"]

QueryParams: TypeAlias = "Mapping[str, Any] | Iterable[tuple[str, Any]] | str"

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE: Final = frozenset({"https", "wss"})

# What stands in a request line as it is: every visible ASCII character but `"`, `<` and `>`. RFC 3986 allows fewer
# (not `|`, `{`, `^`...), but servers read those, browsers send them, and a signature may have been made over them.
_SENT_AS_IS: Final = bytes(code for code in range(0x21, 0x7F) if chr(code) not in '"<>')
# RFC 3986 3.2.2, reg-name: unreserved and sub-delims. The underscore is not DNS's, but names in use have it.
_OF_A_HOST: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;="
_OF_A_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]+")
_HAS_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# RFC 3986, appendix B, without the scheme.
_REFERENCE: Final = re.compile(r"(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?")

_SHOWN: Final = 200  # Characters of a refused URL that an error shows: enough to find it, too few to flood a log.


class URL:
    """A URL that can be requested: immutable, hashable, equal to another of the same text.

    It is sent as written, byte for byte. Only what may not stand in a request line is percent-encoded (as UTF-8):
    space, ``"``, ``<``, ``>``, DEL and what is not ASCII. Escapes, dot segments, ``|``, ``{}`` and ``+`` stay. The
    host of an internationalised name is encoded for DNS, with the package ``idna`` (UTS 46) where it is installed and
    else with what comes with Python (IDNA 2003).

    Args:
        text: an absolute URL of the scheme http, https, ws or wss. What is not a string, such as a ``yarl.URL``, is
            taken by its ``str()``.

    Raises:
        InvalidURLError: no such URL: another scheme, no host, a port that is none, a control character.

    Source: RFC 3986; RFC 9110, section 4.2.
    """

    __slots__ = ("_authority", "_host", "_port", "_scheme", "_target", "_text", "_userinfo")

    _text: str
    _scheme: str
    _host: str
    _port: int
    _authority: str
    _target: str
    _userinfo: str | None

    def __new__(cls, text: Any) -> URL:
        if type(text) is not str:
            if isinstance(text, URL):
                return text
            text = str(text)
        written = text
        if not text.isascii() or text.encode().translate(None, _SENT_AS_IS):
            text = _quoted(text)
        scheme, mark, rest = text.partition("://")
        default = _PORTS.get(scheme)
        if default is None or not mark:
            scheme, default = _other_scheme(written, scheme, mark)
        server, _, tail = rest.partition("/")
        if "?" in server or "#" in server:
            server, tail = _without_path(rest)
        if "#" in tail:
            tail = tail[: tail.index("#")]
        userinfo = None
        if "@" in server:
            # The last one ends the user's name and password, as every reader has it: they are often mail addresses.
            userinfo, _, server = server.rpartition("@")
            if "\\" in userinfo:
                # Browsers take it for a slash: to them `http://a\@b/` is at a, to the RFC it is at b.
                raise InvalidURLError("a backslash stands before its host", url=_shown(written))
        try:
            host, port, authority = _server(server, default)
        except ValueError as error:
            raise InvalidURLError(str(error), url=_shown(written)) from None
        if "%" in server and server[0] != "[":
            text = _with_server(text, userinfo, server, host)
        self = object.__new__(cls)
        self._text = text
        self._scheme = scheme
        self._host = host
        self._port = port
        self._authority = authority
        self._target = "/" + tail
        self._userinfo = userinfo
        return self

    # -- what it consists of

    @property
    def text(self) -> str:
        """All of it, in ASCII, as it is sent."""
        return self._text

    @property
    def scheme(self) -> str:
        """``"http"``, ``"https"``, ``"ws"`` or ``"wss"``."""
        return self._scheme

    @property
    def host(self) -> str:
        """Name or address to connect to: ASCII, lower case; an IPv6 address without brackets, with its zone if any."""
        return self._host

    @property
    def port(self) -> int:
        """The port, the scheme's own if none is written."""
        return self._port

    @property
    def username(self) -> str | None:
        """The user's name, decoded; None if there is none."""
        return unquote(self._userinfo.partition(":")[0]) if self._userinfo else None

    @property
    def password(self) -> str | None:
        """The password, decoded; None if there is none."""
        _, colon, password = (self._userinfo or "").partition(":")
        return unquote(password) if colon else None

    @property
    def authority(self) -> str:
        """The value of the header ``Host``: host, and port where it is not the scheme's (RFC 9110, section 7.2)."""
        return self._authority

    @property
    def target(self) -> str:
        """What stands in the request line: path and query, at least ``/`` (RFC 9112, section 3.2.1)."""
        return self._target

    @property
    def path(self) -> str:
        """The path as it is sent, at least ``/``; escapes are not decoded."""
        return self._target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark, as it is sent; may be empty."""
        return self._target.partition("?")[2]

    @property
    def fragment(self) -> str:
        """What follows the number sign; may be empty. It is never sent."""
        return self._text.partition("#")[2]

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what shares credentials (RFC 6454, section 4)."""
        return (self._scheme, self._host, self._port)

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken over TLS."""
        return self._scheme in _SECURE

    # -- others made from it

    def join(self, reference: Any) -> URL:
        """The URL that a reference means which was found here: a redirect's ``Location``, a link of a page.

        Dot segments are resolved, all else stays as written. A reference that begins with this URL's scheme but has no
        ``//`` is taken for a relative one, as browsers do.

        Args:
            reference: relative or absolute.

        Raises:
            InvalidURLError: it is no reference to something that can be requested.

        Source: RFC 3986, section 5.2.
        """
        text = str(reference)
        match = _HAS_SCHEME.match(text)
        scheme, rest = (match[0], text[match.end() :]) if match else (f"{self._scheme}:", text)
        if not rest.startswith("//") and scheme[:-1].lower() != self._scheme:
            raise InvalidURLError("it is not of the form http://... or https://...", url=_shown(text))
        parts = _REFERENCE.fullmatch(rest)
        if parts is None:
            raise InvalidURLError(_CONTROL, url=_shown(text))
        server, path, query, fragment = parts.groups()
        if server is None:
            server = self._server_as_written()
            if path and path[0] != "/":
                path = self.path.rpartition("/")[0] + "/" + path
            elif not path and query is None and "?" in self._target:
                query = self.query
            path = _without_dots(path) or self._path_as_written()
        else:
            path = _without_dots(path)
        end = "" if query is None else f"?{query}"
        if fragment is not None:
            end += f"#{fragment}"
        return URL(f"{scheme}//{server}{path}{end}")

    def with_query(self, params: QueryParams | None) -> URL:
        """The same with parameters added to those that it has.

        Args:
            params: a mapping or pairs, whose names and values are percent-encoded as a form's are (space as ``+``); a
                list, tuple or set as value repeats the name, None leaves it out, ``True`` is ``true``. A string is a
                query already: it is added as it is.
        """
        if isinstance(params, str):
            added = params.replace("#", "%23")
        else:
            added = "&".join([f"{form_quoted(name)}={value}" for name, value in _encoded_pairs(params or ())])
        if not added:
            return self
        head, mark, fragment = self._text.partition("#")
        if "?" not in head:
            joint = "?"
        else:
            joint = "" if head[-1] in "?&" else "&"
        if not added.isascii() or added.encode().translate(None, _SENT_AS_IS):
            added = _quoted(added)
        # What is added stands behind all that was taken apart: only the text and the target are others.
        other = object.__new__(URL)
        other._text = f"{head}{joint}{added}{mark}{fragment}"
        other._target = f"{self._target}{joint}{added}"
        other._scheme, other._host, other._port = self._scheme, self._host, self._port
        other._authority, other._userinfo = self._authority, self._userinfo
        return other

    def with_fragment(self, fragment: str) -> URL:
        """The same with another fragment, or with none if it is empty."""
        head = self._text.partition("#")[0]
        return URL(f"{head}#{fragment}" if fragment else head)

    def without_userinfo(self) -> URL:
        """The same without user's name and password."""
        if self._userinfo is None:
            return self
        scheme, mark, rest = self._text.partition("://")
        return URL(f"{scheme}{mark}{rest[len(self._userinfo) + 1 :]}")

    def _server_as_written(self) -> str:
        """User, host and port, as they stand in the text."""
        return _without_path(self._text.partition("://")[2])[0]

    def _path_as_written(self) -> str:
        """The path, empty where none is written."""
        rest = self._text.partition("://")[2]
        return self.path if rest[len(self._server_as_written()) :].startswith("/") else ""

    # -- as an object

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        if self.password is None:
            return f"URL({self._text!r})"
        scheme, mark, rest = self._text.partition("://")
        assert self._userinfo is not None
        user = self._userinfo.partition(":")[0]
        return f"URL({f'{scheme}{mark}{user}:***{rest[len(self._userinfo) :]}'!r})"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, URL) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[URL], tuple[str]]:
        return (URL, (self._text,))


# -- the less usual


_CONTROL: Final = (
    "it contains a control character, such as a line break. Remedy: strip() what was read from a file, and "
    "percent-encode what belongs to the URL"
)


def _shown(text: str) -> str:
    """A refused URL for an error: no password, no line break, not too long."""
    scheme, mark, rest = text.partition("://")
    server = _without_path(rest)[0]
    if "@" in server:
        rest = "***" + rest[server.rindex("@") :]
    shown = f"{scheme}{mark}{rest}"
    return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...")[1:-1]


def _quoted(text: str) -> str:
    """The text with everything percent-encoded that may not stand in a request line."""
    if min(text) < " ":
        raise InvalidURLError(_CONTROL, url=_shown(text))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidURLError("it contains half of a surrogate pair, which is no character", url=_shown(text)) from None
    return "".join(chr(byte) if byte in _SENT_AS_IS else f"%{byte:02X}" for byte in data)


def _other_scheme(written: str, scheme: str, mark: str) -> tuple[str, int]:
    """Scheme and default port where the scheme is not one of ours in lower case."""
    lowered = scheme.lower()
    if mark and lowered in _PORTS:
        return lowered, _PORTS[lowered]
    if lowered.partition(":")[0] in _PORTS and ":" in lowered:
        problem = "it has no host: two slashes come after the scheme, as in https://example.org/"
    elif mark and _HAS_SCHEME.fullmatch(f"{scheme}:"):
        problem = f"its scheme {scheme!r} is none of http, https, ws, wss"
    else:
        problem = "it has no scheme. Remedy: write all of it, as in https://example.org/path, or give a base_url"
    raise InvalidURLError(problem, url=_shown(written))


def _without_path(rest: str) -> tuple[str, str]:
    """Cuts ``host/path``, ``host?query`` and ``host#fragment`` into the server and the rest without its first slash."""
    end = min((index for index in map(rest.find, "/?#") if index >= 0), default=len(rest))
    return rest[:end], rest[end:].removeprefix("/")


@lru_cache(maxsize=4096)
def _server(server: str, default: int) -> tuple[str, int, str]:
    """Host, port and the header ``Host`` of ``host:port``.

    Raises:
        ValueError: what is wrong with it.
    """
    if server[:1] == "[":
        inside, bracket, port = server[1:].partition("]")
        if not bracket or (port and port[0] != ":"):
            raise ValueError("its IPv6 address does not end with a bracket")
        host, name = _ipv6(inside)
        port = port[1:]
    else:
        host, _, port = server.partition(":")
        host = name = _host(host)
    if not port:
        return host, default, name
    # int() would take signs, spaces, underscores and the digits of other scripts.
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 16 else 0
    if not 0 < number < 65536:
        raise ValueError(f"its port {port!r} is not a number from 1 to 65535")
    return host, number, name if number == default else f"{name}:{number}"


def _host(written: str) -> str:
    """A host's name in the form of DNS."""
    host = written.lower()
    if "%" in host:
        host = _idna(host)
    if not host:
        raise ValueError("it has no host")
    if wrong := host.encode().translate(None, _OF_A_HOST):
        raise ValueError(f"{wrong[:1].decode(errors='replace')!r} may not stand in a host's name")
    return host


def _idna(host: str) -> str:
    """The ASCII form of a name of which something is percent-encoded."""
    try:
        name = unquote_to_bytes(host).decode()
        if name.isascii():
            return name.lower()
        try:
            from idna import encode
        except ImportError:
            return name.encode("idna").decode().lower()
        return encode(name, uts46=True).decode()
    except UnicodeError as error:
        # idna.IDNAError is a UnicodeError too.
        raise ValueError(f"its host is no name that DNS can have ({error})") from None


def _ipv6(inside: str) -> tuple[str, str]:
    """Host (with zone) and its form in the header ``Host`` (without) of what stands between brackets (RFC 6874)."""
    address, percent, zone = inside.partition("%")
    zone = zone.removeprefix("25")
    try:
        address = inet_ntop(AF_INET6, inet_pton(AF_INET6, address))
    except (OSError, UnicodeError):
        raise ValueError(f"{address!r} is not an IPv6 address") from None
    if percent and not _OF_A_ZONE.fullmatch(zone):
        raise ValueError(f"{zone!r} is not the zone of an IPv6 address")
    return f"{address}%{zone}" if percent else address, f"[{address}]"


def _with_server(text: str, userinfo: str | None, server: str, host: str) -> str:
    """The text with its host as DNS has it; the port stays as written."""
    start = text.index("://") + 3 + (0 if userinfo is None else len(userinfo) + 1)
    port = "".join(server.partition(":")[1:])
    return f"{text[:start]}{host}{port}{text[start + len(server) :]}"


def _without_dots(path: str) -> str:
    """The path without ``.`` and ``..`` segments (RFC 3986, section 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def _encoded_pairs(params: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each name, with each of its values, the values percent-encoded."""
    for name, value in params.items() if isinstance(params, (dict, Mapping)) else params:
        if type(value) is str or type(value) is int:  # what most are; to look a type up among abstract ones takes long
            yield str(name), form_quoted(str(value))
            continue
        if isinstance(value, Mapping):
            raise TypeError(f"the value of the parameter {name!r} is a mapping; give a string, a number or a list")
        if isinstance(value, Iterable) and not isinstance(value, str | bytes):
            several = value
        else:
            several = (value,)
        for one in several:
            if one is not None:
                yield str(name), form_quoted(one if isinstance(one, str | bytes) else _as_text(one))


def form_quoted(text: str | bytes) -> str:
    """A name or a value as forms and queries have it: space as ``+``, what is not unreserved percent-encoded."""
    # Most names are words, and to see that costs less than to look at each letter.
    return text if isinstance(text, str) and text.isascii() and text.isalnum() else quote_plus(text)


def _as_text(value: Any) -> str:
    """A parameter's value as text: JSON's words for booleans, which servers read, not Python's."""
    return str(value).lower() if isinstance(value, bool) else str(value)
