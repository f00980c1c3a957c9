"""Runs one make target under every CPython that weft supports and that is installed here.

Owns the search for interpreters and the table at the end. Its invariant: every interpreter that was found, and every
version that was expected, stands in the table once, with its result or with the reason why it was not run.
Called by ``make test-all``, and by ``tools/debian.sh`` inside its root; needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
PLACES = (
    "{PYENV_ROOT}/versions/*/bin/python3",
    "{HOME}/.pyenv/versions/*/bin/python3",
    "{HOME}/.local/share/uv/python/*/bin/python3",
    "/usr/bin/python3.*",
    "/usr/local/bin/python3.*",
    "/opt/python/*/bin/python3",
)
PROBE = """
import importlib.util, json, os, platform, sys, sysconfig
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": list(sys.version_info[:3]),
    "level": sys.version_info[3],
    "implementation": platform.python_implementation(),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "debug": hasattr(sys, "gettotalrefcount"),
    "virtual": sys.prefix != sys.base_prefix,
}))
"""


@dataclass
class Interpreter:
    """One installed Python and what the build needs to know of it."""

    path: str
    version: tuple[int, int, int]
    level: str
    implementation: str
    venv: bool
    headers: bool
    threaded: bool
    debug: bool
    virtual: bool

    @property
    def name(self) -> str:
        """The full version, such as ``3.14.0rc2``'s ``3.14.0 (candidate)``."""
        text = ".".join(map(str, self.version))
        return text if self.level == "final" else f"{text} ({self.level})"

    def obstacle(self) -> str | None:
        """Why weft cannot be built for this Python, or None."""
        minor = f"{self.version[0]}.{self.version[1]}"
        if self.implementation != "CPython":
            return f"is {self.implementation}; weft is built for CPython"
        if self.threaded:
            return "is a free-threaded build, which weft does not support"
        if not self.venv:
            return f"has no venv or ensurepip (Debian: apt-get install python{minor}-venv)"
        if not self.headers:
            return f"has no Python.h (Debian: apt-get install python{minor}-dev)"
        return None


@dataclass
class Row:
    """One line of the table."""

    version: str
    outcome: str
    detail: str
    failed: bool = False


def candidates() -> list[str]:
    """Paths that may be a Python, without the doubles that are the same file."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], OLDEST[1] + 10)]
    found = [which for name in names if (which := shutil.which(name))]
    environ = {"HOME": os.path.expanduser("~"), "PYENV_ROOT": os.environ.get("PYENV_ROOT") or "/nonexistent"}
    for place in PLACES:
        found += [path for path in sorted(glob.glob(place.format(**environ))) if re.search(r"python3(\.\d+)?$", path)]
    return list({os.path.realpath(path): path for path in [sys.executable, *found]}.values())


def probe(path: str) -> Interpreter | None:
    """Ask the Python at ``path`` who it is; None for one that does not start (a shim of pyenv may not)."""
    try:
        done = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=True)
        fields = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(**{**fields, "version": tuple(fields["version"])})


def classified() -> list[str]:
    """The versions that weft names in its classifiers."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())


def choose(found: list[Interpreter], expected: list[str]) -> tuple[list[Interpreter], list[Row]]:
    """The newest usable Python of each minor version, and a row for each one that is passed over or missing."""
    chosen: dict[tuple[int, int], Interpreter] = {}
    rows = []
    for python in sorted(found, key=lambda python: (python.debug, tuple(-part for part in python.version))):
        minor = python.version[:2]
        if minor < OLDEST or python.virtual:
            continue
        if reason := python.obstacle():
            rows.append(Row(python.name, "not run", f"{python.path} {reason}"))
        elif minor in chosen:
            rows.append(
                Row(python.name, "not run", f"{python.path}: {chosen[minor].name} stands for {minor[0]}.{minor[1]}")
            )
        else:
            chosen[minor] = python
    seen = {row.version.rsplit(".", 1)[0] for row in rows} | {f"{major}.{minor}" for major, minor in chosen}
    rows += [Row(version, "not run", "no such Python is installed here") for version in expected if version not in seen]
    return [chosen[minor] for minor in sorted(chosen)], rows


def run(python: Interpreter, target: str, venvs: Path) -> Row:
    """``make target`` with ``python`` in a venv of its own; the output goes to the screen and to a log."""
    minor = f"{python.version[0]}.{python.version[1]}"
    log = ROOT / "build" / "logs" / f"{target}-{minor}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["make", "-C", str(ROOT), f"PYTHON={python.path}", f"VENV={venvs / f'.venv-{minor}'}", target]
    if arguments := os.environ.get("ARGS"):
        command.append(f"ARGS={arguments}")
    # The variables of the make that started this one would overrule the ones given here.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    print(f"\n== {python.name}: make {target} ({python.path})", flush=True)
    started = time.monotonic()
    last = ""
    with (
        log.open("w") as copy,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, env=environ
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            copy.write(line)
            if line.strip() and not line.startswith("make"):
                last = " ".join(line.strip(" =\n").split())
    took = f"{time.monotonic() - started:.0f} s"
    if process.returncode:
        return Row(
            python.name, "FAILED", f"exit {process.returncode} after {took}: {last} (see {log.relative_to(ROOT)})", True
        )
    return Row(python.name, "passed", f"{last} [{took}]")


def main() -> int:
    """The command. Returns 0 when at least one Python ran and none failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--make-target", default="test", help="what to make under each Python (default: test)")
    parser.add_argument("--venvs", type=Path, default=ROOT, help="where the .venv-3.N go (default: the repository)")
    parser.add_argument("--list", action="store_true", help="only say which Pythons would be used")
    parser.add_argument("--expect", nargs="*", default=classified(), metavar="3.N", help="what to miss in the table")
    options = parser.parse_args()
    chosen, rows = choose([python for path in candidates() if (python := probe(path))], options.expect)
    if options.list:
        rows += [Row(python.name, "would run", python.path) for python in chosen]
    else:
        rows += [run(python, options.make_target, options.venvs) for python in chosen]
    print(f"\n== make {options.make_target}, by Python")
    for row in sorted(rows, key=lambda row: [int(part) for part in re.findall(r"\d+", row.version)]):
        print(f"{row.version:<18} {row.outcome:<10} {row.detail}")
    if not chosen:
        print("nothing was run: no CPython >= 3.11 that can build weft was found")
    return 1 if not chosen or any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
