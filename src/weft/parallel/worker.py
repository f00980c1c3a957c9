"""The inside of a worker process, which ``crew`` starts with three arguments: two descriptors, and its parent's number.

Takes jobs from the socket, runs them on a weft loop of its own, and reports; a plain function is called between two
looks at the socket, an async one runs up to ``concurrency`` times at once. Invariant: a worker ends with its parent: by
the end of the socket, or by the kernel's signal where a function does not let it look.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from weft.errors import NotPicklableError
from weft.parallel.board import FREE, Board
from weft.parallel.jobs import Job
from weft.parallel.local import Local, is_async
from weft.parallel.shipping import dumps, install_main, portable
from weft.parallel.wire import Frame, Kind, Wire
from weft.parents import end_with_parent
from weft.runner import run

__all__ = ["Setup", "main"]

Setup = dict[str, Any]

SLICE = 0.001  # seconds after which results are sent and the socket is looked at, where items are shorter


def main() -> None:
    """Works until the parent has no more to do, or is gone."""
    connection, board, parent = map(int, sys.argv[1:])
    if not end_with_parent(parent, signal.SIGKILL):
        os._exit(0)
    for fd in (connection, board):
        os.set_inheritable(fd, False)  # what the function starts must not hold them
    memory = Board(board)
    os.close(board)
    run(_serve(socket.socket(fileno=connection), memory))


async def _serve(connection: socket.socket, board: Board) -> None:
    worker = _Worker(board)
    await asyncio.get_running_loop().create_unix_connection(lambda: worker.wire, sock=connection)
    await worker.ended
    await worker.close()


class _Worker:
    """Runs jobs, and is the ``Reports`` of the backend that runs async ones."""

    def __init__(self, board: Board) -> None:
        self._loop: Any = asyncio.get_running_loop()  # weft's
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.wire = Wire(self._on_frame, self._on_end, self._go_on)
        self._board = board
        self._jobs: deque[Job] = deque()
        self._results: list[tuple[int, bool, Any]] = []
        self._local: _Watched | None = None
        self._since: float | None = None  # when the time that the next report tells of began; None while idle
        self._timer: asyncio.Handle | None = None  # for the next look at jobs or results
        self._starting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends what is under way."""
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._local is not None:
            await self._local.close(early=True)

    # -- frames

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == Kind.SETUP:
            self._set_up(frame.payload)
            return
        try:
            items = pickle.loads(frame.payload)
        except Exception as exc:
            self._send(Kind.UNREADABLE, portable(exc, by_value=False), frame.indices)
            return
        self._jobs.extend(map(Job, frame.indices, items))
        if self._since is None:
            self._since = perf_counter()
        self._go_on()

    def _on_end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _set_up(self, payload: bytes) -> None:
        """Learns what to do. Not in a task: the parent's main module may be imported, which may do what it likes.

        Nor does it matter how long that takes: nothing else runs here yet.
        """
        threshold, self._loop.stall_threshold = self._loop.stall_threshold, None
        try:
            setup: Setup = pickle.loads(payload)
            sys.path[:], sys.argv[:] = setup["path"], setup["argv"]
            install_main(setup["main"])
            self._by_value: bool = setup["by_value"]
            self._function: Callable[[Any], Any] = pickle.loads(setup["function"])
            self._concurrency: int = setup["concurrency"]
        except BaseException as exc:
            self._send(Kind.BROKEN, portable(exc, by_value=False))
        else:
            self._starting = self._loop.create_task(self._start())
        finally:
            self._loop.stall_threshold = threshold

    async def _start(self) -> None:
        try:
            local = _Watched(self, self._board, self._function, self._concurrency)
            await local.start(lambda: None)
            self._local = local
            self._plain = not is_async(self._function)
        except Exception as exc:
            self._send(Kind.BROKEN, portable(exc, by_value=False))
        else:
            self.wire.send(Kind.READY)
            self._go_on()

    def _send(self, kind: Kind, thing: Any, indices: Sequence[int] = (), seconds: float = 0.0) -> None:
        self.wire.send(kind, dumps(thing, by_value=kind is Kind.RESULTS and self._by_value), indices, seconds)

    # -- work

    def _go_on(self) -> None:
        """Sees to it that jobs are run, unless nobody takes results now."""
        if self._local is None or self.wire.paused:
            return
        if not self._plain:
            self._start_async()
        elif self._jobs and self._timer is None:
            self._timer = self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Calls a plain function, for a slice of time."""
        self._timer = None
        # As in a thread without a loop: a plain function may call asyncio.run().
        asyncio._set_running_loop(None)
        try:
            begun = self._call_some()
        finally:
            asyncio._set_running_loop(self._loop)
        if begun is not None:
            self._turn_async(*begun)
        self._report()
        self._go_on()

    def _call_some(self) -> tuple[Job, Any] | None:
        """Calls it for some items; returns early with a result that has to be awaited."""
        function, jobs, places, results = self._function, self._jobs, self._board.places, self._results
        end = perf_counter() + SLICE
        while jobs and perf_counter() < end:
            job = jobs.popleft()
            places[0] = job.index
            try:
                value = function(job.item)
            except BaseException as exc:  # sys.exit() in it is this item's failure: others may be waiting here
                results.append((job.index, False, portable(exc, by_value=self._by_value)))
            else:
                if hasattr(value, "__await__"):
                    return job, value
                results.append((job.index, True, value))
            places[0] = FREE
        return None

    def _turn_async(self, job: Job, value: Any) -> None:
        """What the function has returned has to be awaited, so it is no plain one."""
        assert self._local is not None
        self._plain = False
        self._board.places[0] = FREE
        self.wire.send(Kind.AWAITS)
        self._local.resume(job, value)

    def _start_async(self) -> None:
        local = self._local
        assert local is not None
        while self._jobs and (room := local.room()) > 0:
            local.submit([self._jobs.popleft() for _ in range(min(room, len(self._jobs)))])

    # -- what the backend of async jobs reports

    def finished(self, job: Job, value: Any) -> None:
        self._results.append((job.index, True, value))
        self._ended_one()

    def failed(self, job: Job, error: BaseException, *, final: bool = False) -> None:
        self._results.append((job.index, False, portable(error, by_value=self._by_value)))
        self._ended_one()

    def _ended_one(self) -> None:
        assert self._local is not None
        if self._jobs and not self.wire.paused:
            self._start_async()
        if self._timer is None:
            idle = self._local.room() == self._concurrency
            self._timer = self._loop.call_soon(self._tell) if idle else self._loop.call_later(SLICE, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._report()

    # -- results

    def _report(self) -> None:
        results, now = self._results[:], perf_counter()
        self._results.clear()
        if not results:
            return
        seconds = now - self._since if self._since is not None else 0.0
        busy = self._jobs or (self._local is not None and self._local.room() < self._concurrency)
        self._since = now if busy else None
        indices = [index for index, _, _ in results]
        try:
            self._send(Kind.RESULTS, [(good, value) for _, good, value in results], indices, seconds)
        except Exception:
            for index, good, value in results:
                self._send(Kind.RESULTS, [self._sendable(good, value)], [index], seconds / len(results))

    def _sendable(self, good: bool, value: Any) -> tuple[bool, Any]:
        try:
            dumps(value, by_value=self._by_value)
        except Exception as exc:
            error = NotPicklableError(f"the result, a {type(value).__name__}, cannot be sent back: {exc}")
            return False, portable(error, by_value=False)
        return good, value


class _Watched(Local):
    """Jobs as tasks, written down while they are under way."""

    def __init__(self, reports: Any, board: Board, function: Callable[[Any], Any], concurrency: int) -> None:
        super().__init__(function, concurrency)
        self.reports = reports
        self._places = board.places
        self._free = list(range(len(board.places)))
        self._run_inside, self._run_one = self._run_one, self._run_watched
        self._begun: dict[Job, Any] = {}

    def resume(self, job: Job, awaitable: Any) -> None:
        """Runs a job whose function has been called."""
        self._begun[job] = awaitable
        self.submit([job])

    async def _run_watched(self, job: Job) -> None:
        place = self._free.pop()
        self._places[place] = job.index
        try:
            if job in self._begun:
                await self._run_begun(job, self._begun.pop(job))
            else:
                await self._run_inside(job)
        finally:
            self._places[place] = FREE
            self._free.append(place)

    async def _run_begun(self, job: Job, awaitable: Any) -> None:
        try:
            value = await awaitable
        except BaseException as exc:
            self._fail(job, exc)
        else:
            del self._tasks[job]
            self.reports.finished(job, value)
