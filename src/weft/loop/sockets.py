"""``loop.sock_connect``, and which sockets ``loop.sock_*`` refuse; those that run per packet are in ``_core/sockets``.

Called by programs, by ``connections``, ``datagrams`` and ``files``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from weft.loop._host import Host
from weft.loop.addresses import INTERNET, check_not_tls, is_ipv4, resolve

FIRST_RETRY = 0.001
LAST_RETRY = 0.05
"""Seconds between two tries to connect to a Unix socket whose backlog is full: the kernel gives no event for it."""


class Sockets(Host):
    """Connecting sockets, and refusing some."""

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect *sock* to *address*; a host name in the address of an internet socket is resolved (connect(2)).

        Raises as ``sock_recv``, and ``socket.gaierror`` for a name that cannot be resolved.
        """
        self._check_socket(sock)
        if sock.family in INTERNET and not is_ipv4(sock.family, address):
            infos = await resolve(self, address, family=sock.family, type=sock.type, proto=sock.proto)
            address = infos[0][4]
        await self._connect_socket(sock, address)

    async def _connect_socket(self, sock: socket.socket, address: Any) -> None:
        """Connect to an address that needs no resolving."""
        pause = FIRST_RETRY
        while True:
            try:
                sock.connect(address)
                return
            except BlockingIOError as error:
                if error.errno == errno.EINPROGRESS:
                    break
                if sock.family != socket.AF_UNIX:
                    raise
                # EAGAIN: the listener's backlog is full, and nothing is under way (connect(2)).
            except InterruptedError:
                break  # The connection goes on being made behind our back.
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)
        await self._until_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"Connect call failed {address}")

    # What refuses

    def _check_socket(self, sock: socket.socket) -> None:
        check_not_tls(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    def _check_fd_free(self, fd: int) -> None:
        """Refuse an fd that an open transport reads and writes: both would steal each other's bytes."""
        transport = self._transport_of(fd)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd} is used by transport {transport!r}")
