"""What the tests of the ``weft`` command share: the command, run as users run it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Both, Command, Completed, finish_command, start_command


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Lets a child be interrupted even where the tests run in a background that ignores SIGINT, which is inherited."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def python(tmp_path: Path) -> Command:
    """Runs the interpreter with these arguments in a directory of the test's own."""

    def call(*arguments: str, text: str = "", **env: str) -> Completed:
        return finish_command(start_command([sys.executable, *arguments], tmp_path, env), text)

    return call


@pytest.fixture
def weft(tmp_path: Path) -> Command:
    """Runs the ``weft`` command with these arguments in a directory of the test's own."""

    def call(*arguments: str, text: str = "", **env: str) -> Completed:
        command = [sys.executable, "-m", "weft", *arguments]
        return finish_command(start_command(command, tmp_path, env), text)

    return call


@pytest.fixture
def both(tmp_path: Path) -> Both:
    """Runs a program under ``python`` and under ``weft run``, at the same time, and gives how each ended."""

    def call(*arguments: str, text: str = "", options: tuple[str, ...] = ()) -> tuple[Completed, Completed]:
        plain = start_command([sys.executable, *options, *arguments], tmp_path, {})
        command = [sys.executable, *options, "-m", "weft", "run", *arguments]
        done = finish_command(start_command(command, tmp_path, {}), text)
        return finish_command(plain, text), done

    return call
