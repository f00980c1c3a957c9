"""Where a redirect leads, and what goes along.

Owns the rules for the next request: its method, its URL, whether it has the body and the credentials of the one before.
Its invariant: what only one server was meant to see goes to no other. Pure functions, called by the client.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from weft.http.errors import InvalidURLError
from weft.http.url import URL

__all__ = ["BODY_HEADERS", "CREDENTIAL_HEADERS", "REDIRECT_STATUSES", "Redirect", "redirected"]

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
"""The statuses that lead elsewhere. 300 leaves the choice to the user, and 304 to 306 lead nowhere."""

CREDENTIAL_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""The headers, in lower case, that another server must not see."""

BODY_HEADERS: Final = frozenset(
    {
        "content-encoding",
        "content-language",
        "content-length",
        "content-location",
        "content-type",
        "transfer-encoding",
    }
)
"""The headers, in lower case, that go with a body and without it mean nothing (Fetch standard, section 2.2.2)."""


class Redirect(NamedTuple):
    """The request that follows a redirect.

    Attributes:
        method: its method.
        url: its URL.
        keeps_body: whether it has the body, and its headers, of the one before.
        drops_credentials: whether it must go without the user's credentials and cookies of the one before.
    """

    method: str
    url: URL
    keeps_body: bool
    drops_credentials: bool


def redirected(method: str, url: URL, status: int, location: str | None) -> Redirect:
    """The request that follows a redirect.

    After 303 everything but HEAD becomes a GET, after 301 and 302 a POST does (every browser does that, and RFC 9110
    allows it); 307 and 308 change nothing. A fragment is carried over where the target has none.

    Args:
        method: the method of the request that was redirected.
        url: its URL.
        status: one of :data:`REDIRECT_STATUSES`.
        location: the value of ``Location``, relative or absolute.

    Raises:
        InvalidURLError: there is no ``Location``, or none that can be requested; a ``ValueError``.

    Source: RFC 9110, sections 10.2.2 and 15.4; Fetch standard, section 4.4, for what goes along.
    """
    if location is None:
        raise InvalidURLError(f"the server redirects (status {status}) without saying where to")
    target = url.join(_encoded(location.strip(" \t")))
    if url.fragment and "#" not in target.text:
        target = target.with_fragment(url.fragment)
    becomes_get = method != "HEAD" if status == 303 else method == "POST" and status in {301, 302}
    return Redirect(
        "GET" if becomes_get else method,
        target,
        keeps_body=not becomes_get or method == "GET",
        drops_credentials=target.origin != url.origin,
    )


def _encoded(location: str) -> str:
    """A location whose bytes beyond ASCII, which headers give as latin-1, are percent-encoded as they came."""
    if location.isascii():
        return location
    try:
        data = location.encode("latin-1")
    except UnicodeEncodeError:
        return location
    return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in data)
