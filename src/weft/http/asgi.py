"""Requests to an ASGI application in this process: for tests, and for services that call each other.

Owns the translation between a request and ASGI's messages (asgi.readthedocs.io, HTTP 2.4 and lifespan 2.0). Its
invariant: the application sees what it would see behind a server, streamed bodies, slow readers and clients that go
away included. A user makes :class:`ASGITransport` and gives it to ``Client(transport=...)``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote

from weft.http.errors import ConnectError, IncompleteBodyError, WebSocketError
from weft.http.headers import Headers, encode_headers
from weft.http.local import GRACE, LocalExchange, LocalTransport
from weft.http.outgoing import Request

__all__ = ["ASGITransport"]

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

NO_WEBSOCKETS = "ASGITransport has no WebSockets: let a server run the application, or use its framework's test client"


class ASGITransport(LocalTransport):
    """Sends requests to an ASGI 3 application instead of the network.

    Args:
        app: the application.
        raise_app_exceptions: whether an exception in the application comes out where the request was made, or where the
            response is read; also if the application has answered with status 500 just before. False: it is answered
            with status 500, as servers do, and goes to the loop's exception handler.
        root_path: where the application is mounted. Paths include it, as ASGI wants.
        client: address and port that the application sees as the client's.
        lifespan: whether to start the application before the first request, and shut it down with ``aclose()``.
        http_version: as the application sees it.

    A transport can be used again after ``aclose()``, and by a client on another loop.
    """

    def __init__(
        self,
        app: App,
        *,
        raise_app_exceptions: bool = True,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 40000),
        lifespan: bool = False,
        http_version: str = "1.1",
    ) -> None:
        super().__init__()
        self._app = app
        self._raises = raise_app_exceptions
        self._root_path = root_path
        self._client = client
        self._http_version = http_version
        self._has_lifespan = lifespan
        self._lifespan: _Lifespan | None = None

    def __repr__(self) -> str:
        return f"<weft.http.ASGITransport {self._app!r}>"

    async def open(self) -> None:
        """Start the application, before the first request."""
        if self._has_lifespan:
            if self._lifespan is None or self._lifespan.is_over:
                self._lifespan = _Lifespan(self._app)  # one for all who come before it has started
            await self._lifespan.start()

    async def serve(self, exchange: LocalExchange) -> None:
        """Let the application answer."""
        if exchange.request.headers.get("Upgrade", "").lower() == "websocket":
            raise WebSocketError(NO_WEBSOCKETS, url=exchange.request.url)
        cycle = _Cycle(exchange, self._http_version)
        try:
            await self._app(self._scope(exchange.request), cycle.receive, cycle.send)
        except Exception as error:
            if self._raises:
                raise
            self.report(exchange, error)
            if not exchange.is_answered and not exchange.gone.is_set():
                exchange.answer(500, Headers({"Content-Type": "text/plain; charset=utf-8"}), cycle.version)
                await exchange.feed(b"Internal Server Error")
                exchange.finish()
        finally:
            await cycle.aclose()

    def report(self, exchange: LocalExchange, error: Exception) -> None:
        """See :meth:`LocalTransport.report`. Starlette has a word of its own for a client that has gone away."""
        reason = error.__context__
        if type(error).__name__ == "ClientDisconnect" and isinstance(reason, ConnectionResetError):
            error = reason
        super().report(exchange, error)

    def _scope(self, request: Request) -> dict[str, Any]:
        url = request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._http_version,
            "method": request.method.upper(),
            "scheme": "https" if url.is_secure else "http",
            "path": unquote(url.path),
            "raw_path": url.path.encode("ascii"),
            "query_string": url.query.encode("ascii"),
            "root_path": self._root_path,
            "headers": _fields(request, self._http_version),
            "client": list(self._client),
            "server": [url.host, url.port],
            "extensions": {"http.response.trailers": {}},
        }
        if self._lifespan is not None:
            scope["state"] = self._lifespan.state.copy()
        return scope

    async def aclose(self) -> None:
        """End what is under way, and shut the application down if this has started it."""
        await super().aclose()
        if self._lifespan is not None:
            lifespan, self._lifespan = self._lifespan, None
            await lifespan.stop()


def _fields(request: Request, version: str) -> list[tuple[bytes, bytes]]:
    """The headers as a server would have received them."""
    given = [pair for pair in request.headers.items() if pair[0].lower() not in ("content-length", "transfer-encoding")]
    pairs = given if "Host" in request.headers else [("Host", request.url.authority), *given]
    pairs += request.framing()
    if request.body is not None and request.body.length is None and version.startswith("1"):
        pairs.append(("Transfer-Encoding", "chunked"))
    encode_headers(pairs)  # raises for what could not have been sent
    return [(name.lower(), value.strip(b" \t")) for name, value in Headers(pairs).raw]


class _Cycle:
    """One request as the application sees it: ``receive`` and ``send``."""

    def __init__(self, exchange: LocalExchange, http_version: str) -> None:
        self._exchange = exchange
        self.version = 20 if http_version.startswith("2") else 11
        self._chunks: AsyncIterator[bytes] | None = None
        self._is_sent = False
        self._has_begun = False
        self._awaits_trailers = False
        self._has_no_body = exchange.request.method == "HEAD"
        self._left: int | None = None
        self._trailer = b""

    # -- the request

    async def receive(self) -> Message:
        """The next message for the application."""
        if self._is_sent or self._exchange.gone.is_set():
            await self._exchange.gone.wait()
            return {"type": "http.disconnect"}
        body = self._exchange.request.body
        if body is None or body.content is not None:
            self._is_sent = True
            return {"type": "http.request", "body": b"" if body is None else body.content, "more_body": False}
        if self._chunks is None:
            self._chunks = body.chunks()
        try:
            chunk = await anext(self._chunks, None)
        except Exception as error:
            # The request cannot be sent to its end: for the application its client has gone away.
            self._exchange.fail(error)
            return {"type": "http.disconnect"}
        self._is_sent = chunk is None
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def aclose(self) -> None:
        """Close the request's body."""
        if (close := getattr(self._chunks, "aclose", None)) is not None:
            with contextlib.suppress(RuntimeError):  # a task that the application left behind is reading it
                await close()

    # -- the response

    async def send(self, message: Message) -> None:
        """A message of the application's.

        Raises:
            OSError: the client has gone away.
            RuntimeError: the message is not one for this moment.
        """
        kind = message["type"]
        if self._exchange.is_complete:
            raise RuntimeError(f"{kind!r} was sent when the response was complete")
        if self._exchange.gone.is_set():
            raise ConnectionResetError("the client has gone away")
        if kind == "http.response.start" and not self._has_begun:
            self._start(message)
        elif kind == "http.response.body" and self._has_begun:
            await self._body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        elif kind == "http.response.trailers" and self._has_begun and self._awaits_trailers:
            self._trailer += b"".join(b"%b: %b\r\n" % tuple(pair) for pair in message.get("headers", ()))
            if not message.get("more_trailers", False):
                self._exchange.finish(self._trailer + b"\r\n")
        else:
            raise RuntimeError(f"{kind!r} was sent {'after' if self._has_begun else 'before'} the response's start")

    def _start(self, message: Message) -> None:
        self._has_begun = True
        self._awaits_trailers = bool(message.get("trailers", False))
        headers = Headers([(_text(name), _text(value)) for name, value in message.get("headers", ())])
        encode_headers(headers.items())
        status = int(message["status"])
        self._has_no_body = self._has_no_body or status in (204, 304)
        length = headers.get("content-length")
        self._left = None if length is None or self._has_no_body else int(length)
        self._exchange.answer(status, headers, self.version)

    async def _body(self, data: bytes, more: bool) -> None:
        if not self._has_no_body:
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0:
                    raise RuntimeError("the body is longer than the response's Content-Length")
            await self._exchange.feed(data)
        if more:
            return
        if self._left:
            url = self._exchange.request.url
            self._exchange.fail(IncompleteBodyError(f"the body ended {self._left} bytes before its end", url=url))
            raise RuntimeError("the body is shorter than the response's Content-Length")
        if not self._awaits_trailers:
            self._exchange.finish()


