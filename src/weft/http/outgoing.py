"""A request as it will be sent.

Owns the method, the URL, the headers and the body, and their bytes for HTTP/1.1 (RFC 9112), which are made once: a
request that does not change may be sent any number of times, and those made of it by ``replace()`` share its
:class:`Place`. Invariant: nothing in a head can end its line early. Made by the client; a transport sends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.http.errors import InvalidHeaderError
from weft.http.headers import Headers, encode_headers
from weft.http.retries import IDEMPOTENT
from weft.http.settings import DEFAULT_TIMEOUT, Timeout
from weft.http.url import URL

if TYPE_CHECKING:
    from weft.http.body import Body

__all__ = ["Place", "Request"]

# Methods whose requests usually have a body: without one they say so (RFC 9110, 8.6).
EXPECTED_BODY = frozenset({"POST", "PUT", "PATCH"})
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# Those that need no look at each of their letters.
_USUAL = IDEMPOTENT | EXPECTED_BODY
# A body up to here leaves with the head, in one piece, in bytes.
MOST_JOINED = 256 * 1024


class Place:
    """Where requests go, and by which way: found by the first that is sent, and shared by all that go the same one.

    Attributes:
        proxy: instead of the client's.
        tls: the same.
        is_absolute: a proxy forwards the requests, and so must be told all of their URL.
        proxy_headers: what that proxy must be told besides.
        bucket: the connections to use; None: not known yet.
    """

    __slots__ = ("bucket", "is_absolute", "proxy", "proxy_headers", "tls")

    def __init__(self, proxy: Any = None, tls: Any = None) -> None:
        self.proxy = proxy
        self.tls = tls
        self.is_absolute = False
        self.proxy_headers: Any = None
        self.bucket: Any = None


class Request:
    """One request.

    Args:
        method: as it is sent; case matters (RFC 9110, 9.1).
        url: what to request.
        headers: those to send, without those that follow from the rest.
        body: None for none.
        timeout: the time limits.
        may_switch: a 101 is asked for.
        place: where it goes, if others go there as well.

    Attributes:
        is_repeatable: whether it may be sent again if the connection turns out to have been dead.
        streams_body: whether the body is not in ``wire``, but follows piece by piece.
        bucket: its place's, once ``wire`` is known to be sendable there.
        trace: who is told of its phases; see :mod:`weft.http.hooks`.

    Raises:
        InvalidHeaderError: a method or a header that cannot be sent.
    """

    __slots__ = (
        "_wire", "body", "bucket", "headers", "is_repeatable", "may_switch", "method", "place", "streams_body",
        "timeout", "trace", "url",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        url: URL,
        headers: Headers | None = None,
        body: Body | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
        *,
        may_switch: bool = False,
        place: Place | None = None,
    ) -> None:
        if method not in _USUAL and not (method and _TOKEN.issuperset(method)):
            raise InvalidHeaderError(f"{method!r} is no method", url=url)
        self.method = method
        self.url = url
        self.headers = Headers() if headers is None else headers
        self.body = body
        self.timeout = timeout
        self.may_switch = may_switch
        self.place = Place() if place is None else place
        self.is_repeatable = method in IDEMPOTENT and (body is None or body.replayable)
        self.streams_body = body is not None and (body.content is None or len(body.content) > MOST_JOINED)
        self._wire: bytes | None = None
        self.bucket: Any = None
        self.trace: Any = None

    def __repr__(self) -> str:
        return f"<weft.http.Request {self.method} {self.url!r}>"

    def replace(self, **changes: Any) -> Request:
        """The same request with some of ``method``, ``url``, ``headers``, ``body``, ``timeout`` replaced."""
        parts = {name: getattr(self, name) for name in ("method", "url", "headers", "body", "timeout", "may_switch")}
        place = Place(self.place.proxy, self.place.tls) if "url" in changes else self.place
        return Request(**(parts | changes), place=place)

    @property
    def is_idempotent(self) -> bool:
        """Whether sending it twice does what sending it once does (RFC 9110, 9.2.2)."""
        return self.method in IDEMPOTENT

    @property
    def is_replayable(self) -> bool:
        """Whether it can be sent again."""
        return self.body is None or self.body.replayable

    @property
    def wire(self) -> bytes:
        """What is sent at once over HTTP/1.1: the head, and the body if it is there and not long."""
        if self._wire is None:
            self._wire = self._encode()
        return self._wire

    def framing(self) -> list[tuple[str, str]]:
        """The headers that say how long the body is, and of what kind, as far as the caller did not."""
        found = []
        body = self.body
        if body is None:
            if self.method in EXPECTED_BODY:
                found.append(("Content-Length", "0"))
            return found
        if body.content_type is not None and "Content-Type" not in self.headers:
            found.append(("Content-Type", body.content_type))
        if body.length is not None:
            found.append(("Content-Length", str(body.length)))
        return found

    def _encode(self) -> bytes:
        url = self.url
        target, place, body = url.target, self.place, self.body
        if place.is_absolute:
            target = f"{'https' if url.is_secure else 'http'}://{url.authority}{target}"
        try:
            lines, has_host = self.headers.block()
            pairs = self.framing()
            if body is not None and body.length is None:
                pairs.append(("Transfer-Encoding", "chunked"))
            if place.is_absolute and place.proxy_headers:
                pairs += place.proxy_headers
            more = encode_headers(pairs) if pairs else b""
        except InvalidHeaderError as error:
            raise InvalidHeaderError(str(error), url=url) from None  # the same once more, with the URL
        host = "" if has_host else f"Host: {url.authority}\r\n"
        start = f"{self.method} {target} HTTP/1.1\r\n{host}".encode("ascii")
        content = b"" if body is None or self.streams_body else body.content
        return b"".join((start, lines, more, b"\r\n", content))  # type: ignore[arg-type]
