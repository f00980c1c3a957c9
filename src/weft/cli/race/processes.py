"""Starts the processes of a race, and sees to it that they end with it.

Three things hold a child to its parent: it is killed on the way out of a ``with`` block, the kernel kills it when the
parent dies (``PR_SET_PDEATHSIG``), and it has a process group of its own, so that Ctrl-C in a terminal reaches the
parent alone, which then ends the children at once and without their tracebacks.
Invariant: none of them is left when the ``with`` block has been left. Called by the race; ``become_child`` by children.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from weft.cli.race.clients import Job
from weft.cli.race.options import Refused

__all__ = ["Row", "become_child", "run_contender", "serving"]


class Row(Protocol):
    """Where the progress of a contender is shown."""

    def update(self, done: int, failed: int, seconds: float) -> None:
        """Shows how far it is."""

    def finish(self, seconds: float, failed: int) -> None:
        """Shows that it has ended."""

    def fail(self, reason: str) -> None:
        """Shows that its process ended without a result."""


@contextmanager
def serving(latency: float) -> Iterator[str]:
    """Runs the embedded server (latency in seconds) inside the block; gives its URL."""
    with _process("server", str(latency)) as child:
        port = child.output.readline().decode().strip()
        if not port:
            raise Refused(f"the embedded server did not start: {child.last_words()}", status=1)
        yield f"http://127.0.0.1:{port}/"


def run_contender(key: str, job: Job, row: Row) -> dict[str, Any]:
    """Runs a contender in a process of its own.

    Returns:
        The worker's last report; when its process ended without one, all requests as failed, with its last words.
    """
    with _process("worker", key, json.dumps(job)) as child:
        for line in child.output:
            report: dict[str, Any] = json.loads(line)
            if "cpu_seconds" in report:
                row.finish(report["seconds"], report["failed"])
                return report
            row.update(report["done"], report["failed"], report["seconds"])
        reason = child.last_words()
    row.fail(reason)
    return {"failed": job["requests"], "errors": {reason: job["requests"]}}


def become_child() -> None:
    """Called first in a child: ties its life to the parent's, and allows it all the open files that it may have."""
    from weft.parents import end_with_parent  # here: the parent has no need of it

    if not end_with_parent(int(os.environ["WEFT_RACE_PARENT"]), signal.SIGKILL):
        os._exit(1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[_Child]:
    # -P: nothing in the current directory may pass for a library; weft itself may have been found only there, though
    root = str(Path(__file__).parents[3])
    code = f"import sys; sys.path.append({root!r}); from weft.cli.race.{module} import main; main()"
    with tempfile.TemporaryFile() as errors:  # a pipe would fill up, as nobody reads it while the child runs
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            process_group=0,
            env={**os.environ, "WEFT_RACE_PARENT": str(os.getpid())},
        )
        with process:
            try:
                assert process.stdout is not None
                yield _Child(process, process.stdout, errors)
            finally:
                process.kill()


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]

    def last_words(self) -> str:
        """The last line that a child that ended before its time wrote on stderr, or else what it died of."""
        status = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        return next(filter(None, map(str.strip, reversed(lines))), f"its process ended with status {status}")
