"""What the tests of child processes share: three kinds of loops, a recording protocol, and a few commands."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

import weft

NewLoop = Callable[[], asyncio.AbstractEventLoop]
T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

CAT = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"]
BLOCKED = ["sleep", "3600"]


@pytest.fixture(params=["asyncio", "weft", "weft without pidfds"])
def new_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NewLoop:
    """Makes a new event loop: stock asyncio, weft, and weft on a kernel that has no pidfds."""
    if request.param == "asyncio":
        return asyncio.SelectorEventLoop
    if request.param == "weft without pidfds":

        def refuse(pid: int, flags: int = 0) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return weft.new_event_loop


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ended_unnoticed(command: str) -> tuple[Any, Recorder]:
    """A child that has run ``command`` and ended, which its loop has had no chance to notice.

    Up to 1 MiB of output stays in the pipe.
    """
    loop = asyncio.get_running_loop()
    transport, recorder = await loop.subprocess_shell(Recorder, f"read line; {command}")
    stdin, stdout = (getattr(transport.get_extra_info("subprocess"), name).fileno() for name in ("stdin", "stdout"))
    fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(stdin, b"\n")
    os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
    return transport, recorder


class Recorder(asyncio.SubprocessProtocol):
    """Notes what it hears; ``over`` is done after ``connection_lost``."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data = {1: b"", 2: b""}
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if ("data", fd) not in self.events:
            self.events.append(("data", fd))
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.events.append(("lost", fd, exc))

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("over", exc))
        self.over.set_result(None)
