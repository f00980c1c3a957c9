"""Responses without a server, for tests: a function or a table of routes answers what a client asks.

Owns :class:`FakeTransport`, which answers and remembers. Its invariant: a request for which there is no answer fails
the test with an ``AssertionError``, whatever the code under test catches of HTTP's errors. A user gives it to
``Client(transport=...)``; redirects, cookies, retries and time limits work as they do over the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json as _json
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from weft.http.body import make_body
from weft.http.errors import HTTPError
from weft.http.headers import Headers
from weft.http.local import LocalExchange, LocalTransport
from weft.http.outgoing import Request
from weft.http.url import URL

__all__ = ["FakeTransport", "ReceivedRequest", "Reply", "UnexpectedRequestError"]


class UnexpectedRequestError(AssertionError):
    """A request came for which the test has no answer."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as a server would have it.

    Attributes:
        method: GET, POST, ...
        url: what was asked for.
        headers: those that were sent, with the ones that follow from the body.
        body: the body, whole.
        request: the client's own object.
    """

    method: str
    url: URL
    headers: Headers
    body: bytes = field(repr=False)
    request: Request = field(repr=False)

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body parsed as JSON."""
        return _json.loads(self.body)


@dataclass(slots=True)
class Reply:
    """What to answer.

    Args:
        status: the status code.
        body: bytes, text, or an iterable or async iterable of bytes, which is streamed; an exception that it raises
            reaches the reader of the response.
        headers: the response's.
        json: a body to write as JSON.
        latency: how long the answer takes, in seconds of the loop's clock.
    """

    status: int = 200
    body: bytes | str | Iterable[bytes] | AsyncIterable[bytes] | None = None
    headers: Any = None
    json: Any = None
    latency: float = 0.0


# A status, a body, something to send as JSON (a dict), (status, body), (status, headers, body), or an exception to
# raise, as an instance or a class.
Answer: TypeAlias = "Reply | int | bytes | str | dict[str, Any] | tuple[Any, ...] | Exception | type[Exception]"
Handler: TypeAlias = Callable[[ReceivedRequest], "Answer | Awaitable[Answer]"]
# Not Mapping[str, Answer | Handler | Sequence[...]]: a checker would see Sequence[object] in every mixed list.
Routes: TypeAlias = Mapping[str, Any]


class FakeTransport(LocalTransport):
    """Answers requests from a function, or from a table.

    Args:
        answers: a function, plain or async, that is called with each :class:`ReceivedRequest` and returns an answer; or
            a mapping of routes to answers. A route is a path, or a URL without a query, with or without a method in
            front: ``"/users"``, ``"POST /users"``, ``"https://example.com/users"``. The most exact one counts. An
            answer is a :class:`Reply`, a status, a body as bytes or text, a dict to send as JSON, a tuple
            ``(status, body)`` or ``(status, headers, body)``, an exception to raise, or a function as above. A list has
            the answers for the first, second, ... request of its route.
        latency: how long every answer takes, in seconds of the loop's clock, before its own latency.

    Attributes:
        requests: what was asked, in order.
    """

    def __init__(self, answers: Handler | Routes, *, latency: float = 0.0) -> None:
        super().__init__()
        self.requests: list[ReceivedRequest] = []
        self._latency = latency
        self._handler = answers if callable(answers) else None
        self._routes = {} if callable(answers) else {_route(name): answer for name, answer in answers.items()}
        self._turns: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<weft.http.testing.FakeTransport requests={len(self.requests)}>"

    @property
    def unused(self) -> list[str]:
        """The routes, and for lists of answers what is left of them, that no request has come for."""
        left = []
        for name, answer in self._routes.items():
            turns = self._turns.get(name, 0)
            if not turns:
                left.append(name)
            elif isinstance(answer, list) and turns < len(answer):
                left.append(f"{name} ({len(answer) - turns} answers)")
        return left

    async def serve(self, exchange: LocalExchange) -> None:
        """Answer one request."""
        received = await _received(exchange.request)
        self.requests.append(received)
        answer = self._handler or self._find(received)
        while callable(answer) and not isinstance(answer, type):
            answer = answer(received)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, type) and issubclass(answer, Exception):
            answer = answer(url=received.url) if issubclass(answer, HTTPError) else answer()
        reply = None if isinstance(answer, Exception) else _reply(answer)
        latency = self._latency + (0.0 if reply is None else reply.latency)
        if latency > 0:
            # Who gives up waiting, for a time limit or another reason, ends this as well.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(latency):
                    await exchange.gone.wait()
        if exchange.gone.is_set():
            return
        if reply is None:
            raise answer
        await _give(exchange, reply)

    def _find(self, received: ReceivedRequest) -> Any:
        url = received.url
        place = f"{url.origin[0]}://{url.authority}{url.path}"
        for name in (f"{received.method} {place}", place, f"{received.method} {url.path}", url.path):
            if name in self._routes:
                break
        else:
            known = ", ".join(self._routes) or "none"
            raise UnexpectedRequestError(f"{received.method} {url} has no route; there are: {known}")
        answer = self._routes[name]
        turn = self._turns[name] = self._turns.get(name, 0) + 1
        if not isinstance(answer, list):
            return answer
        if turn > len(answer):
            raise UnexpectedRequestError(f"{name} came for the {turn}. time, and has {len(answer)} answers")
        return answer[turn - 1]


def _route(name: str) -> str:
    """A route as it is looked up: a whole URL is written as requests write it."""
    method, blank, place = name.rpartition(" ")
    if not place.startswith("/"):
        url = URL(place)
        place = f"{url.origin[0]}://{url.authority}{url.path}"
    return f"{method.upper()}{blank}{place}"


async def _received(request: Request) -> ReceivedRequest:
    content = b""
    if request.body is not None:
        async with contextlib.aclosing(request.body.chunks()) as chunks:
            content = b"".join([bytes(chunk) async for chunk in chunks])
    headers = request.headers.copy()
    for name, value in request.framing():
        headers[name] = value
    if "Host" not in headers:
        headers["Host"] = request.url.authority
    return ReceivedRequest(request.method, request.url, headers, content, request)


def _reply(answer: Any) -> Reply:
    """A reply from what the test gave."""
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, tuple) and len(answer) in (2, 3):
        status, *headers, body = answer
        return Reply(status, **_body(body), headers=headers[0] if headers else None)
    if isinstance(answer, int):
        return Reply(answer)
    return Reply(**_body(answer))


def _body(body: Any) -> dict[str, Any]:
    if isinstance(body, dict | list):
        return {"json": body}
    if body is None or isinstance(body, bytes | str | Iterable | AsyncIterable):
        return {"body": body}
    raise TypeError(f"{body!r} is no answer: give a Reply, a status, a body, a dict, a tuple, or an exception")


async def _give(exchange: LocalExchange, reply: Reply) -> None:
    """Send a reply as a server would."""
    headers = Headers(reply.headers)
    body = None
    if reply.json is not None:
        body = make_body(json=reply.json)
    elif reply.body is not None:
        body = make_body(content=reply.body)
    if body is not None and body.content_type is not None and "Content-Type" not in headers:
        headers["Content-Type"] = body.content_type
    length = 0 if body is None else body.length
    if length is not None and "Content-Length" not in headers and reply.status not in (204, 304):
        headers["Content-Length"] = str(length)
    exchange.answer(reply.status, headers)
    if body is not None and exchange.request.method != "HEAD":
        async with contextlib.aclosing(body.chunks()) as chunks:
            async for chunk in chunks:
                await exchange.feed(chunk)
    exchange.finish()
