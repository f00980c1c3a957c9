"""``create_datagram_endpoint``: UDP and Unix datagram sockets.

Invariant: a socket made here ends in the transport that is returned, or is closed.
Called by programs.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.log import logger
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from weft.loop import addresses
from weft.loop._host import Host
from weft.versions import DATAGRAM_SOCKET_EXPECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Address: TypeAlias = tuple[str | None, int] | str

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
Candidate: TypeAlias = tuple[int, int, Any, Any]
"""Family, protocol, local address or None, remote address or None."""


class Datagrams(Host):
    """Datagram endpoints."""

    async def create_datagram_endpoint(  # type: ignore[override]  # the factory's own protocol type comes back
        self,
        protocol_factory: Callable[[], ProtocolT],
        local_addr: Address | None = None,
        remote_addr: Address | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, ProtocolT]:
        """Open a datagram endpoint.

        Args:
            protocol_factory: makes the protocol, without arguments.
            local_addr: ``(host, port)``, or a path for ``AF_UNIX``, to bind to.
            remote_addr: the one peer to talk to. With *allow_broadcast* the socket is not connected to it, since a
                broadcast is answered from other addresses.
            family: address family; needed when there is no address.
            proto: as for ``getaddrinfo``, like *flags*.
            flags: see *proto*.
            reuse_port: let several sockets share the port (``SO_REUSEPORT``).
            allow_broadcast: allow to send to a broadcast address (``SO_BROADCAST``).
            sock: a datagram socket to use, instead of all the above.

        Raises:
            ValueError: arguments that exclude each other, or addresses that have no family in common.
            TypeError: an address of the wrong form.
            OSError: no socket could be bound and connected.
        """
        remote: Any = None
        if sock is None:
            candidates = await self._candidates(local_addr, remote_addr, family, proto, flags)
            made, remote = await self._first_bound(candidates, reuse_port, allow_broadcast)
        else:
            modifiers = {
                "local_addr": local_addr,
                "remote_addr": remote_addr,
                "family": family,
                "proto": proto,
                "flags": flags,
                "reuse_port": reuse_port,
                "allow_broadcast": allow_broadcast,
            }
            _check_given(sock, modifiers)
            sock.setblocking(False)
            made = sock
        try:
            self._check_fd_free(made.fileno())
            protocol = protocol_factory()
            waiter = self.create_future()
            from weft._core.datagram import DatagramTransport  # here: see the note in weft.loop

            transport = DatagramTransport(self, made, protocol, remote, waiter)
        except BaseException:
            if sock is None:
                made.close()
            raise
        if self.get_debug():
            ends = f"local_addr={local_addr!r} remote_addr={remote_addr!r}"
            logger.debug("Datagram endpoint %s created: (%r, %r)", ends, transport, protocol)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _candidates(self, local: Any, remote: Any, family: int, proto: int, flags: int) -> Iterable[Candidate]:
        """List what may be tried, in the resolver's order."""
        if not (local or remote):
            if not family:
                raise ValueError("unexpected address family")
            return [(family, proto, None, None)]
        if family == socket.AF_UNIX:
            for address in (local, remote):
                if address is not None and not isinstance(address, str):
                    raise TypeError("string is expected")
            if local and addresses.is_filesystem_path(local):
                addresses.remove_stale_socket(local)
            return [(family, proto, local, remote)]

        found: dict[tuple[int, int], list[Any]] = {}
        for index, address in enumerate((local, remote)):
            if address is None:
                continue
            if not (isinstance(address, tuple) and len(address) == 2):
                raise TypeError("2-tuple is expected")
            infos = await addresses.resolve(
                self, address, type=socket.SOCK_DGRAM, family=family, proto=proto, flags=flags
            )
            for family_, _, proto_, _, sockaddr in infos:
                found.setdefault((family_, proto_), [None, None])[index] = sockaddr
        # Both ends must be of one kind.
        usable = [
            (*kind, *ends)
            for kind, ends in found.items()
            if not ((local and ends[0] is None) or (remote and ends[1] is None))
        ]
        if not usable:
            raise ValueError("can not get address information")
        return usable

    async def _first_bound(
        self, candidates: Iterable[Candidate], reuse_port: bool | None, allow_broadcast: bool | None
    ) -> tuple[socket.socket, Any]:
        """Make the first socket that can be bound and connected; raises the first error when there is none."""
        first: OSError | None = None
        try:
            for family, proto, local, remote in candidates:
                sock = None
                try:
                    sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
                    if reuse_port:
                        addresses.set_reuse_port(sock)
                    if allow_broadcast:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    sock.setblocking(False)
                    if local:
                        sock.bind(local)
                    if remote and not allow_broadcast:
                        await self.sock_connect(sock, remote)
                    return sock, remote
                except BaseException as error:
                    if sock is not None:
                        sock.close()
                    if not isinstance(error, OSError):
                        raise
                    first = first or error
            assert first is not None  # there is always a candidate
            raise first
        finally:
            del first  # its traceback holds this frame


def _check_given(sock: socket.socket, modifiers: dict[str, Any]) -> None:
    """Refuse a stream socket, and modifiers that a ready socket leaves no room for."""
    if sock.type == socket.SOCK_STREAM:
        raise ValueError(f"{DATAGRAM_SOCKET_EXPECTED}, got {sock!r}")
    given = ", ".join(f"{name}={value}" for name, value in modifiers.items() if value)
    if given:
        raise ValueError(f"socket modifier keyword arguments can not be used when sock is specified. ({given})")
