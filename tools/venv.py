"""Makes the virtual environment that the Makefile works in, and installs into it what a chore needs.

Owns the folder it is given. Its invariant: a stamp in the environment is written last and holds the exact list of
requirements, so an interrupted or outdated install is done again and a complete one costs nothing.
Called by the Makefile with the Python that the environment is to be made from; needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """What the build and the ``extras`` of pyproject.toml ask for; an extra may name others as ``weft[other]``."""
    table = project["project"]
    wanted = [*project["build-system"]["requires"], *table["dependencies"]]
    pending, seen = list(extras), set()
    while pending:
        extra = pending.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in table["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{table['name']}\[([\w,-]+)\]", requirement)
            if own:
                pending += own[1].split(",")
            else:
                wanted.append(requirement)
    return sorted(set(wanted))


def missing_tools() -> list[str]:
    """What this machine lacks to make the environment and to compile, each with its remedy."""
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    problems = []
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        problems.append(f"{sys.executable} has no venv (Debian: apt-get install python{minor}-venv)")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        problems.append(f"{sys.executable} has no Python.h (Debian: apt-get install python{minor}-dev)")
    if not shutil.which(os.environ.get("CC", "cc").split()[0]) and not shutil.which("gcc"):
        problems.append("there is no C compiler (Debian: apt-get install gcc libc6-dev)")
    return problems


def ensure_venv(folder: Path) -> None:
    """Make the environment in ``folder``; make it anew when another Python made it."""
    python = folder / "bin" / "python"
    if python.exists() and python.resolve() == Path(sys.executable).resolve():
        return
    if problems := missing_tools():
        sys.exit("weft cannot be built here:\n" + "\n".join(f"  - {problem}" for problem in problems))
    print(f"weft: making {folder} with Python {sys.version.split()[0]}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)


def ensure_installed(folder: Path, name: str, wanted: list[str], *, optional: bool = False) -> None:
    """Install ``wanted`` unless the stamp ``name`` says that it is there; an ``optional`` list may fail."""
    stamp = folder / f".{name}.installed"
    text = "\n".join(wanted)
    if stamp.exists() and stamp.read_text() == text:
        return
    print(f"weft: installing into {folder} what {name} needs", flush=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if optional:
        # Nobody should wait for a peer of weft to be compiled: it is for comparison only.
        command += ["--only-binary", ":all:"]
    done = subprocess.run([*command, *wanted], check=False, stdin=subprocess.DEVNULL)
    if done.returncode and not optional:
        sys.exit(f"weft: pip could not install what {name} needs: {', '.join(wanted)}")
    if done.returncode:
        # One of them that has no wheel for this Python must not keep the others away.
        failed = [one for one in wanted if subprocess.run([*command, one], check=False, **QUIET).returncode]
        print(f"weft: goes on without a part of {name}: pip could not install {', '.join(failed)}", flush=True)
    stamp.write_text(text)


def main() -> None:
    """The command: ``venv.py FOLDER EXTRA... [--try EXTRA]``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--try", dest="attempts", action="append", default=[], help="an extra that may be missing")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ensure_venv(options.folder)
    ensure_installed(options.folder, "+".join(options.extras) or "build", requirements(project, options.extras))
    for extra in options.attempts:
        ensure_installed(options.folder, extra, project["project"]["optional-dependencies"][extra], optional=True)


if __name__ == "__main__":
    main()
