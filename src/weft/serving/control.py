"""What a worker and its supervisor say to each other, over a pair of Unix sockets.

One message is one packet (``SOCK_SEQPACKET``): a JSON object, maybe with a descriptor (unix(7), ``SCM_RIGHTS``). The
invariant: a descriptor that has come belongs to whoever received the message.
A worker says ``{"bind": ...}`` and gets an answer, or ``{"serving": true}`` and gets none.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

__all__ = ["VARIABLE", "Wish", "pair", "receive", "send"]

VARIABLE = "WEFT_WORKER"
"""The variable that makes a process a worker: ``descriptor:number:count``."""

LARGEST = 64 * 1024
"""Bytes of the longest message: an address, or the text of an error."""


@dataclass(frozen=True)
class Wish:
    """A listening socket that a worker wants.

    Attributes:
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        address: as ``socket.bind`` takes it; a path as text.
        reuse_address: whether to set ``SO_REUSEADDR``.
        turn: the how manieth of its address it is in its worker, where the kernel chooses the port; else 0.
    """

    family: int
    address: Any
    reuse_address: bool = True
    turn: int = 0

    def encode(self) -> dict[str, Any]:
        return {"bind": [self.family, self.address, self.reuse_address, self.turn]}

    @classmethod
    def decode(cls, message: dict[str, Any]) -> Wish:
        family, address, reuse_address, turn = message["bind"]
        return cls(family, tuple(address) if isinstance(address, list) else address, reuse_address, turn)


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, message: dict[str, Any], passed: socket.socket | None = None) -> None:
    """Send ``message``, with a descriptor of ``passed``.

    Raises:
        OSError: the other end is gone, or takes nothing now.
    """
    data = json.dumps(message).encode("utf-8", "surrogatepass")
    if passed is None:
        sock.send(data, socket.MSG_NOSIGNAL)
    else:
        socket.send_fds(sock, [data], [passed.fileno()], socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, int | None]:
    """The next message, None at the end, and the descriptor that came with it.

    Raises:
        OSError: nothing has come, of a socket that does not block; or the other end has crashed.
    """
    data, descriptors, _, _ = socket.recv_fds(sock, LARGEST, 1)
    if not data:
        return None, None
    message: dict[str, Any] = json.loads(data.decode("utf-8", "surrogatepass"))
    return message, descriptors[0] if descriptors else None
