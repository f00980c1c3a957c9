"""Starts workers, reads their events, ends what hangs, names what crashed, and carries on with the remaining tests.

The invariant: every test of a module's plan gets exactly one outcome, whatever the tests do to their interpreter.
Called by ``__main__``, once per interpreter, target and module.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

WORKER = Path(__file__).with_name("worker.py")
KILL_AFTER = 5.0  # seconds that a worker gets to write its stacks after SIGABRT
TEXT_LIMIT = 20_000  # characters of the worker's output kept for a test that hung or crashed

# How a test ended. ``hung`` and ``crashed`` are given here, the rest by the worker.
PASSED = frozenset({"passed", "xfailed"})


@dataclass(frozen=True)
class Outcome:
    """How one test ended."""

    word: str
    detail: str = ""
    seconds: float = 0.0
    loops: int = 0
    retried: bool = False

    @property
    def ok(self) -> bool:
        return self.word in PASSED


Outcomes: TypeAlias = dict[str, Outcome]


@dataclass(frozen=True)
class Job:
    """One module of the test suite, on one interpreter, with one target.

    Attributes:
        only: Globs over "module.Class.test"; without any, all tests run.
        without: Globs of tests that do not run.
        limit: Seconds after which a test counts as hung.
        package: Where the module is.
    """

    python: str
    target: str
    module: str
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    limit: float = 60.0
    package: str = "test.test_asyncio"


@dataclass
class Attempt:
    """What one worker process has reported so far."""

    outcomes: Outcomes = field(default_factory=dict)
    plan: list[str] | None = None
    running: str | None = None
    since: float = 0.0
    finished: bool = False
    fixtures: list[str] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """Accounts for one event."""
        self.since = time.monotonic()
        match event["event"]:
            case "plan":
                self.plan = event["ids"]
            case "start":
                self.running = event["id"]
            case "end":
                self.running = None
                self.outcomes[event["id"]] = Outcome(
                    event["outcome"], event["detail"], event["seconds"], event["loops"]
                )
            case "fixture":
                self.fixtures.append(f"{event['id']}: {event['outcome']}\n{event['detail']}")
            case "finish":
                self.finished = True


def _start(job: Job, skip: list[str], report_fd: int, output: int, cwd: str) -> subprocess.Popen[bytes]:
    order = {
        "package": job.package,
        "module": job.module,
        "target": job.target,
        "report_fd": report_fd,
        "skip": skip,
        "only": list(job.only),
        "without": list(job.without),
    }
    # The flags of CPython's own test runner: no environment, bytes warnings are errors, unbuffered.
    command = [job.python, "-E", "-u", "-bb", "-W", "default", str(WORKER), json.dumps(order)]
    return subprocess.Popen(
        command,
        pass_fds=[report_fd],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=cwd,
        start_new_session=True,  # so that what a test leaves running can be ended with it
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a worker that is stuck: SIGABRT first, upon which faulthandler writes where every thread stands."""
    process.send_signal(signal.SIGABRT)
    try:
        process.wait(KILL_AFTER)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _follow(process: subprocess.Popen[bytes], report: int, attempt: Attempt, limit: float) -> bool:
    """Reads events until the worker ends; True when it had to be ended because a test took longer than ``limit``."""
    pending = b""
    attempt.since = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(report, selectors.EVENT_READ)
        while True:
            ready = selector.select(0.2)
            chunk = os.read(report, 65536) if ready else b""
            pending += chunk
            *lines, pending = pending.split(b"\n")
            for line in lines:
                attempt.take(json.loads(line))
            if chunk:
                continue
            if process.poll() is not None or attempt.finished:
                return False
            if time.monotonic() - attempt.since > limit:
                _end(process)
                return True


def run_attempt(job: Job, skip: list[str]) -> tuple[Attempt, str, str]:
    """Runs one worker.

    Returns:
        What it reported; how it ended (``ended``, ``hung`` or ``crashed``); its output.
    """
    attempt = Attempt()
    read_fd, write_fd = os.pipe()
    with tempfile.TemporaryDirectory(prefix="conformance-") as cwd, tempfile.TemporaryFile() as output:
        process = _start(job, skip, write_fd, output.fileno(), cwd)
        os.close(write_fd)
        try:
            hung = _follow(process, read_fd, attempt, job.limit)
            try:
                process.wait(KILL_AFTER if attempt.finished else None)
            except subprocess.TimeoutExpired:
                _end(process)  # all tests are done, and a thread of theirs keeps the interpreter
        finally:
            _kill_group(process)
            process.wait()
            os.close(read_fd)
        output.seek(0)
        text = output.read().decode(errors="replace")[-TEXT_LIMIT:]
    word = "ended" if attempt.finished else "hung" if hung else "crashed"
    return attempt, word, f"exit status {process.returncode}\n{text}"


def run_module(job: Job) -> Outcomes:
    """Runs every test of ``job``; a module that the interpreter lacks gives an empty result.

    Returns:
        An outcome per test id. What a failing ``setUpModule`` or ``setUpClass`` kept from running is ``error``.
    """
    outcomes: Outcomes = {}
    while True:
        attempt, word, text = run_attempt(job, sorted(outcomes))
        outcomes.update(attempt.outcomes)
        if attempt.plan is None:
            return {job.module: Outcome(word, text)}  # the module could not even be loaded
        if word == "ended":
            blame = "\n".join(attempt.fixtures) or "the test was planned and did not run"
            word = "skipped" if attempt.fixtures and ": skipped\n" in attempt.fixtures[0] else "error"
            outcomes.update({test: Outcome(word, blame) for test in attempt.plan if test not in outcomes})
            return outcomes
        if attempt.running is None and not attempt.outcomes:
            return outcomes | {test: Outcome(word, text) for test in attempt.plan}
        if attempt.running is not None:
            outcomes[attempt.running] = Outcome(word, text, job.limit if word == "hung" else 0.0)


def retry_failed(job: Job, outcomes: Outcomes) -> Outcomes:
    """Runs the tests that failed once more, in a new process; a test that hung or crashed is not given a second chance.

    Several tests of asyncio measure real time, and fail now and then on a machine that does other work.
    """
    again = [test for test, outcome in outcomes.items() if outcome.word in ("failed", "error")]
    if not again:
        return outcomes
    second = run_module(replace(job, only=again))
    repaired = {
        test: Outcome(result.word, outcomes[test].detail, result.seconds, result.loops, retried=True)
        for test, result in second.items()
        if test in again and result.ok
    }
    return outcomes | repaired
