"""What the tests of the core share: a loop on the virtual clock, a list of reported errors, programs of their own process.

Invariant: nothing here knows weft's private parts, so every test that uses it looks at behaviour from outside.
"""  # noqa: E501

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import weft

NewLoop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
Context: TypeAlias = dict[str, Any]

SOURCES = Path(weft.__file__).parent.parent
SCRIPT_LIMIT = 90.0  # Seconds that a program of its own process may take; the slowest needs five on an idle machine.


def virtual_driver() -> Any:
    """A driver whose clock jumps to the next timer instead of waiting for it."""
    return importlib.import_module("weft._core.virtual").VirtualDriver()


@contextmanager
def virtual_loop() -> Iterator[weft.EventLoop]:
    """A weft loop on the virtual clock, closed at the end."""
    loop = weft.EventLoop(driver=virtual_driver())
    try:
        yield loop
    finally:
        loop.close()


def reports_of(loop: asyncio.AbstractEventLoop) -> list[Context]:
    """From now on, what ``loop`` reports goes to this list and not to the log."""
    reports: list[Context] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


def turns(loop: asyncio.AbstractEventLoop, count: int = 1) -> None:
    """Let ``loop`` turn ``count`` times: each time, what is ready now runs."""
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


@contextmanager
def socketpair(send_buffer: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets that do not block; whoever takes one over may close it."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


def run_script(source: str, *args: object, flags: tuple[str, ...] = (), env: dict[str, str] | None = None) -> str:
    """Run a program in a process of its own and return what it printed; a crash, or another failure, fails the test."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *flags, "-c", textwrap.dedent(source), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=SCRIPT_LIMIT,
        env={**os.environ, "PYTHONPATH": str(SOURCES), **(env or {})},
        check=False,
    )
    # Negative: killed by a signal. The C stack of a segmentation fault follows in stderr.
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def describe_error(error: BaseException | None) -> Any:
    """An exception as plain data that compares: class, arguments, cause, context."""
    if error is None:
        return None
    return (
        type(error).__name__,
        tuple(map(str, error.args)),
        describe_error(error.__cause__),
        describe_error(error.__context__),
        error.__suppress_context__,
    )
