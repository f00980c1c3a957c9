"""The pathologies that block a loop: each program is reported with the line that its docstring promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.kit import SOURCES

pytestmark = [pytest.mark.weft_only, pytest.mark.realtime]

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted((ROOT / "examples" / "pathologies").glob("blocked_by_*.py"))
GUIDE = ROOT / "docs" / "guide" / "slow-or-stuck.md"

LINE = re.compile(
    r"loop blocked \d+ ms in task '[\w-]+' at (?P<place>\S+:\d+) in \S+\(\): .+? \(kernel: (?P<kernel>\w+)[^)]*\); "
    r"(?P<cure>.+)\. seen \d+x"
)


def promised(program: Path) -> re.Match[str]:
    """The report in a program's docstring, which may be broken into lines."""
    docstring = ast.get_docstring(ast.parse(program.read_text())) or ""
    found = LINE.search(" ".join(docstring.split()))
    assert found, docstring
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.stem))
def test_the_report_is_the_promised_one(program: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [match for line in done.stderr.splitlines() if (match := LINE.match(line))]
    wanted = promised(program)
    same = [match for match in found if match["place"] == wanted["place"]]
    assert same, done.stderr
    assert same[0]["cure"] == wanted["cure"]
    assert same[0]["kernel"] == wanted["kernel"] or wanted["kernel"] == "running"


def test_the_guide_shows_each_of_them() -> None:
    text = GUIDE.read_text()
    assert len(PROGRAMS) == 8
    assert [program.name for program in PROGRAMS if program.name not in text] == []
