"""Runs a command as a user would, in a process and a directory of its own. Used by all tests of ``weft.cli``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

Completed = subprocess.CompletedProcess[str]
Command = Callable[..., Completed]
Both = Callable[..., tuple[Completed, Completed]]

needs_race = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("aiohttp", "requests", "rich")),
    reason="weft[race] is not installed",
)

LIMIT = 30  # seconds; far more than any of these programs takes


def start_command(command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """Starts a command, its three streams connected to pipes."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_command(process: subprocess.Popen[str], text: str) -> Completed:
    """Gives a command its input and waits for its end, whatever its exit status."""
    with process:
        try:
            output, errors = process.communicate(text, timeout=LIMIT)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
