"""Finds the interpreters to test and asks each what it has.

The invariant: nothing is passed over in silence; what cannot be tested has a reason in words. Called by ``__main__``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROBE_SECONDS = 60.0

PROBE = """
import importlib.metadata, importlib.util, json, platform, sys
def version(name):
    if importlib.util.find_spec(name) is None: return None
    try: return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError: return "unknown"
print(json.dumps({
    "version": platform.python_version(), "minor": sys.version_info[:2],
    "suite": importlib.util.find_spec("test") is not None and importlib.util.find_spec("test.test_asyncio") is not None,
    "packages": {name: version(name) for name in ("weft", "uvloop")},
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python and what it has."""

    path: str
    version: str
    minor: tuple[int, int]
    suite: bool
    packages: dict[str, str | None]

    @property
    def label(self) -> str:
        return f"{self.minor[0]}.{self.minor[1]}"

    def lacks(self, target: str) -> str | None:
        """Why ``target`` cannot be tested here, or None."""
        if self.minor < (3, 11):
            return f"Python {self.version} is older than 3.11"
        if not self.suite:
            return "it has no test.test_asyncio (Debian: install libpythonX.Y-testsuite)"
        name = target.partition("+")[0]
        if target != "stock" and self.packages[name] is None:
            return f"{name} is not installed in it"
        return None


def probe(path: str) -> Interpreter:
    """Asks the interpreter at ``path``, a path or the name of a command.

    Raises:
        OSError: it cannot be started.
        RuntimeError: it does not answer as a Python does.
    """
    # Absolute, as workers run elsewhere; not resolved, as what a virtual environment links to is not in it.
    path = os.path.abspath(shutil.which(path) or path)
    done = subprocess.run(
        [path, "-E", "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, cwd="/", check=False
    )
    if done.returncode:
        raise RuntimeError(f"{path} does not work as a Python (exit status {done.returncode}): {done.stderr.strip()}")
    answer = json.loads(done.stdout)
    return Interpreter(
        path, answer["version"], (answer["minor"][0], answer["minor"][1]), answer["suite"], answer["packages"]
    )


def found() -> list[str]:
    """The running interpreter, and those of the virtual environments that ``make test-all`` keeps in the checkout."""
    others = sorted(str(path) for path in ROOT.glob(".venv-3.*/bin/python"))
    return [sys.executable, *others]


def gather(paths: list[str]) -> list[Interpreter]:
    """Probes ``paths``, keeping the first interpreter of each minor version."""
    kept: dict[tuple[int, int], Interpreter] = {}
    for path in paths:
        interpreter = probe(path)
        kept.setdefault(interpreter.minor, interpreter)
    return list(kept.values())
