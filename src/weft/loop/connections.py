"""Stream connections that this side opens, or takes over from an ``accept`` of the program's own.

Invariant: a socket made here ends in the transport that is returned, or is closed, on every path of failure and
cancellation; a socket that the program passes in stays the program's until the transport has it (from Python 3.14.7 on:
until its protocol is to be made).
Called by programs and by ``asyncio.open_connection``.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import staggered
from asyncio.log import logger
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from weft.loop import addresses
from weft.loop._host import Host
from weft.versions import FAILED_CONNECTION_CLOSES_SOCKET

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import Callable, Sequence

    SSLArgument: TypeAlias = bool | ssl_module.SSLContext | None

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class Connections(Host):
    """``create_connection`` and its relatives."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: str | bytes | None = None,
        port: int | str | None = None,
        *,
        ssl: SSLArgument = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Open a TCP connection, with TLS or without, or take over the connected *sock*.

        Args:
            protocol_factory: makes the protocol, without arguments.
            host: name or address to connect to.
            port: number or service name.
            ssl: a context, or True for the default one.
            family: ``AF_INET`` or ``AF_INET6`` to allow one only.
            proto: as for ``getaddrinfo``, like *flags*.
            flags: see *proto*.
            sock: a connected stream socket, instead of *host* and *port*.
            local_addr: ``(host, port)`` to bind to before connecting.
            server_hostname: the name to verify; *host* unless given; empty for none.
            ssl_handshake_timeout: seconds; None for 60.
            ssl_shutdown_timeout: seconds; None for 30.
            happy_eyeballs_delay: seconds after which the next address is tried too (RFC 8305 recommends 0.25);
                None tries one after the other.
            interleave: reorder the addresses so that families alternate, with so many of the first family in front;
                1 unless given with *happy_eyeballs_delay*.
            all_errors: raise an ``ExceptionGroup`` of all errors.

        Returns:
            The transport and the protocol; ``connection_made`` has been called.

        Raises:
            ValueError: arguments that exclude each other.
            OSError: no address could be connected to, or TLS failed (``ssl.SSLError``).
            ExceptionGroup: the same, with *all_errors*.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host if isinstance(host, str) else host.decode("idna")
        addresses.check_tls_timeouts(bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            addresses.check_not_tls(sock)

        ours = host is not None or port is not None
        if ours:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            ask = partial(addresses.resolve, self, type=socket.SOCK_STREAM, family=family, proto=proto, flags=flags)
            remote = await ask((host, port))
            local = None if local_addr is None else await ask(local_addr)
            if interleave is None and happy_eyeballs_delay is not None:
                interleave = 1
            if interleave:
                remote = addresses.interleave(remote, interleave)
            sock = await self._connect_any(remote, local, happy_eyeballs_delay, all_errors)
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            addresses.check_stream(sock)

        transport, protocol = await self._open(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ours=ours,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug("%r connected to %s:%r: (%r, %r)", sock, host, port, transport, protocol)
        return transport, protocol

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        path: str | bytes | os.PathLike[str] | None = None,
        *,
        ssl: SSLArgument = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Connect to the Unix domain socket at *path*, or take over the connected *sock* (unix(7)).

        When the listener's backlog is full this waits for room, as a blocking connect(2) does.
        Arguments and errors are those of ``create_connection``; with *ssl*, *server_hostname* is needed.
        """
        if ssl:
            if server_hostname is None:
                raise ValueError("you have to pass server_hostname when using ssl")
        elif server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        addresses.check_tls_timeouts(bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout)

        ours = path is not None
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await self.sock_connect(sock, os.fspath(path))
            except BaseException:
                sock.close()
                raise
        elif sock is None:
            raise ValueError("no path and sock were specified")
        else:
            addresses.check_unix_stream(sock)
        return await self._open(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ours=ours,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], ProtocolT],
        sock: socket.socket,
        *,
        ssl: SSLArgument = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Serve a connection that the program has accepted outside the loop.

        Arguments and errors are those of ``create_connection``.
        """
        addresses.check_stream(sock)
        addresses.check_tls_timeouts(bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout)
        addresses.check_not_tls(sock)
        transport, protocol = await self._open(
            sock,
            protocol_factory,
            ssl,
            "",
            server_side=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug("%r handled: (%r, %r)", sock, transport, protocol)
        return transport, protocol

    async def _connect_any(
        self,
        remote: Sequence[addresses.AddressInfo],
        local: Sequence[addresses.AddressInfo] | None,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """Connect to the first address that answers, one after the other or (with *delay*) staggered."""
        failures: list[list[OSError]] = []
        try:
            if delay is not None:
                sock = await self._race(remote, local, delay, failures)
                if sock is not None:
                    return sock
            else:
                for info in remote:
                    try:
                        return await self._connect_one(info, local, failures)
                    except OSError:
                        continue
            raise addresses.connect_error([error for errors in failures for error in errors], all_errors)
        finally:
            # It holds exceptions whose tracebacks hold this frame; attempts that have failed hold it as well.
            failures.clear()
            del failures

    async def _race(
        self,
        remote: Sequence[addresses.AddressInfo],
        local: Sequence[addresses.AddressInfo] | None,
        delay: float,
        failures: list[list[OSError]],
    ) -> socket.socket | None:
        """Happy eyeballs (RFC 8305, section 5): the next address starts when one fails or *delay* seconds pass."""
        connected: list[socket.socket] = []

        async def attempt(info: addresses.AddressInfo) -> socket.socket:
            sock = await self._connect_one(info, local, failures)
            connected.append(sock)
            return sock

        winner: socket.socket | None = None
        try:
            # Only the first item: the third one holds exceptions, and with them this frame.
            attempts = [partial(attempt, info) for info in remote]
            winner = (await staggered.staggered_race(attempts, delay, loop=self))[0]
            return winner
        finally:
            # A race that is cancelled may have been won at that very moment. The other attempts close their own.
            for sock in connected:
                if sock is not winner:
                    sock.close()

    async def _connect_one(
        self,
        info: addresses.AddressInfo,
        local: Sequence[addresses.AddressInfo] | None,
        failures: list[list[OSError]],
    ) -> socket.socket:
        """Make, bind and connect one socket; its errors go to a new list in *failures*, the last one is raised too."""
        errors: list[OSError] = []
        failures.append(errors)
        family, type_, proto, _, address = info
        sock = None
        try:
            sock = socket.socket(family=family, type=type_, proto=proto)
            sock.setblocking(False)
            if local is not None:
                _bind_any(sock, [entry[4] for entry in local if entry[0] == family], errors)
            await self.sock_connect(sock, address)
            return sock
        except BaseException as error:
            if sock is not None:
                with suppress(OSError):  # which would hide what has gone wrong
                    sock.close()
            if isinstance(error, OSError):
                errors.append(error)
            raise
        finally:
            del errors, failures

    def _open_at_once(self, sock: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        """Put a transport and *protocol* on a connected, non-blocking socket, without a turn of the loop in between.

        ``connection_made`` has been called when this returns. What it raises closes the socket, and comes out.
        """
        from weft._core.stream import StreamTransport  # here: see the note in weft.loop

        StreamTransport(self, sock, protocol, at_once=True)

    async def _open(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], ProtocolT],
        ssl: SSLArgument,
        server_hostname: str | None,
        *,
        ours: bool = False,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Put a transport and a protocol on a connected socket; *ours* says whether the socket was made here."""
        transport: asyncio.Transport
        closes_sock = ours or FAILED_CONNECTION_CLOSES_SOCKET
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            try:
                self._check_fd_free(sock.fileno())
            except RuntimeError:
                closes_sock = ours  # not the socket of a transport that lives: asyncio would close it under that one
                raise
            waiter = self.create_future()
            if ssl:
                transport = self._make_tls_transport(
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                )
            else:
                from weft._core.stream import StreamTransport  # here: see the note in weft.loop

                transport = StreamTransport(self, sock, protocol, waiter)
        except BaseException:
            if closes_sock:
                sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        finally:
            del waiter  # its exception would keep the protocol alive (gh-109534)
        return transport, protocol


def _bind_any(sock: socket.socket, local: Sequence[Any], errors: list[OSError]) -> None:
    """Bind *sock* to the first address of *local* that is free; the errors go to *errors*, the last one is raised."""
    try:
        for address in local:
            try:
                sock.bind(address)
                return
            except OSError as error:
                errors.append(addresses.bind_error(address, error))
        raise errors.pop() if errors else OSError(f"no matching local address with family={sock.family!r} found")
    finally:
        del errors  # exceptions whose tracebacks hold this frame
