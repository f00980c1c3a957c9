"""``loop.sock_*``: one operation on a socket that the caller owns.

Invariant: the system call is tried first, and only ``EAGAIN`` makes a future and a watch. A watch fires once and is
gone before its waiter runs; the call is then tried again *in the caller's own coroutine*, so a cancelled operation has
taken no byte, datagram or connection with it, and leaves no watch behind.
Called by programs, by ``connections``, ``datagrams`` and ``files``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from weft.loop._host import Host
from weft.loop.addresses import INTERNET, TLS_SOCKETS, check_not_tls, resolve

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

FIRST_RETRY = 0.001
LAST_RETRY = 0.05
"""Seconds between two tries to connect to a Unix socket whose backlog is full: the kernel gives no event for it."""


class Sockets(Host):
    """The ``sock_*`` methods, and what the other mixins need to wait for a socket."""

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        """Receive up to *nbytes* bytes; ``b""`` means that the peer has closed its side (recv(2)).

        Raises:
            TypeError: *sock* is an ``ssl.SSLSocket``.
            ValueError: *sock* blocks (checked in debug mode).
            RuntimeError: a transport of this loop owns the socket.
            OSError: the call failed.
        """
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        while True:
            try:
                return sock.recv(nbytes)
            except BlockingIOError:
                pass
            await self._until_readable(sock.fileno())

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receive into *buf* as many bytes as fit; returns how many came. Raises as ``sock_recv``."""
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        while True:
            try:
                return sock.recv_into(buf)
            except BlockingIOError:
                pass
            await self._until_readable(sock.fileno())

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive one datagram; returns it, cut to *bufsize* bytes, and its sender (recvfrom(2)).

        Raises as ``sock_recv``.
        """
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        while True:
            try:
                return sock.recvfrom(bufsize)
            except BlockingIOError:
                pass
            await self._until_readable(sock.fileno())

    async def sock_recvfrom_into(self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0) -> tuple[int, Any]:
        """Receive one datagram into *buf*, at most *nbytes* bytes of it (0: as many as fit); returns length and sender.

        Raises as ``sock_recv``.
        """
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        while True:
            try:
                return sock.recvfrom_into(buf, nbytes)
            except BlockingIOError:
                pass
            await self._until_readable(sock.fileno())

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Send all of *data* to the connected peer (send(2)). Raises as ``sock_recv``.

        After an error or a cancellation nobody can tell how much of *data* has gone.
        """
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        if type(data) is bytes and sent == len(data):
            return
        view = memoryview(data).cast("B")  # lengths in bytes, whatever the items are
        while sent < len(view):
            await self._until_writable(sock.fileno())
            with suppress(BlockingIOError):
                sent += sock.send(view[sent:])

    async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: Any) -> int:
        """Send one datagram to *address*; returns the bytes sent (sendto(2)). Raises as ``sock_recv``."""
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        while True:
            try:
                return sock.sendto(data, address)
            except BlockingIOError:
                pass
            await self._until_writable(sock.fileno())

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept one connection; returns the new socket, which does not block, and the peer's address (accept(2)).

        Raises as ``sock_recv``.
        """
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        while True:
            try:
                conn, address = sock.accept()
            except BlockingIOError:
                pass
            else:
                conn.setblocking(False)
                return conn, address
            await self._until_readable(sock.fileno())

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect *sock* to *address*; a host name in the address of an internet socket is resolved (connect(2)).

        Raises as ``sock_recv``, and ``socket.gaierror`` for a name that cannot be resolved.
        """
        if isinstance(sock, TLS_SOCKETS) or self.get_debug():
            self._check_socket(sock)
        if sock.family in INTERNET:
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
        await self._until_writable(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"Connect call failed {address}")

    # What waits

    async def _until_readable(self, fd: int) -> None:
        self._check_fd_free(fd)
        waiter = self.create_future()
        handle = self._watch_reader(fd, self._on_readable, fd, waiter)
        try:
            await waiter
        except BaseException:
            if not handle.cancelled():  # else somebody else's watch has taken the place of ours
                self._unwatch_reader(fd)
            raise

    def _on_readable(self, fd: int, waiter: asyncio.Future[None]) -> None:
        self._unwatch_reader(fd)
        if not waiter.done():
            waiter.set_result(None)

    async def _until_writable(self, fd: int) -> None:
        self._check_fd_free(fd)
        waiter = self.create_future()
        handle = self._watch_writer(fd, self._on_writable, fd, waiter)
        try:
            await waiter
        except BaseException:
            if not handle.cancelled():
                self._unwatch_writer(fd)
            raise

    def _on_writable(self, fd: int, waiter: asyncio.Future[None]) -> None:
        self._unwatch_writer(fd)
        if not waiter.done():
            waiter.set_result(None)

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
