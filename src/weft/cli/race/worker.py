"""The process of one contender: sends its requests and reports as JSON lines on standard output.

Lines: ``{"done": n, "failed": n, "seconds": s}`` now and then, at last that with ``cpu_seconds``, ``peak_threads``,
``errors`` and ``rounds``. A job that takes little time is done up to three times, and the quickest round counts: what
else runs on a machine can double the time of a short run, and never halves it.
Invariant: what is measured is the sending of the requests alone, with the opening and closing of their connections;
not the interpreter's start, the imports, or what libraries set up at their first request. Started by ``processes``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from weft.cli.race.clients import Done, Job
from weft.cli.race.contenders import runner_for
from weft.cli.race.processes import become_child

__all__ = ["main"]

Report = dict[str, Any]

ROUNDS = 3
ROUNDS_SECONDS = 1.0  # after that much time, there is no other round
REPORT_EVERY = 0.04  # seconds: smooth to the eye, and at most 25 times 30 µs a second

FEW_THREADS = 16
"""Up to here a thread more or less is worth reading their names."""


def main() -> None:
    """Runs the contender and the job that the command line names (a key, and a ``Job`` as JSON)."""
    become_child()
    pipe = os.dup(1)
    os.dup2(2, 1)  # nothing that a library prints may get among the reports
    job: Job = json.loads(sys.argv[2])
    run = runner_for(sys.argv[1])
    warm_up: Job = {"url": job["url"], "requests": 1, "threads": 1}
    run(warm_up, lambda reason: None)  # if it fails, the job will fail too, and there it is counted
    _send(pipe, _quickest([_round(run, job, pipe)], run, job))


def _quickest(rounds: list[Report], run: Callable[[Job, Done], None], job: Job) -> Report:
    spent: float = rounds[0]["seconds"]
    while len(rounds) < ROUNDS and spent < ROUNDS_SECONDS and not rounds[-1]["failed"]:
        rounds.append(_round(run, job))
        spent += rounds[-1]["seconds"]
    best = rounds[-1] if rounds[-1]["failed"] else min(rounds, key=lambda each: each["seconds"])
    return {**best, "rounds": len(rounds)}


def _round(run: Callable[[Job, Done], None], job: Job, pipe: int | None = None) -> Report:
    meter = _Meter(pipe, job)
    run(job, meter.done)
    return meter.result()


class _Meter:
    """Takes time, processor time and threads from its making to ``result()``; reports on the way if it has a pipe."""

    def __init__(self, pipe: int | None, job: Job) -> None:
        self._pipe = pipe
        self._count = 0
        self._total = job["requests"]
        self._errors: Counter[str] = Counter()
        self._threads = 0
        self._cpu = _cpu_seconds()
        self._start = self._reported = perf_counter()

    def done(self, reason: str | None) -> None:
        """Counts a request that has ended, well or (with a reason) not."""
        self._count += 1
        if reason is not None:
            self._errors[reason] += 1
        now = perf_counter()
        if now - self._reported >= REPORT_EVERY or self._count == self._total:
            self._reported = now
            self._threads = max(self._threads, _threads())
            if self._pipe is not None:
                _send(self._pipe, self._report(now - self._start))

    def result(self) -> Report:
        """All that was measured."""
        seconds, cpu = perf_counter() - self._start, _cpu_seconds() - self._cpu
        return {**self._report(seconds), "cpu_seconds": cpu, "peak_threads": self._threads, "errors": self._errors}

    def _report(self, seconds: float) -> Report:
        return {"done": self._count, "failed": self._errors.total(), "seconds": seconds}


def _send(pipe: int, report: Report) -> None:
    os.write(pipe, json.dumps(report).encode() + b"\n")


def _threads() -> int:
    """How many threads the process has, those of C libraries too, but for those by which weft watches its loops."""
    threads = os.listdir("/proc/self/task")
    if len(threads) > FEW_THREADS:
        return len(threads)
    names = [Path(f"/proc/self/task/{thread}/comm") for thread in threads]
    return sum(not name.exists() or not name.read_text().startswith("weft-") for name in names)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
