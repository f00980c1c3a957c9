"""A busy program that does not block is not blamed; ``tools/quiet.py`` runs it for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.weft_only, pytest.mark.realtime]

PROGRAM = Path(__file__).parents[2] / "tools" / "quiet.py"


def test_no_line_is_blamed() -> None:
    command = [sys.executable, "-X", "faulthandler", str(PROGRAM), "--minutes", "0.08"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
