"""The cookies of a client: taken from ``Set-Cookie``, given out as ``Cookie``.

Owns :class:`CookieJar`. Its invariants: no cookie reaches a host that its own server could not have set it for (the
host itself, or a domain above it that is not a public suffix); one that is secure never travels in the clear; what has
expired is never given out; and :attr:`CookieJar.version` is another number whenever an answer could differ.
The client updates it with each response, and asks it once per version and URL.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from os import PathLike
from typing import Final

from weft.http.cookiefile import read_cookies, write_cookies
from weft.http.dates import parse_date
from weft.http.errors import InvalidHeaderError
from weft.http.url import URL

__all__ = ["Cookie", "CookieJar", "NoCookies", "load_public_suffixes", "suffixes_are_loaded"]

# RFC 6265, section 6.1, says what must at least be possible; browsers have the same as limits.
MAX_BYTES: Final = 4096  # of name and value together
MAX_ATTRIBUTE_BYTES: Final = 1024  # RFC 6265bis, section 5.6
MAX_PER_DOMAIN: Final = 50
MAX_TOTAL: Final = 3000

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_AGE: Final = re.compile(r"-?[0-9]+")
_NOT_IN_NAME: Final = re.compile(r"[\x00-\x20\x7f;=]")
_NOT_IN_VALUE: Final = re.compile(r"[\x00-\x1f\x7f;]")
_FOREVER: Final = 1e10  # Seconds that a Max-Age is cut to: three hundred years.


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie.

    Attributes:
        name: its name.
        value: its value, as the server wrote it, quotes included.
        domain: the host that it is for, without a leading dot.
        path: the path that it is for, and everything below.
        secure: whether it is sent over TLS only.
        http_only: whether scripts of a page may see it; kept, without meaning here.
        host_only: whether it is for that host alone, and not for those below it.
        expires: when it ends, in seconds since 1970; None: with the session.
        same_site: ``SameSite`` as the server wrote it; kept, without meaning here.
        created: when it was first set, in seconds since 1970.
    """

    name: str
    value: str
    domain: str
    path: str = "/"
    secure: bool = False
    http_only: bool = False
    host_only: bool = True
    expires: float | None = None
    same_site: str | None = None
    created: float = 0.0


