"""SIGINT at random moments, and in a program of the shell's: KeyboardInterrupt, every ``finally``, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tests.core.kit import SCRIPT_LIMIT, SOURCES
from tests.faults.kit import HERE, ROOT

pytestmark = pytest.mark.weft_only


def start(*command: str, **options: Any) -> subprocess.Popen[str]:
    """A Python program in which SIGINT is what it is at a terminal."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{SOURCES}"}
    python = [sys.executable, "-X", "faulthandler", *command]
    pipe = subprocess.PIPE
    return subprocess.Popen(python, stdout=pipe, stderr=pipe, text=True, env=environ, **options)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("how", ["weft.run", "asyncio.Runner", "several", "bare"])
def test_at_random_moments(how: str, seed: int) -> None:
    with start(str(HERE / "interrupted.py"), how, str(seed), "25") as program:
        out, err = program.communicate(timeout=SCRIPT_LIMIT)
    assert (program.returncode, out) == (0, "ok\n"), err[-6000:]


PROGRAM = """
    import asyncio, signal, sys, weft
    signal.signal(signal.SIGINT, signal.default_int_handler)
    async def main():
        try:
            print("ready", flush=True)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            print("cleaned up", flush=True)
    exec(sys.argv[1])
"""


@pytest.mark.parametrize(
    "line",
    [
        "weft.run(main())",
        "asyncio.run(main())",
        "asyncio.Runner(loop_factory=weft.new_event_loop).run(main())",
    ],
)
def test_the_exit_is_asyncios(line: str) -> None:
    """A traceback of KeyboardInterrupt, and the process dies of SIGINT, so that a shell's loop ends too."""
    with start("-c", textwrap.dedent(PROGRAM), line) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=SCRIPT_LIMIT)
    assert program.returncode == -signal.SIGINT
    assert out == "cleaned up\n"
    assert err.splitlines()[-1] == "KeyboardInterrupt"
