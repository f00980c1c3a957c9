"""The event loop: asyncio's API by topic, over the compiled scheduler.

One mixin per topic, ordinary Python: what stands here runs per connection or per loop. The order of the bases is the
order in which ``__init__`` and ``_release`` run from mixin to mixin; the compiled scheduler comes last in both.

What a program that only runs tasks never needs (transports, servers, processes, thread pools) is imported where it is
first used: docs/decisions/0013-what-a-start-costs.md.
"""

from __future__ import annotations

import asyncio
from types import EllipsisType

from weft._core.driver import Driver
from weft._core.sockets import SocketCalls
from weft._core.stepper import TaskScheduler
from weft._core.task import Tasks
from weft._core.watchdog import default_threshold
from weft._core.watcher import Watches
from weft.loop.connections import Connections
from weft.loop.datagrams import Datagrams
from weft.loop.executors import Executors
from weft.loop.files import Files
from weft.loop.lifecycle import Lifecycle
from weft.loop.names import Names
from weft.loop.pipes import Pipes
from weft.loop.servers import Servers
from weft.loop.signals import Signals
from weft.loop.sockets import Sockets
from weft.loop.subprocesses import Subprocesses
from weft.loop.tls import Tls

__all__ = ["EventLoop"]


class EventLoop(
    Lifecycle,
    Subprocesses,
    Signals,
    Servers,
    Connections,
    Datagrams,
    Pipes,
    Files,
    Tls,
    Sockets,
    Names,
    Executors,
    SocketCalls,
    Tasks,
    Watches,
    TaskScheduler,
    asyncio.AbstractEventLoop,
):
    """A drop-in event loop: everything that :class:`asyncio.AbstractEventLoop` documents, on Linux.

    Args:
        driver: what moves bytes and tells the time; epoll and the system's clock by default.
        stall_threshold: how long a callback may block the loop, in seconds, before ``weft.watch`` reports it; None
            turns the watch off. By default ``WEFT_STALL_THRESHOLD`` in the environment (``off`` for None), or 0.1.

    Raises:
        OSError: the process has no two file descriptors left.
        ValueError: ``stall_threshold``, or what the environment says in its place, is not above 0.
    """

    def __init__(self, *, driver: Driver | None = None, stall_threshold: float | EllipsisType | None = ...) -> None:
        seconds = default_threshold() if isinstance(stall_threshold, EllipsisType) else stall_threshold
        self.stall_threshold = seconds
        self._start_with(driver)
        super().__init__()
