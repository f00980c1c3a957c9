"""The transport that goes over the network: pool, dialling, and the exchange on a connection.

Owns a client's connections, from the dial to the close. Its invariants: every connection is in the pool's count from
the moment its dial begins; an exchange that did not end well closes its connection; and a request is repeated here only
if the server surely did not process it, or if it is idempotent and hit a connection that had died while idle.
Called by the client; everything here belongs to one loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from weft.http._wire.connection import H1Connection
from weft.http._wire.deadlines import Deadlines
from weft.http._wire.incoming import Incoming
from weft.http.dial import Dialer, Route
from weft.http.errors import (
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    HTTPError,
    HTTPTimeoutError,
    PoolTimeoutError,
    TotalTimeoutError,
)
from weft.http.outgoing import Request
from weft.http.pool import Bucket, Pool, Waiter
from weft.http.settings import Limits
from weft.http.transport import Transport

__all__ = ["NetworkTransport"]

logger = logging.getLogger("weft.http")
INFINITY = float("inf")
# How long a client that closes waits for its peers to say goodbye, in seconds.
PARTING = 1.0
# How often a request goes out again because the server said that it did not act on it (RFC 9113, 8.7). A server that
# takes few requests per connection says so to each of a crowd many times over; one that always does must have an end.
MOST_REFUSALS = 100


class Chooser(asyncio.Protocol):
    """Waits for the end of a TLS handshake, and becomes what was agreed in it (ALPN, RFC 7301)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.chosen: Any = None

    def connection_made(self, transport: Any) -> None:
        secure = transport.get_extra_info("ssl_object")
        if secure is not None and secure.selected_alpn_protocol() == "h2":
            from weft.http.h2 import H2Connection

            self.chosen = H2Connection(self._loop)
        else:
            self.chosen = H1Connection(self._loop)
        transport.set_protocol(self.chosen)
        self.chosen.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """What had come with the end of the handshake, and was kept until now: a server's first SETTINGS often do."""
        self.chosen.data_received(data)


