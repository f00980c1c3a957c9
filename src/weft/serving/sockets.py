"""The listening sockets that the supervisor holds.

Invariant: a socket of an internet address belongs to one place, is bound to the same port as those of the other places
(``SO_REUSEPORT``), and outlives the workers of that place; a Unix socket belongs to all. The supervisor never accepts.
"""

from __future__ import annotations

import os
import socket
from typing import Any, TypeAlias

from weft.loop import addresses, listening
from weft.serving.control import Wish

__all__ = ["Sockets"]

Key: TypeAlias = tuple[Any, ...]


class Sockets:
    """What all places listen on."""

    def __init__(self) -> None:
        self._internet: dict[int, dict[Key, socket.socket]] = {}  # by place
        self._ports: dict[Key, int] = {}  # that the kernel has chosen, for the first who asked
        self._unix: dict[str, tuple[socket.socket, listening.Identity | None]] = {}

    def give(self, place: int, wish: Wish) -> socket.socket:
        """The socket for a wish, which stays this object's: the worker gets a descriptor of its own.

        Raises:
            OSError: it cannot be bound.
        """
        if wish.family == socket.AF_UNIX:
            return self._unix_socket(wish.address)
        held = self._internet.setdefault(place, {})
        key = (wish.family, wish.address, wish.turn)
        if key not in held:
            held[key] = self._internet_socket(key, wish)
        return held[key]

    def _internet_socket(self, key: Key, wish: Wish) -> socket.socket:
        host, port, *rest = wish.address
        port = port or self._ports.get(key, 0)
        try:
            sock = listening.bind(wish.family, (host, port, *rest), wish.reuse_address, True)
        except listening.FamilyError as error:
            # To the worker it is one address of several that cannot be had.
            raise OSError(addresses.UNAVAILABLE, str(error)) from None
        sock.setblocking(False)
        self._ports[key] = sock.getsockname()[1]
        return sock

    def _unix_socket(self, path: str) -> socket.socket:
        if path not in self._unix:
            sock = listening.bind_unix(path if path.startswith("\0") else os.path.abspath(path))
            sock.setblocking(False)
            self._unix[path] = sock, listening.identify(sock)
        return self._unix[path][0]

    def close_place(self, place: int) -> None:
        """Nobody will accept there: the kernel is to give new connections to the other places."""
        for sock in self._internet.pop(place, {}).values():
            sock.close()

    def close(self) -> None:
        """Close all, and remove the paths of Unix sockets."""
        for place in list(self._internet):
            self.close_place(place)
        for sock, identity in self._unix.values():
            sock.close()
            if identity is not None:
                listening.remove(identity)
        self._unix.clear()