class CookieJar:
    """Keeps the cookies of servers and says which of them go with a request.

    Cookies for a whole domain (``Domain=example.org`` from www.example.org) need the package ``publicsuffixlist``, to
    know that ``co.uk`` is not such a domain. Without it a cookie for another host than its own is refused, and one for
    its own is not sent to the hosts below it.

    Args:
        clock: gives the time in seconds since 1970.
        public_suffix: tells whether anybody can have a name below this domain; the package's list if left out.
        unsafe: for programs written for aiohttp; cookies of hosts without a name are kept either way.

    Source: RFC 6265, with the prefixes and the protection of secure cookies of its successor (RFC 6265bis).
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        public_suffix: Callable[[str], bool] | None = None,
        unsafe: bool = True,
    ) -> None:
        self._clock = clock
        self._public_suffix = public_suffix
        # By domain, then by path and name. Both in the order in which something was last set: the first is the first to
        # go when there are too many.
        self._domains: dict[str, dict[tuple[str, str], Cookie]] = {}
        self._count = 0
        self._version = 0
        self._next_expiry = math.inf
        self._last_created = 0.0

    # -- from servers

    def update(self, set_cookie: Iterable[str], url: URL) -> None:
        """Takes the cookies of a response; those that may not be set are left out silently, as browsers do.

        Args:
            set_cookie: the values of its ``Set-Cookie`` headers.
            url: where it came from.
        """
        for text in set_cookie:
            cookie = self._parse(text, url)
            if cookie is not None and (url.is_secure or not self._hides_secure(cookie, url)):
                self._store(cookie)

    def _parse(self, text: str, url: URL) -> Cookie | None:
        """The cookie of a ``Set-Cookie`` header, or None if it may not be set (RFC 6265, sections 5.2 and 5.3)."""
        pair, _, rest = text.partition(";")
        name, equals, value = pair.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not equals or not name or len(name) + len(value) > MAX_BYTES or _CONTROL.search(text):
            return None
        attributes = _attributes(rest)
        secure = "secure" in attributes
        path = attributes.get("path", "")
        cookie = Cookie(
            name,
            value,
            domain=url.host,
            path=path if path[:1] == "/" else _default_path(url.path),
            secure=secure,
            http_only="httponly" in attributes,
            expires=self._expiry(attributes),
            same_site=attributes.get("samesite"),
        )
        if secure and not url.is_secure:
            return None
        if not _prefix_holds(cookie, "domain" in attributes):
            return None
        return self._for_domain(cookie, attributes["domain"]) if "domain" in attributes else cookie

    def _expiry(self, attributes: dict[str, str]) -> float | None:
        """When a cookie with these attributes ends; ``Max-Age`` comes before ``Expires``."""
        age = attributes.get("max-age")
        if age is not None:
            # Longer numbers than int() reads are long enough as well.
            return self._clock() + min(int(age[:20]), _FOREVER) if age[0] != "-" else -math.inf
        date = attributes.get("expires")
        return None if date is None else parse_date(date)

    def _for_domain(self, cookie: Cookie, domain: str) -> Cookie | None:
        """The cookie for a whole domain, if its host may set one for that."""
        host = cookie.domain
        if not _below(host, domain):
            return None
        if _is_address(host) or self._is_public(domain):
            # Who is the host itself there has the cookie to itself: RFC 6265, section 5.3, step 5.
            return cookie if domain == host else None
        return replace(cookie, domain=domain, host_only=False)

    def _is_public(self, domain: str) -> bool:
        """Whether anybody can have a name below this domain; true if that cannot be known."""
        test = self._public_suffix or load_public_suffixes()
        return test is None or test(domain)

    def _hides_secure(self, cookie: Cookie, url: URL) -> bool:
        """Whether it would come between a server and its secure cookie (RFC 6265bis, section 5.7, step 16)."""
        return any(
            other.name == cookie.name and other.secure and _path_matches(cookie.path, other.path)
            for other in self._of_host(url.host)
        )

    # -- to servers

    def header_for(self, url: URL) -> str | None:
        """The value of the header ``Cookie`` of a request, or None if there is nothing to send.

        Source: RFC 6265, section 5.4.
        """
        self._purge()
        if not self._count:
            return None
        path, secure = url.path, url.is_secure
        found = [
            cookie
            for cookie in self._of_host(url.host)
            if (secure or not cookie.secure) and _path_matches(path, cookie.path)
        ]
        if not found:
            return None
        found.sort(key=lambda cookie: (-len(cookie.path), cookie.created))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in found)

    def _of_host(self, host: str) -> Iterator[Cookie]:
        """Every cookie of a host, and of the domains above it for all below them."""
        domain = host
        while True:
            for cookie in self._domains.get(domain, {}).values():
                if domain == host or not cookie.host_only:
                    yield cookie
            _, dot, domain = domain.partition(".")
            if not dot or _is_address(host):
                return

    # -- by hand

    def set(
        self,
        name: str,
        value: str,
        *,
        domain: str,
        path: str = "/",
        secure: bool = False,
        expires: float | None = None,
    ) -> None:
        """Sets a cookie.

        Args:
            name: its name.
            value: its value, sent as it is.
            domain: the host that it is for; with a dot in front, also those below it.
            path: the path that it is for.
            secure: whether it is sent over TLS only.
            expires: when it ends, in seconds since 1970; None: never.

        Raises:
            InvalidHeaderError: name or value has what would end a cookie.
        """
        if not name or _NOT_IN_NAME.search(name) or _NOT_IN_VALUE.search(value):
            raise InvalidHeaderError(f"the cookie {name!r} has a semicolon, a control character or an empty name")
        host = domain.removeprefix(".")
        bracketed = f"[{host}]" if ":" in host and host[0] != "[" else host
        host = URL(f"http://{bracketed}/").host
        self._store(
            Cookie(name, value, host, path, secure=secure, host_only=not domain.startswith("."), expires=expires)
        )

    def get(self, name: str, default: str | None = None, *, domain: str | None = None) -> str | None:
        """The value of the first cookie of that name, of that domain if one is given."""
        for cookie in self:
            if cookie.name == name and domain in {None, cookie.domain}:
                return cookie.value
        return default

    def remove(self, name: str, *, domain: str | None = None, path: str | None = None) -> int:
        """Removes every cookie of that name (and domain, and path), and says how many there were."""
        gone = [
            cookie
            for cookie in self
            if cookie.name == name and domain in {None, cookie.domain} and path in {None, cookie.path}
        ]
        for cookie in gone:
            self._discard(cookie)
        return len(gone)

    def clear(self, domain: str | None = None) -> None:
        """Removes the cookies of a domain, or all."""
        for cookie in list(self):
            if domain in {None, cookie.domain}:
                self._discard(cookie)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes all cookies into a JSON file that only its owner can read; the old one stays until this is complete.

        Raises:
            OSError: it cannot be written.
        """
        write_cookies(path, map(asdict, self))

    def load(self, path: str | PathLike[str]) -> None:
        """Adds the cookies of a file that :meth:`save` wrote.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not such a file; no cookie of it was added.
        """
        try:
            cookies = [Cookie(**one) for one in read_cookies(path, [field.name for field in fields(Cookie)])]
        except TypeError as error:
            raise ValueError(f"{path}: a cookie in this file lacks something ({error})") from None
        for cookie in cookies:
            self._store(cookie)

    @property
    def version(self) -> int:
        """A number that grows whenever :meth:`header_for` may answer otherwise than before."""
        self._purge()
        return self._version

    # -- the store

    def _store(self, cookie: Cookie) -> None:
        """Puts a cookie in the place of the one that it replaces; one that has ended just takes that away."""
        self._purge()
        now = self._clock()
        key = (cookie.path, cookie.name)
        old = self._domains.get(cookie.domain, {}).get(key)
        if old is not None:
            self._discard(old)
        if cookie.expires is not None and cookie.expires <= now:
            return
        if old is None:
            # Never the same twice, so that the age decides on the order even of those that came together.
            created = self._last_created = max(now, math.nextafter(self._last_created, math.inf))
        else:
            created = old.created
        domain = self._domains.pop(cookie.domain, {})
        domain[key] = replace(cookie, created=created)
        self._domains[cookie.domain] = domain
        self._count += 1
        self._version += 1
        if cookie.expires is not None:
            self._next_expiry = min(self._next_expiry, cookie.expires)
        if len(domain) > MAX_PER_DOMAIN:
            self._discard(next(iter(domain.values())))
        if self._count > MAX_TOTAL:
            self._discard(next(iter(next(iter(self._domains.values())).values())))

    def _discard(self, cookie: Cookie) -> None:
        """Takes out a cookie that is there."""
        domain = self._domains[cookie.domain]
        del domain[cookie.path, cookie.name]
        if not domain:
            del self._domains[cookie.domain]
        self._count -= 1
        self._version += 1

    def _purge(self) -> None:
        """Takes out what has expired."""
        if self._next_expiry == math.inf or (now := self._clock()) < self._next_expiry:
            return
        self._next_expiry = math.inf
        for cookie in [cookie for domain in self._domains.values() for cookie in domain.values()]:
            if cookie.expires is None:
                continue
            if cookie.expires <= now:
                self._discard(cookie)
            else:
                self._next_expiry = min(self._next_expiry, cookie.expires)

    def __iter__(self) -> Iterator[Cookie]:
        """The cookies that are valid now, the oldest first."""
        self._purge()
        cookies = [cookie for domain in self._domains.values() for cookie in domain.values()]
        cookies.sort(key=lambda cookie: cookie.created)
        return iter(cookies)

    def __len__(self) -> int:
        self._purge()
        return self._count

    def __bool__(self) -> bool:
        return len(self) > 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self)} cookies of {len(self._domains)} domains>"


