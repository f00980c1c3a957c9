"""Making a connection: names, addresses, proxies and TLS, up to a transport that a protocol can use.

Invariant: a dial ends in the transport that it returns, or leaves no socket behind, however it fails and whenever it
is cancelled. It has no time limit: whoever calls puts one around it.
Called by the pool.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from weft.http import tls
from weft.http.errors import ConnectError, TLSError
from weft.http.names import Address, Names
from weft.http.proxies import Proxy
from weft.http.tunnels import Dialogue, UnreachableError, hand_over, open_tunnel

__all__ = ["Dialer", "Route"]

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

PROXY_ALPN = ("http/1.1",)
"""What an ``https://`` proxy is spoken to in: CONNECT over HTTP/2 would be another protocol on top (RFC 9113, 8.5)."""

NONBLOCKING_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
"""socket(2): made non-blocking at once, without a second call."""

IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7): choose the port when the address of the peer is known, so that one can be used for many peers."""

FIRST_RETRY = 0.001
LAST_RETRY = 0.05
"""Seconds between two tries to connect to a Unix socket whose backlog is full: the kernel gives no event for it."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a connection goes and how; connections of equal routes can stand in for each other.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: name or address, IPv6 without brackets.
        port: a number.
        proxy: through whom, or None.
        tls: None or True to verify by the system's authorities, False for not at all, or a context.
        server_hostname: the name to verify, and to ask for, instead of *host*.
        unix: path of the Unix socket to connect to; *host* is for TLS only then, and *proxy* for nothing.
        tunnel: go through a tunnel of an HTTP proxy for ``"http"`` as well, as WebSockets must.
        alpn: what to offer instead of the dialer's (WebSockets: ``("http/1.1",)``).
    """

    scheme: str
    host: str
    port: int
    proxy: Proxy | None = None
    tls: ssl.SSLContext | bool | None = None
    server_hostname: str | None = None
    unix: str | None = None
    tunnel: bool = False
    alpn: tuple[str, ...] | None = None

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken with the host itself."""
        return self.scheme == "https"

    @property
    def via(self) -> Proxy | None:
        """The proxy that is connected to, or None."""
        return self.proxy if self.unix is None else None

    @property
    def has_tunnel(self) -> bool:
        """Whether a proxy is asked for a tunnel."""
        proxy = self.via
        return proxy is not None and (self.is_secure or self.tunnel or proxy.is_socks)

    @property
    def is_forwarded(self) -> bool:
        """Whether requests go to an HTTP proxy itself: with the whole URL (RFC 9112, 3.2.2), and its authorization."""
        return self.via is not None and not self.has_tunnel

    def __str__(self) -> str:
        """Host and port, for messages."""
        return self.unix if self.unix is not None else _host_port(self.host, self.port)


