"""The pytest plugin: a test whose coroutine blocks fails with the line, where that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.kit import SOURCES

pytestmark = [pytest.mark.weft_only, pytest.mark.realtime]

TESTS = """
import asyncio, time
import pytest
import weft

async def blocks():
    time.sleep(0.15)
    await asyncio.sleep(0)

def test_blocks():
    weft.run(blocks())

def test_does_not():
    weft.run(asyncio.sleep(0.15))

@pytest.mark.weft_strict(False)
def test_may_block():
    weft.run(blocks())

@pytest.mark.weft_strict(threshold=10, calls=False)
def test_is_patient():
    weft.run(blocks())

@pytest.mark.weft_strict(threshold=0.05)
def test_wants_it():
    weft.run(blocks())

def test_fails_anyway():
    weft.run(blocks())
    assert False, "its own failure"
"""


def outcomes(folder: Path, *arguments: str) -> tuple[dict[str, str], str]:
    """Run the tests above; how each ended, and all that was said."""
    (folder / "test_it.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-c",
        str(folder / "pytest.ini"),
        *arguments,
    ]
    done = subprocess.run(
        [*command, "-p", "weft.testing.plugin", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=90,
        env={**os.environ, "PYTHONPATH": str(SOURCES), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=False,
    )
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith(("PASSED", "FAILED")):
            found[line.split("::")[1].split(" ")[0]] = line.split()[0]
    return found, done.stdout + done.stderr


def test_off_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    found, said = outcomes(tmp_path)
    assert found == {
        "test_blocks": "PASSED",
        "test_does_not": "PASSED",
        "test_may_block": "PASSED",
        "test_is_patient": "PASSED",
        "test_wants_it": "FAILED",
        "test_fails_anyway": "FAILED",
    }, said
    assert "test_it.py:7 in blocks(): time.sleep" in said


@pytest.mark.parametrize("how", ["ini", "option"])
def test_for_all(tmp_path: Path, how: str) -> None:
    words = "[pytest]\nweft_stall_threshold = 0.05\n" + ("weft_strict = true\n" if how == "ini" else "")
    (tmp_path / "pytest.ini").write_text(words)
    found, said = outcomes(tmp_path, *(["--weft-strict"] if how == "option" else []))
    assert found == {
        "test_blocks": "FAILED",
        "test_does_not": "PASSED",
        "test_may_block": "PASSED",
        "test_is_patient": "PASSED",
        "test_wants_it": "FAILED",
        "test_fails_anyway": "FAILED",
    }, said
    assert "its own failure" in said


def test_modules_that_may_block(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nweft_strict = true\nweft_stall_threshold = 0.05\nweft_strict_allow = test_it\n"
    )
    found, said = outcomes(tmp_path)
    assert found["test_blocks"] == "PASSED", said