def _text(value: bytes) -> str:
    return bytes(value).decode("latin-1")


class _Lifespan:
    """The start and the end of an application."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._wishes: asyncio.Queue[Message] = asyncio.Queue()
        self._wishes.put_nowait({"type": "lifespan.startup"})
        self._started = asyncio.Event()
        self._failure: str | None = None
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="ASGI lifespan")

    @property
    def is_over(self) -> bool:
        """Whether its loop has ended without it."""
        return self._loop.is_closed()

    async def start(self) -> None:
        """Wait until the application has started.

        Raises:
            ConnectError: it has not.
        """
        await self._started.wait()
        if self._failure is not None:
            raise ConnectError(f"the application did not start: {self._failure}") from self._error

    async def stop(self) -> None:
        """Shut the application down, within GRACE seconds.

        Raises:
            RuntimeError: it failed to.
        """
        was_running = self._started.is_set() and self._failure is None and not self._task.done()
        if was_running:
            self._wishes.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait([self._task], timeout=GRACE)
        self._task.cancel()
        await asyncio.wait([self._task])
        if was_running and self._failure is not None:
            raise RuntimeError(f"the application did not shut down: {self._failure}") from self._error

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._wishes.get, self._send)
            if not self._started.is_set():
                self._failure = "it returned from its lifespan before it had started"
        except Exception as error:
            self._failure, self._error = f"{type(error).__name__}: {error}", error
        finally:
            self._started.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            self._failure = message.get("message") or "it says so"
        if kind.startswith("lifespan.startup."):
            self._started.set()
        elif not kind.startswith("lifespan.shutdown."):
            raise RuntimeError(f"{kind!r} was sent in the lifespan")
