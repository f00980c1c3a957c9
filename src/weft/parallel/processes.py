"""Runs jobs in worker processes: who gets how many, and what becomes of them when a worker dies.

Invariant: a job is with one worker at most; when a worker is dead, each job that it held has been reported as lost or
failed. The backend of ``weft.map`` with a number of ``workers``.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from weft.errors import NotPicklableError, WorkerError
from weft.parallel.crew import GRACE, Worker, end_all, setup_of, usable
from weft.parallel.jobs import Job, Reports
from weft.parallel.local import is_async
from weft.parallel.shipping import check_may_start, dumps, pack
from weft.parallel.wire import Frame, Kind

__all__ = ["Processes", "usable_cores"]

STRIKES = 3  # workers that an item may have killed
BAD_STARTS = 3  # workers in a row that end before they take anything
CLEANUP = 2.0  # seconds in which cancelled async functions may run their ``finally``


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class Processes:
    """Runs jobs in processes.

    Args:
        function: called with each item.
        count: how many processes.
        concurrency: how many jobs each has under way, where the function is async.
    """

    reports: Reports

    def __init__(self, function: Callable[[Any], Any], count: int, concurrency: int) -> None:
        self._function = function
        self._count = count
        self._concurrency = concurrency
        self._is_async = is_async(function)
        self._workers: set[Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._alone: deque[Job] = deque()
        self._bad_starts = 0
        self._closing = False
        self._open: asyncio.Future[None] | None = None  # until the first workers are all there

    @property
    def capacity(self) -> int:
        """How many jobs the workers would hold, at their pace."""
        return max(sum(map(self._target, self._workers)), self._count)

    async def start(self, remaining: Callable[[], int | None]) -> None:
        """Starts the workers, and waits until they take jobs: so that the first of them does not get all.

        Raises:
            NotPicklableError: the function cannot be sent.
            WorkerError: workers cannot be started.
        """
        check_may_start()
        self._remaining = remaining
        parcel = pack(self._function)
        self._by_value = parcel.by_value
        self._setup = setup_of(parcel, self._concurrency)
        known = remaining()
        wanted = self._count if known is None else min(self._count, known)
        if not wanted:
            return
        self._open = asyncio.get_running_loop().create_future()
        for _ in range(wanted):
            self._hire()
        await self._open
        self._open = None

    def room(self) -> int:
        if self._alone or self._open is not None or self._closing:
            return 0
        return sum(map(self._room_of, self._workers))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Shares the jobs out, to those who hold the fewest first."""
        alone = [job for job in jobs if job.alone]
        if alone:
            self._alone.extend(alone)
            jobs = [job for job in jobs if not job.alone]
        workers = sorted((worker for worker in self._workers if usable(worker)), key=lambda worker: len(worker.jobs))
        position, rooms = 0, [max(self._target(worker) - len(worker.jobs), 0) for worker in workers]
        while position < len(jobs):
            takers = sum(1 for room in rooms if room) or 1
            share = -(-(len(jobs) - position) // takers)
            before = position
            for number, worker in enumerate(workers):
                if count := min(rooms[number], share, len(jobs) - position):
                    self._send(worker, jobs[position : position + count])
                    rooms[number] -= count
                    position += count
            if position == before:  # somebody has become slow or died since there was room
                for job in jobs[position:]:
                    self.reports.lost(job)
                break
        self._send_alone()

    async def close(self, *, early: bool) -> None:
        in_a_hurry, self._closing = self._closing, True
        kill = early and (in_a_hurry or not self._is_async)
        for task in self._starting:
            task.cancel()
        for worker in list(self._workers):
            if kill or not worker.ready:
                worker.kill()
            else:
                worker.release()
        await end_all(list(self._workers), 0.0 if kill else CLEANUP if early else GRACE)
        if self._starting:
            await asyncio.gather(*self._starting, return_exceptions=True)

    # -- who gets how many

    def _target(self, worker: Worker) -> int:
        return (self._concurrency if self._is_async else 1) + worker.pace.items

    def _room_of(self, worker: Worker) -> int:
        """How many jobs it should get now; none for few, as a frame has its price."""
        if not usable(worker):
            return 0
        room = self._target(worker) - len(worker.jobs)
        remaining = self._remaining()
        if remaining is not None:  # what looked short may turn out long: leave some to the others
            share = -(-remaining // (2 * len(self._workers)))
            return max(min(room, share), 1) if room > 0 and (room >= share or self._is_much(worker, room)) else 0
        return room if self._is_much(worker, room) else 0

    def _is_much(self, worker: Worker, room: int) -> bool:
        return room >= max(worker.pace.items // 2, 1)

    def _send(self, worker: Worker, jobs: Sequence[Job]) -> None:
        try:
            payload = dumps([job.item for job in jobs], by_value=self._by_value)
        except Exception:
            jobs, payload = self._sort_out(jobs)
        if jobs:
            worker.pace.weigh(len(jobs), len(payload))
            worker.send(Kind.JOBS, payload, jobs)

    def _sort_out(self, jobs: Sequence[Job]) -> tuple[list[Job], bytes]:
        """Fails the jobs whose items cannot be sent; gives the others."""
        good = []
        for job in jobs:
            try:
                dumps(job.item, by_value=self._by_value)
            except Exception as exc:
                error = NotPicklableError(f"an item, a {type(job.item).__name__}, cannot be sent to a process: {exc}")
                error.__cause__ = exc
                self.reports.failed(job, error, final=True)
            else:
                good.append(job)
        return good, dumps([job.item for job in good], by_value=self._by_value)

    def _send_alone(self) -> None:
        for worker in list(self._workers):
            if not self._alone:
                return
            if usable(worker) and not worker.jobs:
                self._send(worker, [self._alone.popleft()])

    # -- what workers say

    def _on_frame(self, worker: Worker, frame: Frame) -> None:
        if frame.kind == Kind.RESULTS:
            worker.pace.weigh(len(frame.indices), len(frame.payload))
            worker.pace.report(len(frame.indices), frame.seconds)
            self._take_results(worker, frame)
        elif frame.kind == Kind.AWAITS:
            self._is_async = True
        elif frame.kind == Kind.UNREADABLE:
            problem = NotPicklableError("an item cannot be unpickled in a worker process")
            problem.__cause__ = pickle.loads(frame.payload)
            self._one_by_one(worker, frame.indices, problem)
        elif frame.kind == Kind.BROKEN:
            error = pickle.loads(frame.payload)
            if not isinstance(error, Exception):  # the main module ended the worker when it was imported there
                error = WorkerError(f"a worker process cannot begin: {error!r}")
            self._break(error)
        self._on_change()

    def _take_results(self, worker: Worker, frame: Frame) -> None:
        try:
            results = pickle.loads(frame.payload)
        except Exception as exc:
            error = NotPicklableError(f"a result cannot be unpickled here: {exc}")
            error.__cause__ = exc
            self._one_by_one(worker, frame.indices, error)
            return
        reports, jobs = self.reports, worker.jobs
        for index, (good, value) in zip(frame.indices, results, strict=True):
            if good:
                reports.finished(jobs.pop(index), value)
            else:
                reports.failed(jobs.pop(index), value)

    def _one_by_one(self, worker: Worker, indices: list[int], error: NotPicklableError) -> None:
        """Runs jobs again, each alone, as one of them cannot be read; fails it when it is alone."""
        for index in indices:
            job = worker.jobs.pop(index)
            if len(indices) == 1:
                self.reports.failed(job, error, final=True)
            else:
                job.alone = True
                self.reports.lost(job)

    def _on_change(self) -> None:
        if self._open is not None and not self._open.done():
            if not all(worker.ready for worker in self._workers):
                return
            self._open.set_result(None)
        if self._alone:
            self._send_alone()
        self.reports.room()

    # -- coming and going

    def _hire(self) -> None:
        worker = Worker(self._setup, self._concurrency, self._on_frame, self._on_change, self._on_end)
        self._workers.add(worker)
        task = asyncio.get_running_loop().create_task(self._start_one(worker), name="weft-map-worker")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_one(self, worker: Worker) -> None:
        try:
            await worker.start()
        except OSError as exc:
            error = WorkerError(f"a worker process cannot be started: {exc.strerror or exc}")
            error.__cause__ = exc
            self._break(error)

    def _on_end(self, worker: Worker) -> None:
        self._workers.discard(worker)
        if self._closing:
            return
        self._bury(worker)
        if self._bad_starts >= BAD_STARTS:
            self._break(
                WorkerError(
                    f"{BAD_STARTS} worker processes in a row ended at once, the last {worker.fate}: what stands "
                    "on standard error may say why"
                )
            )
            return
        self._hire()
        self._on_change()

    def _bury(self, worker: Worker) -> None:
        """Says what became of the jobs of a worker that died."""
        jobs, worker.jobs = worker.jobs, {}
        started = worker.started() & jobs.keys()
        suspects = started or jobs.keys()  # none was under way: reading one of them, then
        self._bad_starts = 0 if worker.lived else self._bad_starts + 1
        for index, job in jobs.items():
            if index in suspects:
                job.strikes += 1
                job.alone = job.alone or len(suspects) > 1
            if job.strikes >= STRIKES and index in suspects:
                error = WorkerError(f"{STRIKES} worker processes died while they ran this item, the last {worker.fate}")
                self.reports.failed(job, error, final=True)
            else:
                self.reports.lost(job)

    def _break(self, error: BaseException) -> None:
        if not self._closing:
            self.reports.broken(error)
