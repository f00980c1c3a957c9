"""``Server``: listening sockets, the connections they have brought, and how both end.

Invariant: ``_sockets`` is None from ``close()`` on; ``_waiters`` is None from the moment on when the server is closed
*and* its last connection is gone. An accepted socket ends in a transport, or is closed.
Made by ``servers``; its listeners call ``_on_connection``, its transports ``_attach`` and ``_detach``.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from weft._core.listener import Listener
from weft._core.stream import StreamTransport
from weft.loop import listening
from weft.versions import SERVE_FOREVER_CLOSES_CONNECTIONS, SERVER_WAITS_FOR_CONNECTIONS

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterable

    from weft.loop._host import Host


class Server(asyncio.Server):
    """What ``create_server`` and ``create_unix_server`` return; an ``asyncio.Server`` with state of its own.

    Args:
        loop: the loop that accepts.
        sockets: bound non-blocking stream sockets, owned by the server.
        protocol_factory: makes the protocol of a new connection, without arguments.
        ssl_context: None for plain connections.
        backlog: length of each socket's queue of unaccepted connections (listen(2)).
        ssl_handshake_timeout: seconds; None for 60.
        ssl_shutdown_timeout: seconds; None for 30.
        unlink: a Unix socket's path and its ``(st_dev, st_ino)``: ``close()`` removes the path if they are still those.
    """

    def __init__(
        self,
        loop: Host,
        sockets: Iterable[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        ssl_context: ssl.SSLContext | None,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None = None,
        *,
        unlink: listening.Identity | None = None,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = list(sockets)
        self._listeners: list[Listener] = []
        self._protocol_factory = protocol_factory
        self._ssl_context = ssl_context
        self._backlog = backlog
        self._ssl_handshake_timeout = ssl_handshake_timeout
        self._ssl_shutdown_timeout = ssl_shutdown_timeout
        self._unlink = unlink
        # Weak: a program that drops a transport unclosed is to be warned, which takes its collection. By identity: each
        # one takes itself out, before it goes.
        self._clients: dict[int, weakref.ref[asyncio.Transport]] = {}
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None
        loop._servers.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that accepts."""
        return self._loop

    def is_serving(self) -> bool:
        """Tell whether the server accepts connections."""
        return bool(self._listeners)

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets, as views that cannot close them; empty when the server is closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets or ())

    # Serving

    def _start_serving(self) -> None:
        if self._listeners:
            return
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        for sock in self._sockets:
            sock.listen(self._backlog)  # all of them first: the one that fails must leave none accepting
        self._listeners = [Listener(self._loop, sock, self._on_connection, self._backlog) for sock in self._sockets]
        for listener in self._listeners:
            listener.start()
        if listening.source is not None:
            listening.source.serving()

    async def start_serving(self) -> None:
        """Begin to accept; does nothing when the server does so already.

        Raises:
            OSError: a socket cannot listen (the port is taken, say).
        """
        self._start_serving()
        await asyncio.sleep(0)  # asyncio promises one turn of the loop here

    async def serve_forever(self) -> None:
        """Accept until ``close()`` or cancellation, then wait as ``wait_closed`` does.

        From Python 3.14 on the connections are closed first, as asyncio does there: an idle one would be waited for
        without end. So they are on any Python when a signal ends the run.

        Raises:
            RuntimeError: somebody awaits this already, or the server is closed.
            asyncio.CancelledError: always, at the end.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            if SERVE_FOREVER_CLOSES_CONNECTIONS or self._loop._ending is not None:
                self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    # Connections

    def _on_connection(self, conn: socket.socket, address: Any) -> None:
        """Put a protocol and a transport on an accepted socket.

        Raises:
            SystemExit, KeyboardInterrupt: from the protocol factory. Whatever else it raises is reported here.
        """
        loop = self._loop
        protocol = None
        try:
            if loop.get_debug():
                logger.debug("%r got a new connection from %r: %r", self, address, conn)
            protocol = self._protocol_factory()
            if self._ssl_context is None:
                StreamTransport(loop, conn, protocol, None, {"peername": address}, self)
            else:
                self._accept_tls(conn, address, protocol)
        except BaseException as error:
            conn.close()
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise
            self._report(error, protocol=protocol)

    def _accept_tls(self, conn: socket.socket, address: Any, protocol: asyncio.BaseProtocol) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        transport = self._loop._make_tls_transport(
            conn,
            protocol,
            self._ssl_context,
            waiter,
            server_side=True,
            extra={"peername": address},
            server=self,
            ssl_handshake_timeout=self._ssl_handshake_timeout,
            ssl_shutdown_timeout=self._ssl_shutdown_timeout,
        )
        waiter.add_done_callback(partial(self._on_handshake, transport, protocol))

    def _on_handshake(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
    ) -> None:
        error = waiter.exception()  # which closes the transport too
        if error is not None and self._loop.get_debug():  # port scanners fail handshakes all day
            self._report(error, protocol=protocol, transport=transport)

    def _report(self, error: BaseException, **parties: Any) -> None:
        context = {name: party for name, party in parties.items() if party is not None}
        context["message"] = "Error on transport creation for incoming connection"
        context["exception"] = error
        self._loop.call_exception_handler(context)

    def _attach(self, transport: asyncio.Transport) -> None:
        self._clients[id(transport)] = weakref.ref(transport)

    def _detach(self, transport: asyncio.Transport) -> None:
        self._clients.pop(id(transport), None)
        if self._sockets is None and not self._clients:
            self._wake_waiters()

    def close_clients(self) -> None:
        """Close every connection of this server once what is written to it has gone."""
        for transport in self._all_clients():
            transport.close()

    def abort_clients(self) -> None:
        """Close every connection of this server at once; what is written to it, but not sent, is lost."""
        for transport in self._all_clients():
            transport.abort()

    def _all_clients(self) -> list[asyncio.Transport]:
        return [transport for reference in list(self._clients.values()) if (transport := reference()) is not None]

    # The end

    def close(self) -> None:
        """Stop listening; connections go on. Ends ``serve_forever`` by cancelling it. May be called again."""
        if self._sockets is None:
            return
        sockets, self._sockets = self._sockets, None
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.stop()
        for sock in sockets:
            sock.close()
        if self._unlink is not None:
            listening.remove(self._unlink)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
            self._forever = None
        if not self._clients:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until ``close()`` has been called and, from Python 3.12 on, the last connection is gone.

        In Python 3.11 this returns at once when the server is closed, as ``asyncio.Server`` does there.
        """
        if self._waiters is None or (self._sockets is None and not SERVER_WAITS_FOR_CONNECTIONS):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()
