"""``create_server`` and ``create_unix_server``: from names and paths to listening sockets.

Invariant: sockets made here end in the ``Server`` that is returned, or are closed.
Called by programs and by ``asyncio.start_server``; what happens after that is ``server``'s business.
"""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from asyncio.log import logger
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from weft.loop import addresses, listening
from weft.loop._host import Host
from weft.versions import UNIX_SERVER_UNLINKS

if TYPE_CHECKING:
    from ssl import SSLContext

    from weft.loop.server import Server


class Servers(Host):
    """Stream servers."""

    def __init__(self) -> None:
        super().__init__()
        self._servers: weakref.WeakSet[Any] = weakref.WeakSet()

    async def create_server(  # type: ignore[override]  # one signature for the overloads
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Iterable[str | None] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Listen on TCP addresses.

        Args:
            protocol_factory: makes the protocol of each connection, without arguments.
            host: a name or address, several of them, or None or ``""`` for all interfaces. Every address they resolve
                to gets a socket; IPv6 sockets take IPv6 only.
            port: number or service name; 0 lets the kernel choose, for each address anew.
            family: ``AF_INET`` or ``AF_INET6`` to allow one only.
            flags: as for ``getaddrinfo``.
            sock: a bound stream socket, instead of *host* and *port*; the server owns it then.
            backlog: length of the queue of unaccepted connections (listen(2)).
            ssl: a context for TLS.
            reuse_address: ``SO_REUSEADDR``; set unless given.
            reuse_port: ``SO_REUSEPORT``: several sockets, of several processes, share the port.
            keep_alive: ``SO_KEEPALIVE`` for every connection.
            ssl_handshake_timeout: seconds; None for 60.
            ssl_shutdown_timeout: seconds; None for 30.
            start_serving: accept from now on; otherwise from ``Server.start_serving()`` or ``serve_forever()`` on.

        Raises:
            TypeError: *ssl* is a bool.
            ValueError: arguments that exclude each other.
            OSError: an address cannot be resolved, bound or listened on.
        """
        _check_ssl(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        ours = host is not None or port is not None
        if ours:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._listen_addresses(host, port, family, flags)
            sockets = self._bind_all(infos, reuse_address, reuse_port, keep_alive)
        elif sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        else:
            addresses.check_not_tls(sock)
            addresses.check_stream(sock)
            sockets = [sock]
        for each in sockets:
            each.setblocking(False)
        from weft.loop.server import Server  # here: see the note in weft.loop

        server = Server(self, sockets, protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
        await _begin(server, start_serving, ours)
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def create_unix_server(  # type: ignore[override]  # asyncio's stub does not know cleanup_socket everywhere
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: str | bytes | os.PathLike[str] | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = UNIX_SERVER_UNLINKS,
    ) -> Server:
        """Listen on a Unix domain socket (unix(7)).

        Args:
            protocol_factory: makes the protocol of each connection, without arguments.
            path: where the socket is made; one that a dead server left there is replaced. A name that starts with a
                zero byte is abstract: it is no file, and goes with the socket.
            sock: a bound Unix stream socket, instead of *path*; the server owns it then.
            backlog: as for ``create_server``, like the rest.
            ssl: see *backlog*.
            ssl_handshake_timeout: see *backlog*.
            ssl_shutdown_timeout: see *backlog*.
            start_serving: see *backlog*.
            cleanup_socket: let ``Server.close()`` remove the path, if the socket there is still this one. True unless
                given from Python 3.13 on, False before.

        Raises:
            TypeError: *ssl* is a bool.
            ValueError: arguments that exclude each other.
            OSError: the path cannot be bound.
        """
        _check_ssl(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        ours = path is not None
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            if listening.source is None:
                sock = listening.bind_unix(os.fspath(path))
            else:
                sock = listening.source.bind(socket.AF_UNIX, os.fspath(path), True)
                cleanup_socket = False  # others listen there as well
        elif sock is None:
            raise ValueError("path was not specified, and no sock specified")
        else:
            addresses.check_unix_stream(sock)
        sock.setblocking(False)
        from weft.loop.server import Server

        server = Server(
            self,
            [sock],
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            unlink=listening.identify(sock) if cleanup_socket else None,
        )
        await _begin(server, start_serving, ours)
        return server

    async def _listen_addresses(
        self, host: str | Iterable[str | None] | None, port: int | str | None, family: int, flags: int
    ) -> list[addresses.AddressInfo]:
        """Resolve all hosts; an address that several of them lead to comes once."""
        hosts = [host or None] if host is None or isinstance(host, (str, bytes)) else list(host)
        found = await asyncio.gather(
            *(
                addresses.resolve(self, (each, port), type=socket.SOCK_STREAM, family=family, flags=flags)
                for each in hosts
            )
        )
        return list(dict.fromkeys(chain.from_iterable(found)))

    def _bind_all(
        self,
        infos: Iterable[addresses.AddressInfo],
        reuse_address: bool | None,
        reuse_port: bool | None,
        keep_alive: bool | None,
    ) -> list[socket.socket]:
        """Bind one socket per address; those of a family that the machine has not are left out."""
        sockets: list[socket.socket] = []
        skipped: OSError | None = None
        try:
            for info in infos:
                sock = _bind(info, reuse_address is not False, bool(reuse_port))
                if isinstance(sock, OSError):
                    skipped = sock
                    if self.get_debug():
                        logger.warning("%s", skipped)
                    continue
                sockets.append(sock)
                if keep_alive:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if not sockets:
                raise OSError(
                    skipped.errno if skipped is not None else addresses.UNAVAILABLE,
                    f"could not bind on any address out of {[info[4] for info in infos]!r}",
                )
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        finally:
            del skipped
        return sockets


def _bind(info: addresses.AddressInfo, reuse_address: bool, reuse_port: bool) -> socket.socket | OSError:
    """A socket that is bound to an address; or why there is none, where another address may do.

    Raises:
        OSError: the address is taken, say.
    """
    family, type_, proto, _, address = info
    try:
        if listening.source is None:
            return listening.bind(family, address, reuse_address, reuse_port, type_, proto)
        return listening.source.bind(family, address, reuse_address)
    except listening.FamilyError as error:
        return error.reason
    except OSError as error:
        told = addresses.bind_error(address, error)
        if error.errno != addresses.UNAVAILABLE:
            raise told from None
        return told


async def _begin(server: Server, start_serving: bool, ours: bool) -> None:
    """Start *server* if asked to, and close it when that fails; a socket of the caller's own stays open if unused."""
    try:
        if start_serving:
            await server.start_serving()
    except BaseException:
        if ours or server.is_serving():
            server.close()
        raise


def _check_ssl(ssl: SSLContext | None, handshake: float | None, shutdown: float | None) -> None:
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    addresses.check_tls_timeouts(ssl is not None, handshake, shutdown)
