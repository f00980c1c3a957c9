"""A server under test in a process of its own: ``python -m bench.serve CONTENDER MODULE:FUNCTION [ARGUMENT...]``.

The function, a coroutine function, starts the server and returns its address as a dict, which is printed as one
JSON line; then the loop runs until the process is killed. The invariant: while it serves, nothing but the server
runs in the process, and it never outlives the measurement that started it.
``serving`` is the other side: what a case calls to have such a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import LOOPS
from bench.store import ROOT

PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True)
class Serving:
    """A server that runs: the process, and the address it printed."""

    process: subprocess.Popen[bytes]
    address: dict[str, Any]

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid


@contextlib.contextmanager
def serving(command: Sequence[str | Path], *, core: int | None = None) -> Iterator[Serving]:
    """Start a server, wait for its address, and kill it at the end.

    Args:
        command: prints its address as one JSON line when it is ready.
        core: the processor core that it is bound to.

    Raises:
        RuntimeError: it ended without an address.
    """
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})  # threads that it starts later inherit this
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server ended with status {process.wait()} before it was ready: {command}")
            yield Serving(process, json.loads(line))
        finally:
            process.kill()


def python_server(contender: str, function: str, *arguments: str) -> list[str]:
    """The command for ``serving`` that runs ``function`` (``module:name``) on a contender's loop."""
    return [sys.executable, "-m", "bench.serve", contender, function, *arguments]


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    contender, function, *rest = arguments
    die_with_parent()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    module, _, name = function.partition(":")
    start = getattr(importlib.import_module(module), name)

    async def serve() -> None:
        address = await start(*rest)
        print(json.dumps(address), flush=True)
        await asyncio.get_running_loop().create_future()

    LOOPS[contender].run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])
