"""Requests that are answered in this process, without a network: what ASGI applications and tests' functions share.

Owns the tasks that answer, and the pace between them and the reader of the response. Its invariant: every exchange ends
for its reader, whatever its task does, and no task outlives ``aclose()``. Time limits, abandoned responses and slow
readers are what they are over the network. Derived from by :mod:`weft.http.asgi` and :mod:`weft.http.testing`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from weft.http._wire.deadlines import Deadlines
from weft.http._wire.incoming import Incoming
from weft.http.errors import ClientClosedError, IncompleteBodyError, PeerClosedError
from weft.http.headers import Headers
from weft.http.outgoing import Request
from weft.http.transport import Transport

__all__ = ["GRACE", "LocalExchange", "LocalTransport"]

# How long ``aclose()`` waits for what goes on behind complete responses, in seconds.
GRACE: Final = 10.0


class LocalExchange:
    """One request, and the way of its response to the reader.

    Attributes:
        request: what was asked.
        gone: set when nobody wants (more of) the response, or all of it was given.
        is_complete: whether all of it was given.
        is_awaited: whether ``send()`` has not returned yet.
        error: what failed behind the end of the response, but before the caller could see that.
    """

    uses = 0  # as a connection says to hooks how often it was used before

    def __init__(self, request: Request, incoming: Incoming) -> None:
        self.request = request
        self.gone = asyncio.Event()
        self.is_complete = False
        self.is_awaited = True
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self._incoming = incoming
        self._may_feed = asyncio.Event()
        self._may_feed.set()

    @property
    def is_answered(self) -> bool:
        """Whether the head was given."""
        return self._incoming.was_answered

    # -- for the one who answers

    def answer(self, status: int, headers: Headers, version: int = 11) -> None:
        """Give the head of the response."""
        self._incoming.answer(status, headers, version)
        self._incoming.streams()

    async def feed(self, data: bytes) -> None:
        """Give a piece of the body, and wait while the reader has enough.

        Raises:
            ConnectionResetError: nobody reads any more.
        """
        if data and not self.gone.is_set():
            self._incoming.feed(bytes(data))
        if not self._may_feed.is_set():
            await self._may_feed.wait()
        if self.gone.is_set():
            raise ConnectionResetError("the client does not want the rest of the response")

    def finish(self, trailer: bytes | None = None) -> None:
        """The body was given whole."""
        self.is_complete = True
        if trailer is not None:
            self._incoming.keep_trailer(trailer)
        if not self.gone.is_set():
            self._incoming.finish()
        self.abandon()

    def fail(self, error: BaseException) -> None:
        """There will be no more."""
        if not self.gone.is_set():
            self._incoming.fail(error)
        self.abandon()

    # -- for the reader: see the source of an Incoming

    def pause(self) -> None:
        """The reader has enough for now."""
        self._may_feed.clear()

    def resume(self) -> None:
        """The reader wants more."""
        self._may_feed.set()

    def abandon(self) -> None:
        """The reader wants nothing more."""
        self.gone.set()
        self._may_feed.set()


class LocalTransport(Transport):
    """Answers requests in tasks of its own. Derive from it, and override :meth:`serve`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines: Deadlines | None = None
        self._exchanges: set[LocalExchange] = set()

    async def serve(self, exchange: LocalExchange) -> None:
        """Answer ``exchange``. What is raised here the caller of the request gets."""
        raise NotImplementedError

    async def open(self) -> None:
        """Called before each request: what must be there first."""

    async def send(self, request: Request, total: float = float("inf")) -> Incoming:
        """See :meth:`Transport.send`."""
        loop = self._belong(request)
        await self.open()
        incoming = Incoming(request, loop, self._deadlines, total)
        exchange = LocalExchange(request, incoming)
        incoming.source = exchange
        if request.trace is not None:
            request.trace.on_connection(exchange, incoming)
        self._exchanges.add(exchange)
        exchange.task = loop.create_task(self._serve(exchange), name=f"answers {request.method} {request.url}")
        try:
            # A loop with an eager task factory may have answered already.
            if not incoming.was_answered and not incoming.is_ended:
                await incoming.changed()
            if exchange.error is not None:
                raise exchange.error
        except BaseException:
            incoming.release()
            raise
        finally:
            exchange.is_awaited = False
        if incoming.was_answered:
            return incoming
        assert incoming.error is not None
        raise incoming.error

    def _belong(self, request: Request) -> asyncio.AbstractEventLoop:
        """The running loop; what belonged to another one that has ended is forgotten."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ClientClosedError(f"{self!r} belongs to another loop", url=request.url)
            self._loop = loop
            self._deadlines = Deadlines(loop)
            self._exchanges.clear()
        return loop

    async def _serve(self, exchange: LocalExchange) -> None:
        try:
            await self.serve(exchange)
            if not exchange.gone.is_set():
                exchange.fail(_silence(exchange))
        except asyncio.CancelledError:
            exchange.fail(_silence(exchange))
            raise
        except Exception as error:
            if not exchange.gone.is_set():
                exchange.fail(error)
            elif exchange.is_complete and exchange.is_awaited:
                exchange.error = error
            else:
                self.report(exchange, error)
        finally:
            self._exchanges.discard(exchange)

    def report(self, exchange: LocalExchange, error: Exception) -> None:
        """Something failed, and nobody waits for it: tell the loop."""
        if isinstance(error, ConnectionResetError) and not exchange.is_complete:
            return  # what feed() raises to end whoever answers
        request = exchange.request
        # Without the task: from Python 3.12 on the handler would be run in its context, which it is in.
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"{request.method} {request.url}: an error that no caller waits for", "exception": error}
        )

    async def aclose(self) -> None:
        """End every exchange that is under way, and wait for what goes on behind complete responses."""
        exchanges = [exchange for exchange in self._exchanges if exchange.task is not None]
        for exchange in exchanges:
            if not exchange.is_complete and exchange.task is not None:
                # A task that never ran will not say so itself.
                exchange.fail(ClientClosedError(url=exchange.request.url))
                exchange.task.cancel()
        tasks = [exchange.task for exchange in exchanges if exchange.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._deadlines is not None:
            self._deadlines.close()
        self._exchanges.clear()
        self._loop = self._deadlines = None


def _silence(exchange: LocalExchange) -> IncompleteBodyError | PeerClosedError:
    url = exchange.request.url
    if exchange.is_answered:
        return IncompleteBodyError("the response was not given to its end", url=url)
    return PeerClosedError("there was no answer", url=url)
