"""The programs of ``examples/pathologies`` about lost work and shutdown make the reports that they promise."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from weft.watch.lost import CURES

FOLDER = Path(__file__).parent.parent / "examples" / "pathologies"
KINDS = {
    "lost_exception": "lost exception",
    "swallowed_cancel": "swallowed cancellation",
    "failed_gather": "siblings of a failed gather",
    "shielded_orphan": "shielded task without owner",
    "never_awaited": "coroutine never awaited",
    "generator_left": "generator never closed",
    "resisting_task": "resisted shutdown",
    "stuck_thread": "thread that does not return",
}
LIMIT = 60.0  # seconds


def start(name: str, form: str = "text") -> subprocess.Popen[str]:
    """Start a program as its docstring says; those that resist are given up sooner."""
    return subprocess.Popen(
        [sys.executable, "-m", "weft", "run", "--report", form, f"{name}.py"],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATIENCE": "2.2" if form == "text" else "0.1"},
    )


def promised(name: str) -> str:
    """The report in the docstring of a program, in one line."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
    return " ".join(docstring.partition("weft run --report text")[2].split()[1:])


def plain(text: str) -> str:
    """A text in one line, without what depends on the moment."""
    return re.sub(r"\b\d+ s\b", "N s", " ".join(text.split()))


@pytest.mark.parametrize("name", KINDS)
def test_the_report_is_the_promised_one(name: str) -> None:
    process = start(name)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    words = promised(name)
    assert f"{KINDS[name]}: " in words
    kind = f"  - {KINDS[name]}: "
    (line,) = [line for line in errors.splitlines() if line.startswith(kind)]
    spoken = " ".join(line for line in errors.splitlines() if line.startswith("shutdown: after"))
    assert plain(f"{spoken} {line.removeprefix('  - ')}") == plain(words)


def test_the_report_as_json() -> None:
    processes = {name: start(name, "json") for name in ("swallowed_cancel", "stuck_thread")}
    for name, process in processes.items():
        _, errors = process.communicate(timeout=LIMIT)
        (finding,) = json.loads(errors.splitlines()[-1])["lost work"]
        assert finding["kind"] == KINDS[name]
        assert finding["place"]["file"] == str(FOLDER / f"{name}.py")
        assert finding["count"] == 1


def test_each_kind_has_a_program() -> None:
    # What is held to the end and was not read is a lost exception that came late.
    assert set(KINDS.values()) == set(CURES) - {"unread exception"}
    assert {name for name in KINDS if (FOLDER / f"{name}.py").exists()} == set(KINDS)