class NetworkTransport(Transport):
    """Connections over the network.

    Args:
        loop: the event loop that all of it belongs to.
        dialer: makes connections.
        limits: how many there may be.
        route_of: by which way a request goes.
        offers_h2: whether a server with TLS may choose HTTP/2.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dialer: Dialer,
        limits: Limits,
        route_of: Callable[[Request], Route],
        offers_h2: bool = False,
    ) -> None:
        self._loop = loop
        self._offers_h2 = offers_h2
        self._dialer = dialer
        self._route_of = route_of
        self._keepalive = limits.keepalive
        self.pool = Pool(limits, self._start_dial)
        self._deadlines = Deadlines(loop)
        # Weft's loop can; on others a transport takes a turn of the loop.
        self._open_at_once: Any = getattr(loop, "_open_at_once", None)
        self._dials: set[asyncio.Task[None]] = set()
        self._alive: set[Any] = set()  # every connection whose transport is not gone
        self._all_lost: asyncio.Future[None] | None = None
        self._is_closed = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._served = 0
        self._has_warned = False
        self._unused: dict[Any, int] = {}  # idle connections, and how often they had been used at the last sweep

    async def send(self, request: Request, total: float = INFINITY, repeats: int = 0) -> Incoming:
        """See :meth:`Transport.send`; ``repeats``: how often it went out already."""
        bucket = request.bucket
        if bucket is None:
            bucket = self._locate(request)
        if not request.is_repeatable:
            self._drop_dead(bucket)
        connection = bucket.take()
        if connection is None:
            connection, total = await self._wait(bucket, request, total)
        incoming = Incoming(request, self._loop, self._deadlines, total)
        if request.trace is not None:
            request.trace.on_connection(connection, incoming)
        try:
            connection.exchange(request, incoming)
            await incoming.changed()
        except BaseException:
            incoming.release()
            raise
        if incoming.was_answered:
            return incoming
        error = incoming.error
        assert error is not None
        if self._is_closed:
            raise ClientClosedError(url=request.url) from error
        if may_repeat(error, request, repeats):
            return await self._repeat(request, total, repeats + 1)
        raise error

    async def _repeat(self, request: Request, total: float, repeats: int) -> Incoming:
        """Once more, on another connection: the idle ones may be as dead as this one was."""
        for connection in list(request.bucket.idle):
            self.pool.discard(connection)
        return await self.send(request, total, repeats)

    def _locate(self, request: Request) -> Bucket:
        if self._is_closed:
            raise ClientClosedError(url=request.url)
        place = request.place
        bucket: Bucket | None = place.bucket
        if bucket is None:
            route = self._route_of(request)
            bucket = place.bucket = self.pool.bucket(route, None if route.is_secure and self._offers_h2 else False)
        if not bucket.speaks_h2:
            request.wire  # noqa: B018  # made now: what cannot be sent needs no connection
        request.bucket = bucket
        return bucket

    def _drop_dead(self, bucket: Bucket) -> None:
        """Close the connections which the peer has closed while the loop was busy elsewhere, before one is handed out.

        Asked of the kernel for a request that cannot be repeated: for the others that costs more than it saves.
        """
        while bucket.idle and (connection := next(reversed(bucket.idle))).peer_has_closed():
            self.pool.discard(connection)

    # -- getting a connection

    async def _wait(self, bucket: Bucket, request: Request, total: float) -> tuple[Any, float]:
        """Wait for a connection; returns it, and the time limit put off by the wait for a free one."""
        if self._is_closed:
            raise ClientClosedError(url=request.url)
        if self._sweeper is None and self._keepalive is not None:
            self._sweeper = self._loop.call_later(max(self._keepalive / 2, 0.01), self._sweep)
        connection = self._connect_at_once(bucket)
        if connection is not None:
            return connection, total
        again = False
        while True:
            attempt = Attempt(self._loop, bucket, request, total)
            self.pool.wait(attempt.waiter, first=again)
            try:
                connection = await attempt.waiter.future
            except BaseException as error:
                self.pool.leave(attempt.waiter)
                if isinstance(error, ConnectError):
                    raise located(error, request) from error.__cause__
                raise
            finally:
                attempt.end()
            total = attempt.total
            if connection.room:
                return connection, total
            again = True

    def _connect_at_once(self, bucket: Bucket) -> H1Connection | None:
        """A new connection to a server on this machine, if it need not be waited for: no task, no timer, no future."""
        route: Any = bucket.key
        if self._open_at_once is None or route.is_secure or route.via is not None or not self.pool.has_room(bucket):
            return None
        connection = self._dialer.dial_at_once(route, self._open_at_once, lambda: H1Connection(self._loop))
        if connection is not None:
            self._alive.add(connection)
            connection.on_lost = self._on_lost
            connection.on_change = self.pool.changed
            self.pool.lend(bucket, connection)
        return connection

    def _start_dial(self, bucket: Bucket, waiter: Waiter) -> None:
        limit = ConnectLimit(self._loop, waiter.request.timeout.connect)
        task = limit.task = self._loop.create_task(self._make_connection(bucket, limit))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _make_connection(self, bucket: Bucket, limit: ConnectLimit) -> None:
        connection: Any = None
        error: BaseException | None = None
        route: Any = bucket.key
        try:
            if route.is_secure:
                _, chooser = await self._dialer.dial(route, lambda: Chooser(self._loop))
                connection = chooser.chosen
            else:
                _, connection = await self._dialer.dial(route, lambda: H1Connection(self._loop))
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
            error = ConnectTimeoutError(f"no connection to {route} within {limit.seconds} s")
        except Exception as caught:
            error = caught
        finally:
            limit.end()
            if connection is not None and not connection.is_lost:
                self._alive.add(connection)
                connection.on_lost = self._on_lost
            if connection is not None and not connection.is_open and error is None:
                error = ConnectError(f"{route} closed the connection at once")
            if connection is not None and error is None and not self._is_closed:
                connection.on_change = self.pool.changed
                self.pool.add(bucket, connection)
                if connection in bucket.idle:
                    connection.has_waited = True
            else:
                if connection is not None:
                    connection.abort()
                self.pool.dial_failed(bucket, error)

    # -- the end

    def _sweep(self) -> None:
        """Close what has been idle since the sweep before the last."""
        self._sweeper = None
        if self._is_closed or self._keepalive is None:
            return
        unused = {}
        for connection in self.pool.idle():
            mark = connection.uses * 2
            had = self._unused.get(connection)
            if had is None or had // 2 != connection.uses:
                unused[connection] = mark
            elif had == mark:
                unused[connection] = mark + 1
            else:
                self.pool.discard(connection)
        self._unused = unused
        self._warn_of_standstill()
        if self.pool.count:
            self._sweeper = self._loop.call_later(max(self._keepalive / 2, 0.01), self._sweep)

    def _warn_of_standstill(self) -> None:
        """Say once that requests wait and none is served: most likely somebody keeps responses unread."""
        before, self._served = self._served, self.pool.served
        if not self.pool.waiting or self.pool.dialing or before != self.pool.served:
            self._has_warned = False
        elif not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%d requests wait for a connection, and all %d have been in use for %.0f s or more: read or release "
                "every response, as one that is open keeps its connection; or raise Limits",
                self.pool.waiting, self.pool.count, (self._keepalive or 0) / 2,
            )  # fmt: skip

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self.pool.waiters():
            self.pool.leave(waiter)  # so that no connection is made for him any more
            if not waiter.future.done():
                waiter.future.set_exception(ClientClosedError(url=waiter.request.url))
        for task in self._dials:
            task.cancel()
        if self._dials:
            await asyncio.wait(set(self._dials))
        self.pool.close()
        self._unused.clear()
        self._deadlines.close()
        for connection in self._alive:
            if not connection.transport.is_closing():
                connection.abort()  # a WebSocket's
        if self._alive:
            # Over TLS a connection ends with an answer of the peer, which may never come.
            self._all_lost = self._loop.create_future()
            timer = self._loop.call_later(PARTING, self._abort_all)
            try:
                await self._all_lost
            finally:
                timer.cancel()

    def _abort_all(self) -> None:
        for connection in list(self._alive):
            connection.abort()

    def _on_lost(self, connection: Any) -> None:
        self._alive.discard(connection)
        if self._all_lost is not None and not self._alive and not self._all_lost.done():
            self._all_lost.set_result(None)


class ConnectLimit:
    """The time limit of a dial, whose task belongs to the transport: ``asyncio.timeout()`` costs more than the pool."""

    __slots__ = ("_timer", "is_over", "seconds", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self.seconds = seconds
        self.task: asyncio.Task[None] | None = None
        self.is_over = False
        self._timer = None if seconds is None else loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.is_over = True
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """The dial has ended."""
        if self._timer is not None:
            self._timer.cancel()


class Attempt:
    """One wait for a connection, with its time limits.

    While nothing is being done for the waiter it is a wait for a free connection, which has a limit of its own and is
    added to the limit on the whole. From the dial on, that limit counts.
    """

    __slots__ = ("_began", "_loop", "_request", "_timer", "total", "waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, bucket: Bucket, request: Request, total: float) -> None:
        self._loop = loop
        self._request = request
        self.total = total
        self._began = loop.time()
        self.waiter = Waiter(bucket, loop.create_future(), request, self._on_dial)
        limit = request.timeout.pool
        self._timer = None if limit is None else loop.call_later(limit, self._expire, PoolTimeoutError)

    def _on_dial(self) -> None:
        """The wait for a free connection is over."""
        self.end()
        self.total += self._loop.time() - self._began
        self._began = INFINITY
        if self.total < INFINITY:
            self._timer = self._loop.call_at(self.total, self._expire, TotalTimeoutError)

    def _expire(self, kind: type[HTTPTimeoutError]) -> None:
        if not self.waiter.future.done():
            self.waiter.future.set_exception(kind.of(self._request))

    def end(self) -> None:
        """The wait is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._began < INFINITY and self.waiter.future.done():
            self.total += self._loop.time() - self._began
            self._began = INFINITY


def may_repeat(error: BaseException, request: Request, repeats: int) -> bool:
    """Whether ``request`` may be sent once more at once, on another connection."""
    if getattr(error, "unprocessed", False):
        return request.is_replayable and repeats < MOST_REFUSALS
    return getattr(error, "was_reused", False) and not repeats and request.is_repeatable


def located(error: Any, request: Request) -> HTTPError:
    """A failure to connect, as that of this request. A copy: the same failure may be told to others."""
    found: HTTPError = type(error)(str(error), url=request.url)
    found.__dict__.update({name: value for name, value in error.__dict__.items() if name != "url"})
    if isinstance(error, OSError):
        found.errno = error.errno  # type: ignore[attr-defined]
    return found
