"""One call of a client, when it takes more than one request, or more than the plain way.

Owns the sequence of requests that redirects, challenges and repetitions make of one call, and what is kept of each
response: cookies, history. Its invariant: a response that is not the last is read to its end or closed before the next
request leaves. The client takes the plain way itself, and begins here where that ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Protocol

from weft.http._wire.incoming import Incoming, Note
from weft.http.auth import Auth
from weft.http.cookies import CookieJar, load_public_suffixes, suffixes_are_loaded
from weft.http.errors import HTTPError, RedirectError, TooManyRedirectsError
from weft.http.hooks import Hooks, Tracer
from weft.http.outgoing import Request
from weft.http.preparing import with_cookie
from weft.http.redirects import BODY_HEADERS, CREDENTIAL_HEADERS, REDIRECT_STATUSES, redirected
from weft.http.response import Response
from weft.http.retries import Retry
from weft.http.settings import RequestOptions
from weft.http.transport import Transport
from weft.http.url import URL

__all__ = ["Journey"]

HAS_COOKIES = int(Note.HAS_COOKIES)
INFINITY = float("inf")


class Policy(Protocol):
    """What is asked of the client."""

    cookies: CookieJar
    hooks: Hooks | None
    follow_redirects: bool
    max_redirects: int
    raise_for_status: bool
    max_decoded_size: int | None

    @property
    def transport(self) -> Transport: ...
    def auth_for(self, url: URL, options: RequestOptions) -> Auth | None: ...
    def retry_for(self, options: RequestOptions) -> Retry | None: ...
    def cookie_header(self, request: Request, given: Mapping[str, str] | None) -> str | None: ...


class Journey:
    """From a request to the response that the caller gets."""

    def __init__(self, client: Policy, request: Request, options: RequestOptions, limit: float | None = None) -> None:
        self._client = client
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._auth = client.auth_for(request.url, options)
        self._cookies = options.get("cookies")
        self._retry = client.retry_for(options)
        self._history: list[Response] = []
        self._attempts = 0
        self._challenges = 0
        if limit is None:
            total = request.timeout.total
            limit = INFINITY if total is None else self._loop.time() + total
        self._limit = limit

    async def run(self) -> Response:
        """Send the first request, and go on from there."""
        return await self._go(None, None)

    async def after(self, incoming: Incoming) -> Response:
        """Go on from a response."""
        self._limit = max(self._limit, incoming.total)
        return await self._go(incoming, None)

    async def after_error(self, error: HTTPError) -> Response:
        """Go on from a failure."""
        return await self._go(None, error)

    async def _go(self, incoming: Incoming | None, error: HTTPError | None) -> Response:
        while True:
            if incoming is None and error is None:
                try:
                    incoming = await self._send()
                    # The wait for a free connection was not counted.
                    self._limit = max(self._limit, incoming.total)
                except HTTPError as caught:
                    error = caught
            if error is not None:
                await self._wait_to_repeat(error=error)
                error = None
                continue
            assert incoming is not None
            response = self._response(incoming)
            incoming = None
            try:
                await self._keep_cookies(response)
                following = self._following(response)
                if following is None and not await self._wait_to_repeat(response=response):
                    return self._finished(response)
            except BaseException:
                response.release()
                raise
            response.release()
            if following is not None:
                self._request = following

    async def _send(self) -> Incoming:
        client = self._client
        request = self._request
        if "Cookie" not in request.headers:
            request = with_cookie(request, client.cookie_header(request, self._cookies))
        if client.hooks is None:
            return await client.transport.send(request, self._limit)
        request = request.replace()
        request.trace = tracer = Tracer(client.hooks, request, self._loop)
        try:
            incoming = await client.transport.send(request, self._limit)
        except BaseException as error:
            tracer.end(error)
            raise
        tracer.on_response(incoming)
        return incoming

    def _response(self, incoming: Incoming) -> Response:
        response = Response(
            incoming, self._request, self._client.max_decoded_size, decode=self._options.get("decode", True)
        )
        return response

    async def _keep_cookies(self, response: Response) -> None:
        lines = response.headers.getall("Set-Cookie")
        if not lines:
            return
        if not suffixes_are_loaded() and any("domain" in line.lower() for line in lines):
            # Who may set a cookie for a whole domain is a long list, which takes a blink to read.
            await asyncio.to_thread(load_public_suffixes)
        self._client.cookies.update(lines, response.url)

    # -- what follows a response

    def _following(self, response: Response) -> Request | None:
        """The next request, or None if the response is the last."""
        if response.status == 401 and self._auth is not None:
            return self._with_answer(response)
        if response.status in REDIRECT_STATUSES and self._follows():
            return self._redirect(response)
        return None

    def _follows(self) -> bool:
        for name in ("follow_redirects", "allow_redirects"):
            if name in self._options:
                return bool(self._options[name])
        return self._client.follow_redirects

    def _with_answer(self, response: Response) -> Request | None:
        """The request with an answer to the server's challenge (RFC 9110, 11.6)."""
        request = self._request
        challenges = response.headers.getall("WWW-Authenticate")
        if not challenges or not request.is_replayable or self._challenges > 1 or self._auth is None:
            return None
        body = None if request.body is None else request.body.content
        if not self._auth.answer(request.method, request.url, challenges, body):
            return None
        self._challenges += 1
        headers = request.headers.copy()
        value = self._auth.header_for(request.method, request.url)
        if value is not None:
            headers["Authorization"] = value
        return request.replace(headers=headers)

    def _redirect(self, response: Response) -> Request | None:
        request = self._request
        location = response.headers.get("Location")
        if location is None:
            return None
        most = self._options.get("max_redirects", self._client.max_redirects)
        if len(self._history) >= most:
            raise TooManyRedirectsError(f"more than {most} redirects", url=response.url, response=response)
        try:
            method, url, keeps_body, drops_credentials = redirected(
                request.method, request.url, response.status, location
            )
        except ValueError as error:
            raise RedirectError(f"the redirect to {location!r} cannot be followed: {error}", url=response.url,
                                response=response) from error  # fmt: skip
        if keeps_body and not request.is_replayable:
            text = "the redirect asks for the body again, and it can be read only once: give bytes, or a function"
            raise RedirectError(text, url=response.url, response=response)
        headers = request.headers.copy()
        headers.pop("Host", None)
        if drops_credentials:
            self._auth = None
            self._cookies = None
            for name in CREDENTIAL_HEADERS:
                headers.pop(name, None)
        elif self._auth is not None and (value := self._auth.header_for(method, url)) is not None:
            headers["Authorization"] = value
        if not keeps_body:
            for name in BODY_HEADERS:
                headers.pop(name, None)
        self._history.append(response)
        # What a server puts before the host is nothing that the user said.
        url = url.without_userinfo()
        return request.replace(method=method, url=url, headers=headers, body=request.body if keeps_body else None)

    # -- repetitions

    async def _wait_to_repeat(self, *, response: Response | None = None, error: HTTPError | None = None) -> bool:
        """Wait as long as is due before the request is repeated; False, or the error, if it is not."""
        delay = None
        if self._retry is not None and (error is not None or (response is not None and response.status >= 400)):
            self._attempts += 1
            delay = self._retry.delay(
                self._attempts,
                method=self._request.method,
                replayable=self._request.is_replayable,
                status=None if response is None else response.status,
                error=error,
                retry_after=None if response is None else response.headers.get("Retry-After"),
                random=random.random,
            )
        if delay is None or self._loop.time() + delay >= self._limit:
            if error is not None:
                raise error
            return False
        if response is not None:
            response.release()
        await asyncio.sleep(delay)
        return True

    def _finished(self, response: Response) -> Response:
        response.history = tuple(self._history)
        if self._options.get("raise_for_status", self._client.raise_for_status):
            response.raise_for_status()
        return response
