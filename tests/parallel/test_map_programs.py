"""``weft.map`` in whole programs: functions of ``__main__``, Ctrl-C, and a parent that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.parallel.functions import pids_in

pytestmark = pytest.mark.weft_only

LIMIT = 30  # seconds; far more than any of these takes
ROOT = Path(__file__).parents[2]

MAIN = """
import asyncio, sys, weft
from dataclasses import dataclass

@dataclass
class Point:
    x: int

SCALE = 10

async def scale(point):
    assert isinstance(point, Point)
    await asyncio.sleep(0)
    return Point(point.x * SCALE)

async def main():
    print(await weft.map(scale, [Point(1), Point(2)], workers=2))
"""
GUARDED = MAIN + "if __name__ == '__main__':\n    weft.run(main())\n"
BARE = MAIN + "weft.run(main())\n"
NO_CLOUDPICKLE = "import sys\nsys.modules['cloudpickle'] = None\n"

HANGING = """
import asyncio, sys, weft
sys.path.insert(0, {root!r})
from tests.parallel.functions import {function}

async def main():
    await weft.map({function}, [{path!r}] * 8, workers=2, concurrency=2)

if __name__ == "__main__":
    weft.run(main())
"""

needs_cloudpickle = pytest.mark.skipif(
    find_spec("cloudpickle") is None, reason="not installed: cloudpickle (weft[cluster])"
)

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program in a process group of its own, as a shell does."""
    processes = []

    def call(text: str, *way: str) -> subprocess.Popen[str]:
        program = tmp_path / "program.py"
        program.write_text(text)
        command = [sys.executable, "-W", "error", *way, str(program)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
        )
        return processes[-1]

    yield call
    for process in processes:
        with process:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=LIMIT)
    return process.returncode, output, errors


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class TestMainModule:
    @pytest.mark.parametrize("way", [[], ["-m", "weft", "run"]], ids=["python", "weft run"])
    @pytest.mark.parametrize("text", [GUARDED, NO_CLOUDPICKLE + GUARDED], ids=["guarded", "no cloudpickle"])
    def test_its_functions_and_classes_work(self, start: Start, text: str, way: list[str]) -> None:
        assert finish(start(text, *way)) == (0, "[Point(x=10), Point(x=20)]\n", "")

    @needs_cloudpickle
    def test_without_a_guard(self, start: Start) -> None:
        assert finish(start(BARE)) == (0, "[Point(x=10), Point(x=20)]\n", "")

    def test_without_a_guard_and_cloudpickle_the_remedy_is_named(self, start: Start) -> None:
        status, output, errors = finish(start(NO_CLOUDPICKLE + BARE))
        assert (status, output) == (1, "")
        assert "behind `if __name__ == '__main__':`, or install cloudpickle" in errors

    def test_what_was_typed_in_needs_cloudpickle(self, start: Start, tmp_path: Path) -> None:
        text = NO_CLOUDPICKLE + GUARDED
        done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "another process cannot import what was typed in here; install cloudpickle" in done.stderr


class TestInterrupts:
    @pytest.mark.parametrize("function", ["note_and_hang", "note_and_wait"])
    def test_ctrl_c_ends_all(self, start: Start, tmp_path: Path, function: str) -> None:
        path = str(tmp_path / "pids")
        process = start(HANGING.format(root=str(ROOT), function=function, path=path))
        wait_for(lambda: len(set(pids_in(path))) == 2)
        os.killpg(process.pid, signal.SIGINT)
        status, _, errors = finish(process)
        assert status == -signal.SIGINT
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert errors.count("Traceback") == 2  # of the parent alone: the cancellation, and the interrupt
        assert [pid for pid in pids_in(path) if lives(pid)] == []
        cleaned = pids_in(f"{path}.cleanup")
        assert len(cleaned) == (len(pids_in(path)) if function == "note_and_wait" else 0)

    @pytest.mark.parametrize("function", ["note_and_hang", "note_and_wait"])
    def test_no_worker_outlives_a_parent_that_is_killed(self, start: Start, tmp_path: Path, function: str) -> None:
        path = str(tmp_path / "pids")
        process = start(HANGING.format(root=str(ROOT), function=function, path=path))
        wait_for(lambda: len(set(pids_in(path))) == 2)
        process.kill()
        process.communicate(timeout=LIMIT)
        wait_for(lambda: not any(map(lives, pids_in(path))))
