"""The response as users see it.

Owns the reading of one body: whole (``read``, ``text``, ``json``) or streamed (iteration, ``content``), decoded on the
way. Its invariant: a response that is dropped, closed or left early gives its connection back or closes it. What comes
from the wire is in ``Incoming``; headers are parsed when someone looks.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from weft.http._wire.incoming import Incoming, Note
from weft.http.errors import DecodingError, StatusError, StreamConsumedError
from weft.http.headers import Headers

if TYPE_CHECKING:
    from weft.http.content import Content
    from weft.http.outgoing import Request
    from weft.http.url import URL

__all__ = ["Response"]

_HAS_CODING = int(Note.HAS_CODING)
_EMPTY = Headers()


class Done:
    """Awaited, it is done."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


DONE = Done()


class Response:
    """A response, as soon as its head is there.

    Attributes:
        status: the status code.
        request: the request that it answers; after redirects the last one.
        history: the responses before it, of redirects, oldest first.
    """

    __slots__ = (
        "_body", "_content", "_decoder", "_headers", "_incoming", "_most", "_streams", "history", "request", "status"
    )  # fmt: skip

    def __init__(self, incoming: Incoming, request: Request, most: int | None = None, decode: bool = True) -> None:
        self._incoming = incoming
        self.request = request
        self.status: int = incoming.status
        self.history: tuple[Response, ...] = ()
        self._headers: Headers | None = None
        self._body: bytes | None = None
        self._most = most  # bytes that the body may be once it is decoded
        self._streams = False
        # None: not asked for yet; False: nothing to decode.
        self._decoder: Any = None if decode and incoming.notes & _HAS_CODING else False

    def __repr__(self) -> str:
        return f"<weft.http.Response {self.status} {self.reason} {self.request.method} {self.url!r}>"

    def __del__(self) -> None:
        incoming = self._incoming
        if not incoming.is_ended and not incoming.loop.is_closed():
            # This may run in any thread; the connection belongs to the loop's.
            incoming.loop.call_soon_threadsafe(incoming.release)
            warnings.warn(f"{self!r} was dropped before its body was read", ResourceWarning, source=self)

    # -- the head

    @property
    def headers(self) -> Headers:
        """The header fields; names are compared without case."""
        if self._headers is None:
            incoming = self._incoming
            if incoming.headers is not None:
                self._headers = incoming.headers
            else:
                self._headers = Headers.from_head(incoming.head) if incoming.head is not None else _EMPTY
        return self._headers

    @property
    def reason(self) -> str:
        """The text behind the status; empty in HTTP/2."""
        head = self._incoming.head
        return "" if head is None else head[13 : head.index(b"\r\n")].decode("latin-1")

    @property
    def version(self) -> tuple[int, int]:
        """The version of HTTP: (1, 1), (1, 0) or (2, 0)."""
        return divmod(self._incoming.version, 10)

    @property
    def http_version(self) -> str:
        """The same as text: ``"HTTP/1.1"``."""
        return "HTTP/{}.{}".format(*self.version)

    @property
    def url(self) -> URL:
        """The URL that was answered; after redirects the last one."""
        return self.request.url

    real_url = url

    @property
    def method(self) -> str:
        """The method of the request that was answered."""
        return self.request.method

    @property
    def request_info(self) -> Request:
        """The request, under the name that aiohttp's users know."""
        return self.request

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def status_code(self) -> int:
        """The status, under the name that requests' users know."""
        return self.status

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies that this response sets, by name."""
        pairs = (line.partition(";")[0].partition("=") for line in self.headers.getall("Set-Cookie"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; ``application/octet-stream`` if there is none."""
        return self.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """How long the body is as it is sent, in bytes, if that is known."""
        value = self.headers.get("Content-Length")
        return int(value) if value is not None and value.isdecimal() else None

    @property
    def charset(self) -> str | None:
        """The character set that Content-Type names."""
        for part in self.headers.get("Content-Type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or None
        return None

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The Link headers (RFC 8288) by their relation, each with its ``url`` and parameters."""
        from weft.http.links import parse_links

        return parse_links(self.headers.getall("Link"), self.url)

    @property
    def trailers(self) -> Headers:
        """The fields behind a chunked body, once it was read."""
        raw = self._incoming.trailer
        return _EMPTY if raw is None else Headers.from_head(b"\r\n" + raw)

    @property
    def tunnel(self) -> Any:
        """After a 101 or a CONNECT: the stream of bytes that the connection has become."""
        return self._incoming.tunnel

    def raise_for_status(self) -> Response:
        """Raise if the status is 400 or above; else return the response.

        Raises:
            StatusError: the status says that the request failed.
        """
        if self.status >= 400:
            self.release()
            raise StatusError(f"{self.status} {self.reason}".rstrip(), url=self.url, response=self)
        return self

    # -- the body, whole

    async def read(self) -> bytes:
        """The whole body, decoded. It is kept, so this may be asked again.

        Raises:
            HTTPError: the rest did not come, or cannot be decoded.
            StreamConsumedError: some of it was streamed before.
        """
        if self._body is None:
            if self._streams:
                raise StreamConsumedError(url=self.url)
            incoming = self._incoming
            if not incoming.is_ended:
                incoming.want_all()
                while not incoming.is_ended:
                    await incoming.changed()
            data = incoming.take() or b""
            if not incoming.is_complete:
                incoming.take()  # raises why
            if self._decoder is not False:
                data = self._decode(data) + self._decode_rest()
            self._body = data
        return self._body

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """The body as text.

        Args:
            encoding: the character set; by default what Content-Type names, or UTF-8.
            errors: as for :meth:`bytes.decode`.

        Raises:
            DecodingError: it is not in that character set.
        """
        data = await self.read()
        name = encoding or self.charset or "utf-8"
        try:
            return data.decode(name, errors)
        except LookupError:
            raise DecodingError(f"the character set {name!r} is not known: pass encoding=", url=self.url) from None
        except UnicodeDecodeError as error:
            text = f"the body is not {name} ({error.reason} at byte {error.start}): pass encoding= or errors='replace'"
            raise DecodingError(text, url=self.url) from error

    async def json(
        self,
        *,
        encoding: str | None = None,
        loads: Callable[[Any], Any] = json.loads,
        content_type: str | None = None,
    ) -> Any:
        """The body parsed as JSON (RFC 8259).

        Args:
            encoding: its character set; by default what JSON's own rules find (UTF-8, -16 or -32).
            loads: the parser.
            content_type: if given, the media type that the response must have.

        Raises:
            DecodingError: it is no JSON, or of another type.
        """
        if content_type and self.content_type != content_type:
            raise DecodingError(f"the body is {self.content_type}, not {content_type}", url=self.url)
        data = await self.read()
        try:
            return loads(data if encoding is None else data.decode(encoding))
        except ValueError as error:
            raise DecodingError(f"the body is not JSON: {error}", url=self.url) from error

    # -- the body, piece by piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self.chunk()
        if not data:
            raise StopAsyncIteration
        return data

    async def chunk(self) -> bytes:
        """The next piece of the body, as it came; b"" at the end."""
        if self._body is not None:
            if self._streams:
                return b""
            self._streams = True
            return self._body
        self._streams = True
        incoming = self._incoming
        while True:
            data = incoming.take()
            if data is None:
                await incoming.changed()
            elif self._decoder is False:
                return data
            elif not data:
                data, self._decoder = self._decode_rest(), False
                return data
            elif data := self._decode(data):
                return data

    @property
    def content(self) -> Content:
        """The body as a stream with ``read(n)``, ``readline()``, ``iter_chunked(n)``."""
        # One for all who ask: it keeps what it has taken and not yet given.
        try:
            return self._content
        except AttributeError:
            from weft.http.content import Content

            self._content: Content = Content(self)
            return self._content

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            from weft.http.decoding import decoder_for

            coding = ", ".join(self.headers.getall("Content-Encoding"))
            self._decoder = decoder_for(coding, limit=self._most, url=self.url) or False
        return data if self._decoder is False else self._decoder.decode(data)

    def _decode_rest(self) -> bytes:
        rest: bytes = self._decoder.finish() if self._decoder else b""
        return rest

    # -- the end

    def release(self) -> Awaitable[None]:
        """Give the connection back, or close it if more of the body was to come, or if it has become a tunnel.

        It is done at once; what it returns may be awaited, as users of aiohttp do.
        """
        self._incoming.release()
        if self._incoming.tunnel is not None:
            self._incoming.tunnel.close()
        return DONE

    close = release

    async def aclose(self) -> None:
        """The same, for those who await it."""
        self.release()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