class Dialer:
    """Makes connections.

    Args:
        names: who resolves.
        happy_eyeballs_delay: seconds after which the next address is tried beside the first (RFC 8305, 5); None for
            one after the other.
        local_address: the IP address to connect from, or (address, port).
        alpn: what to offer to servers over TLS, best first.
        socket_options: (level, option, value) for ``socket.setsockopt`` before connecting.
    """

    def __init__(
        self,
        names: Names | None = None,
        *,
        happy_eyeballs_delay: float | None = 0.25,
        local_address: str | tuple[str, int] | None = None,
        alpn: Sequence[str] = tls.ALPN,
        socket_options: Iterable[tuple[int, int, int | bytes]] = (),
    ) -> None:
        self._names = Names() if names is None else names
        self._delay = happy_eyeballs_delay
        self._local = (local_address, 0) if isinstance(local_address, str) else local_address
        self._alpn = tuple(alpn)
        self._options = tuple(socket_options)
        self._contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}  # by the file of their authorities

    async def dial(
        self, route: Route, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Connect.

        Args:
            route: where to.
            protocol_factory: makes the protocol, when everything up to TLS stands. ``connection_made`` comes before
                this returns, and can ask ``transport.get_extra_info("ssl_object").selected_alpn_protocol()``.

        Raises:
            ResolveError: a name has no address.
            ConnectError: nobody answers at any of the addresses; ``errno`` says why. ``__cause__`` is the error, or an
                ``ExceptionGroup`` of several.
            CertificateError: the certificate of the server, or of a proxy, is not to be trusted.
            TLSError: another failure of TLS.
            ProxyError: the proxy refuses, or answers what it should not.
        """
        if not route.is_secure and route.via is None:  # what a herd of them makes should take few steps
            return await _adopt(await self._connect(route), protocol_factory)
        # First of all: between the proxy's answer and the handshake nothing is waited for.
        own = await self._context(route.tls, self._alpn_of(route)) if route.is_secure else None
        proxy = route.via
        its = await self._context(proxy.tls, PROXY_ALPN) if proxy is not None and proxy.scheme == "https" else None
        targets = await self._targets(route)
        while True:
            target = targets.pop(0)
            try:
                return await self._dial(route, target, own, its, protocol_factory)
            except UnreachableError:
                if not targets:
                    raise

    def dial_at_once(
        self, route: Route, adopt: Callable[[socket.socket, ProtocolT], None], protocol_factory: Callable[[], ProtocolT]
    ) -> ProtocolT | None:
        """Connect to a server on this machine, for which the kernel need not be waited for; None where it must be.

        Over the loopback a connection stands when connect(2) comes back, even if the socket does not block, where it
        says EINPROGRESS all the same; a second call knows. None also when it fails: :meth:`dial` will say why.

        Args:
            route: without TLS and proxy.
            adopt: puts a protocol on a connected socket, at once.
            protocol_factory: makes the protocol.
        """
        found = self._names.at_hand(route.host) if route.unix is None else None
        if found is None or not (found[1] == "::1" or found[1].startswith("127.")):  # loopback (RFC 6890)
            return None
        kind, address, rest = found
        where = (address, route.port, *rest)
        try:
            sock = self._make_socket(kind)
            try:
                if not sock.connect_ex(where) or not sock.connect_ex(where):
                    protocol = protocol_factory()
                    adopt(sock, protocol)
                    return protocol
            except BaseException:
                sock.close()
                raise
            sock.close()
        except OSError:
            pass
        return None

    async def _targets(self, route: Route) -> list[tuple[str, int]]:
        """What to ask a proxy for, in turn: the addresses of the host where it leaves resolving to us."""
        proxy = route.via
        if proxy is None or proxy.resolves:
            return [(route.host, route.port)]
        addresses = await self._names.resolve(route.host, route.port)
        return [(address[0], address[1]) for _, address in addresses]

    async def _dial(
        self,
        route: Route,
        target: tuple[str, int],
        own: ssl.SSLContext | None,
        its: ssl.SSLContext | None,
        protocol_factory: Callable[[], ProtocolT],
    ) -> tuple[asyncio.Transport, ProtocolT]:
        proxy = route.via
        sock = await self._connect(route)
        if own is None and its is None and not route.has_tunnel:  # a request that an HTTP proxy forwards
            return await _adopt(sock, protocol_factory)
        raw, dialogue = await _adopt(sock, Dialogue)
        try:
            transport = raw
            if its is not None and proxy is not None:
                transport, dialogue = await _secure(
                    transport, dialogue, its, proxy.host, f"the proxy {proxy}", PROXY_ALPN
                )
            if route.has_tunnel and proxy is not None:
                await open_tunnel(proxy, transport, dialogue, target)
            if own is not None:
                name = route.server_hostname or route.host
                transport, dialogue = await _secure(transport, dialogue, own, name, str(route), self._alpn_of(route))
            if dialogue.is_over or transport.is_closing():
                raise ConnectError(f"{route} closed the connection at once") from dialogue.error
            return transport, hand_over(transport, dialogue, protocol_factory())
        except BaseException:
            raw.abort()  # the lowest: those above end with it
            raise

    def _alpn_of(self, route: Route) -> tuple[str, ...]:
        return self._alpn if route.alpn is None else route.alpn

    async def _context(self, setting: tls.Verify, alpn: tuple[str, ...]) -> ssl.SSLContext:
        if isinstance(setting, ssl.SSLContext):
            return setting
        if isinstance(setting, str | os.PathLike):
            key = os.fspath(setting), alpn
            if key not in self._contexts:
                try:
                    self._contexts[key] = await tls.context_for(setting, alpn=alpn)
                except OSError as error:
                    raise TLSError(f"the authorities in {key[0]!r} cannot be used: {error}") from error
            return self._contexts[key]
        return await (tls.unverified_context(alpn) if setting is False else tls.default_context(alpn))

    # -- sockets

    async def _connect(self, route: Route) -> socket.socket:
        """A socket that is connected to the host, its proxy, or its Unix socket."""
        if route.unix is not None:
            return await self._connect_unix(route.unix)
        proxy = route.via
        host, port = (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
        family = 0 if self._local is None else socket.AF_INET6 if ":" in self._local[0] else socket.AF_INET
        addresses = await self._names.resolve(host, port, family)
        failures: list[tuple[Address, OSError]] = []
        try:
            if len(addresses) == 1:
                sock = await self._attempt(addresses[0], failures)
            else:
                sock = await self._race(addresses, failures)
            if sock is None:
                self._names.forget(host)  # it may have moved
                raise _connect_error(str(route) if proxy is None else f"the proxy {proxy}", failures)
            return sock
        finally:
            failures.clear()  # they hold this frame

    async def _race(
        self, addresses: Sequence[Address], failures: list[tuple[Address, OSError]]
    ) -> socket.socket | None:
        """Happy eyeballs (RFC 8305, 5): the next address is tried when one fails, or when the delay is over."""
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[socket.socket | None]] = []
        winner: asyncio.Task[socket.socket | None] | None = None
        running: set[asyncio.Task[socket.socket | None]] = set()
        ahead = list(reversed(addresses))
        try:
            while ahead or running:
                if ahead:
                    task = loop.create_task(self._attempt(ahead.pop(), failures))
                    tasks.append(task)
                    running.add(task)
                done, running = await asyncio.wait(
                    running, timeout=self._delay if ahead else None, return_when=asyncio.FIRST_COMPLETED
                )
                winner = next((task for task in tasks if task in done and task.result() is not None), None)
                if winner is not None:
                    return winner.result()
            return None
        finally:
            for task in tasks:
                if task is not winner:
                    task.add_done_callback(_close_result)
                    task.cancel()

    def _make_socket(self, family: int) -> socket.socket:
        """A socket with the options that were asked for, bound where it should be."""
        sock = socket.socket(family, NONBLOCKING_STREAM)
        try:
            for option in self._options:
                sock.setsockopt(*option)
            if self._local is not None:
                if not self._local[1]:
                    with suppress(OSError):
                        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind(self._local)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _attempt(self, address: Address, failures: list[tuple[Address, OSError]]) -> socket.socket | None:
        """Connect to one address; None when that fails, which is noted in *failures*."""
        try:
            sock = self._make_socket(address[0])
            try:
                await asyncio.get_running_loop().sock_connect(sock, address[1])
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            failures.append((address, error))
            return None
        return sock

    async def _connect_unix(self, path: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, NONBLOCKING_STREAM)
        pause = FIRST_RETRY
        try:
            while True:
                try:
                    sock.connect(path)
                    return sock
                except BlockingIOError:  # the backlog is full, and nothing is under way (connect(2))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LAST_RETRY)
        except OSError as error:
            sock.close()
            raise _with_errno(ConnectError(f"cannot connect to {path}: {_text(error)}"), error) from error
        except BaseException:
            sock.close()
            raise


async def _adopt(sock: socket.socket, protocol_factory: Callable[[], ProtocolT]) -> tuple[asyncio.Transport, ProtocolT]:
    """Put a transport and a protocol on a connected socket."""
    try:
        # Made here and not by the loop: some loops leave the socket open when the factory fails.
        protocol = protocol_factory()
        return await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
    except asyncio.CancelledError:
        raise  # the transport is there, and the loop has closed it
    except BaseException:
        sock.close()
        raise


async def _secure(
    transport: asyncio.Transport,
    dialogue: Dialogue,
    context: ssl.SSLContext,
    host: str,
    peer: str,
    alpn: Sequence[str],
) -> tuple[asyncio.Transport, Dialogue]:
    """TLS on top of a transport on which nothing has come yet."""
    if dialogue.data:
        raise TLSError(f"{peer} does not speak TLS on this port: it began with {bytes(dialogue.data[:40])!r}")
    if dialogue.is_over or transport.is_closing():
        raise TLSError(f"{peer} closed the connection before the TLS handshake") from dialogue.error
    inside = Dialogue()
    return await tls.handshake(transport, inside, context, host=host, peer=peer, alpn=alpn), inside


def _close_result(task: asyncio.Task[socket.socket | None]) -> None:
    """Close the socket of an attempt that nobody needs any more."""
    if not task.cancelled() and task.exception() is None:
        sock = task.result()
        if sock is not None:
            sock.close()


# -- errors


def _connect_error(peer: str, failures: Sequence[tuple[Address, OSError]]) -> ConnectError:
    """The one error that says why none of the addresses could be connected to."""
    reasons = [f"{_host_port(*address[1][:2])}: {_text(error)}" for address, error in failures]
    error = ConnectError(f"cannot connect to {peer} ({'; '.join(reasons)})")
    errors = [error for _, error in failures]
    error.__cause__ = errors[0] if len(errors) == 1 else ExceptionGroup("every address failed", errors)
    return _with_errno(error, errors[0])


def _with_errno(error: ConnectError, cause: OSError) -> ConnectError:
    error.errno = cause.errno
    if cause.errno in (errno.EMFILE, errno.ENFILE):
        error.add_note("Each connection is an open file: lower `Limits.total`, or raise the limit (`ulimit -n`).")
    return error


def _text(error: OSError) -> str:
    """What is wrong, in the system's words: asyncio puts others in their place."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
