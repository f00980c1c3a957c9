"""The worker's side: being one, and getting listening sockets from the supervisor.

Invariant: a process joins at most once, and takes the variable that says so out of its environment, so that processes
it starts are no workers. From then on ``loop.create_server`` and ``create_unix_server`` ask here for their sockets.
Called by ``weft.serving`` and ``weft run``.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from weft.loop import listening
from weft.parents import end_with_parent
from weft.serving.control import VARIABLE, Wish, receive, send

__all__ = ["Membership", "Place", "join"]

ANSWER_TIMEOUT = 30.0
"""Seconds that the supervisor, which does little else, has for an answer."""


@dataclass(frozen=True)
class Place:
    """Where a worker stands among its like.

    Attributes:
        number: from 0 on. It stays the same when the worker is replaced.
        count: how many places there are.
    """

    number: int
    count: int


class Membership(listening.Source):
    """That this process is a worker: its place, and its end of the line to the supervisor."""

    def __init__(self, control: socket.socket, place: Place) -> None:
        self.place = place
        self._control = control
        self._turns: Counter[Any] = Counter()
        self._lock = threading.Lock()  # a program may have loops in several threads

    def bind(self, family: int, address: Any, reuse_address: bool) -> socket.socket:
        """A listening socket at ``address``, the one of this place.

        Raises:
            OSError: it cannot be bound, for the reason that the supervisor was given; or the supervisor is gone.
        """
        if isinstance(address, bytes):
            address = os.fsdecode(address)
        with self._lock:
            turn = 0
            if family != socket.AF_UNIX and not address[1]:
                turn = self._turns[family, address]
                self._turns[family, address] += 1
            send(self._control, Wish(family, address, reuse_address, turn).encode())
            answer, descriptor = receive(self._control)
        if answer is None:
            raise ConnectionResetError("the supervisor of this worker is gone, and with it the sockets that it holds")
        if descriptor is None:
            raise OSError(answer["errno"], answer["error"])
        return socket.socket(fileno=descriptor)

    def serving(self) -> None:
        """A server has begun to accept."""
        with suppress(OSError):  # the supervisor is gone: its last signal is on the way
            send(self._control, {"serving": True})


_membership: Membership | None = None


def join() -> Membership | None:
    """What this process is in, if its environment says that it is a worker."""
    global _membership
    told = os.environ.pop(VARIABLE, None)
    if told is not None:
        descriptor, number, count = map(int, told.split(":"))
        control = socket.socket(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        _membership = Membership(control, Place(number, count))
        listening.source = _membership
        _end_with(os.getppid(), control)
        control.settimeout(ANSWER_TIMEOUT)
    return _membership


def _end_with(parent: int, control: socket.socket) -> None:
    """Have the kernel send SIGTERM when the supervisor ends, however it does."""
    if not end_with_parent(parent, signal.SIGTERM) or _is_over(control):
        raise SystemExit(128 + signal.SIGTERM)


def _is_over(control: socket.socket) -> bool:
    control.setblocking(False)
    try:
        return not control.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
