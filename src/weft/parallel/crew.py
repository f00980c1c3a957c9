"""One worker process, seen from its parent: started, spoken to, ended.

Owns the process, the socket and the shared memory. Invariant: a ``Worker`` tells of its end once, when it is dead,
waited for, and all that it had sent has been heard; then nothing of it is left. Used by ``processes`` and ``offload``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from weft.parallel.board import Board
from weft.parallel.jobs import Job
from weft.parallel.pace import Pace
from weft.parallel.shipping import Parcel, dumps, main_source
from weft.parallel.wire import Frame, Kind, Wire

__all__ = ["Worker", "end_all"]

# Not from the directory it is started in, where anything may have weft's or Python's names; the parent's own path comes
# with the set-up. Ctrl-C goes to the whole group of processes, and it is the parent who decides what it means.
PROGRAM = """\
import signal, sys
signal.signal(signal.SIGINT, lambda number, frame: None)
sys.path.append({!r})
from weft.parallel.worker import main
main()
"""
SOURCE = str(Path(__file__).parents[2])

DRAIN = 1.0  # seconds in which what a dead worker has sent is read
GRACE = 5.0  # seconds in which a worker that was told to end may leave its function's context


def setup_of(parcel: Parcel, concurrency: int) -> bytes:
    """What a worker is told first."""
    return dumps(
        {
            "path": sys.path,
            "argv": sys.argv,
            "main": main_source(),
            "by_value": parcel.by_value,
            "function": parcel.payload,
            "concurrency": concurrency,
        },
        by_value=False,
    )


class Worker(asyncio.SubprocessProtocol):
    """A worker process.

    Args:
        setup: what it is told first.
        concurrency: how many jobs it may have under way.
        on_frame: called with each frame but READY.
        on_change: called when it can take more.
        on_end: called when it is dead.

    Attributes:
        jobs: those it holds, by index.
        ready: whether it takes jobs.
        lived: whether it ever did.
        pace: how fast it is.
        dead: done when it has ended.
        killed: whether it was us.
    """

    def __init__(
        self,
        setup: bytes,
        concurrency: int,
        on_frame: Callable[[Worker, Frame], None],
        on_change: Callable[[], None],
        on_end: Callable[[Worker], None],
    ) -> None:
        self.jobs: dict[int, Job] = {}
        self.ready = self.lived = False
        self.pace = Pace()
        self.dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.killed = False
        self.wire = Wire(self._on_frame, self._on_silence, on_change)
        self._setup = setup
        self._concurrency = concurrency
        self._tell_frame = on_frame
        self._tell_change = on_change
        self._tell_end = on_end
        self._process: asyncio.SubprocessTransport | None = None
        self._begun = self._exited = self._silent = False
        self._board: Board | None = None

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return self._process.get_pid() if self._process is not None else None

    @property
    def fate(self) -> str:
        """How it ended, in words."""
        status = self._process.get_returncode() if self._process is not None else None
        if status is None or status >= 0:
            return f"with exit status {status}"
        with suppress(ValueError):
            return f"of {signal.Signals(-status).name}"
        return f"of signal {-status}"

    def started(self) -> set[int]:
        """The indices of the jobs that are under way, or were when it died."""
        return self._board.started() if self._board is not None else set()

    async def start(self) -> None:
        """Starts the process; it says READY later.

        Raises:
            OSError: there are no descriptors or processes left.
        """
        if self.killed:
            return
        self._begun = True
        loop = asyncio.get_running_loop()
        ours: socket.socket | None = None
        try:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            with theirs:
                await self._spawn(theirs)
            await loop.create_unix_connection(lambda: self.wire, sock=ours)
        except BaseException:
            if ours is not None:
                ours.close()
            self._silent = True
            self.kill()
            self._check_dead()
            raise
        self.wire.send(Kind.SETUP, self._setup)

    async def _spawn(self, theirs: socket.socket) -> None:
        self._board, board = Board.new(self._concurrency)
        try:
            numbers = [theirs.fileno(), board]
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
            command = [sys.executable, *flags, "-P", "-c", PROGRAM.format(SOURCE)]
            self._process, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *command,
                *map(str, (*numbers, os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                pass_fds=numbers,
            )
        finally:
            os.close(board)

    def send(self, kind: Kind, payload: bytes, jobs: Iterable[Job]) -> None:
        """Sends jobs, and holds them until they are reported."""
        indices = []
        for job in jobs:
            self.jobs[job.index] = job
            indices.append(job.index)
        self.wire.send(kind, payload, indices)

    def release(self) -> None:
        """Lets it end by itself."""
        self.wire.close()

    def kill(self) -> None:
        """Ends it now."""
        self.killed = True
        if self._process is not None and not self._exited:
            with suppress(ProcessLookupError):
                self._process.kill()
        self.wire.close()
        if not self._begun:
            self._silent = True
            self._check_dead()

    # -- what happens to it

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == Kind.READY:
            self.ready = self.lived = True
            self._tell_change()
        else:
            self._tell_frame(self, frame)

    def _on_silence(self) -> None:
        self._silent = True
        self.ready = False
        self._check_dead()

    def process_exited(self) -> None:
        self._exited = True
        if not self._silent:  # what it had sent is on its way, and then the end; unless a child of its holds the socket
            asyncio.get_running_loop().call_later(DRAIN, self.wire.close)
        self._check_dead()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing: the process is what counts."""

    def _check_dead(self) -> None:
        never_lived = self._process is None
        if self.dead.done() or not self._silent or not (self._exited or never_lived):
            return
        self.ready = False
        self.dead.set_result(None)
        try:
            self._tell_end(self)
        finally:
            if self._process is not None:
                self._process.close()
            if self._board is not None:
                self._board.close()
                self._board = None


async def end_all(workers: Iterable[Worker], grace: float) -> None:
    """Waits until they are dead; kills those that are not after so many seconds, and when cancelled."""
    living = [worker for worker in workers if not worker.dead.done()]
    try:
        if living and grace:
            await asyncio.wait([worker.dead for worker in living], timeout=grace)
    finally:
        for worker in living:
            if not worker.dead.done():
                worker.kill()
    if living:
        await asyncio.wait([worker.dead for worker in living])


def usable(worker: Any) -> bool:
    """Whether it takes jobs now."""
    return bool(worker.ready and not worker.wire.paused)
