"""Programs that are killed at random moments, a hundred by default: each ends as it should, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.kit import SOURCES

pytestmark = pytest.mark.weft_only

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("WEFT_KILLS", "100"))


@pytest.mark.time_limit(60 + KILLS)
def test_at_random_moments(tmp_path: Path) -> None:
    """``WEFT_KILLS=2000`` kills more of them."""
    command = [sys.executable, str(ROOT / "tests" / "killing.py"), str(tmp_path), "1", str(KILLS)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{SOURCES}"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=50 + KILLS)
    assert (done.stdout, done.stderr) == ("ok\n", "")
