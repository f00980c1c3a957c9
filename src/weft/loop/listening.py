"""Where the sockets of servers come from: bound here, or from who holds them for several processes.

Owns one slot, ``source``. Invariant: without a source a socket is this process's own; with one it is shared, and what
belongs to the address (the path of a Unix socket) is the source's to remove.
Filled by ``weft.serving`` in a worker; asked by ``servers`` and ``server``.
"""

from __future__ import annotations

import errno
import os
import socket
from asyncio.log import logger
from typing import Any, Protocol, TypeAlias

from weft.loop import addresses

__all__ = ["FamilyError", "Identity", "Source", "bind", "bind_unix", "identify", "remove", "source"]

Identity: TypeAlias = tuple[str | bytes, tuple[int, int]]
"""The path of a Unix socket, and device and inode of what stood there when it was bound."""


class Source(Protocol):
    """Who holds listening sockets for several processes."""

    def bind(self, family: int, address: Any, reuse_address: bool) -> socket.socket:
        """A stream socket that is bound to ``address``, with ``SO_REUSEADDR`` or without.

        Raises:
            OSError: it cannot be.
        """

    def serving(self) -> None:
        """A server of this process has begun to accept."""


source: Source | None = None


class FamilyError(Exception):
    """The machine has no such family of addresses; ``reason`` is what it said."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def bind(
    family: int, address: Any, reuse_address: bool, reuse_port: bool, type_: int = socket.SOCK_STREAM, proto: int = 0
) -> socket.socket:
    """A socket of this process's own, bound to an internet address.

    Raises:
        FamilyError: there is no such family.
        OSError: the address cannot be bound.
    """
    try:
        sock = socket.socket(family, type_, proto)
    except OSError as error:
        raise FamilyError(error) from None
    try:
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and family in addresses.INTERNET:
            addresses.set_reuse_port(sock)
        if family == socket.AF_INET6:
            # Otherwise "all interfaces" of IPv6 takes the IPv4 port too, which has a socket of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(path: str | bytes) -> socket.socket:
    """A Unix socket of this process's own at *path*; one that a dead server left there is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if addresses.is_filesystem_path(path):
            addresses.remove_stale_socket(path)
        sock.bind(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    return sock


def identify(sock: socket.socket) -> Identity | None:
    """Return the path that *sock* is bound to, and device and inode of what stands there; None when it has none."""
    path = sock.getsockname()
    if not addresses.is_filesystem_path(path):
        return None
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return path, (status.st_dev, status.st_ino)


def remove(identity: Identity) -> None:
    """Remove the path of a Unix socket, if what stands there is still that socket."""
    path, known = identity
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) == known:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