class NoCookies(CookieJar):
    """A jar that keeps nothing: what servers set is forgotten."""

    def _store(self, cookie: Cookie) -> None:
        """Keeps nothing."""

    def update(self, set_cookie: Iterable[str], url: URL) -> None:
        """Keeps nothing."""


# -- the rules


def _attributes(text: str) -> dict[str, str]:
    """The attributes after the first semicolon, by name in lower case; of several the last that means something."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        name, value = name.strip(" \t").lower(), value.strip(" \t")
        if len(value) > MAX_ATTRIBUTE_BYTES:
            continue
        if name == "domain":
            value = value.removeprefix(".").lower()
            if not value:
                continue
        elif name == "max-age":
            if not _MAX_AGE.fullmatch(value):
                continue
            if not value.strip("-0"):
                value = "-0"
        elif name == "expires" and parse_date(value) is None:
            continue
        found[name] = value
    return found


def _prefix_holds(cookie: Cookie, has_domain: bool) -> bool:
    """Whether a cookie is what the prefix of its name promises (RFC 6265bis, section 4.1.3)."""
    name = cookie.name.lower()
    if name.startswith("__host-"):
        return cookie.secure and cookie.path == "/" and not has_domain
    return cookie.secure or not name.startswith("__secure-")


def _default_path(path: str) -> str:
    """The directory of a request's path (RFC 6265, section 5.1.4)."""
    return path[: path.rindex("/")] or "/"


def _path_matches(path: str, cookie_path: str) -> bool:
    """Whether a cookie of that path goes with a request for this one (RFC 6265, section 5.1.4)."""
    if not path.startswith(cookie_path):
        return False
    return len(path) == len(cookie_path) or cookie_path[-1:] == "/" or path[len(cookie_path)] == "/"


def _below(host: str, domain: str) -> bool:
    """Whether a host is that domain or a name below it (RFC 6265, section 5.1.3)."""
    return host == domain or host.endswith("." + domain)


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    """Whether a host is an IP address: like browsers, by its last label being a number."""
    return ":" in host or host.rstrip(".").rpartition(".")[2].isdigit()


@lru_cache(maxsize=1)
def load_public_suffixes() -> Callable[[str], bool] | None:
    """The test for a public suffix by the list of ``publicsuffixlist``; None without the package.

    Reading the list takes some 50 ms, once, when the first cookie for a domain comes. Who cannot wait then calls this
    before, in a thread.
    """
    try:
        from publicsuffixlist import PublicSuffixList
    except ImportError:
        return None
    test: Callable[[str], bool] = PublicSuffixList().is_public
    return test


def suffixes_are_loaded() -> bool:
    """Whether :func:`load_public_suffixes` will answer at once."""
    return load_public_suffixes.cache_info().currsize > 0
