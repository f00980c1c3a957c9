"""Compiles the core in place and installs weft, editable, into the environment whose Python runs this file.

Owns the ``.so`` files under ``src/weft`` that carry this Python's ABI tag. Its invariant: an extension is
replaced by renaming a finished file over it, never by writing into it, because a running process may have it mapped.
Nothing is compiled unless a ``.py``, ``.pxd`` or ``.h`` of the core, or how it is built, has changed.
Called by the Makefile before every chore that runs weft.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
STAMP = ROOT / "build" / f"compiled{SUFFIX}.stamp"
INSTALLED = Path(sys.prefix) / ".weft.installed"
PLATFORM = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
BUILD_LIB = ROOT / "build" / f"lib.{PLATFORM}"
BUILD_TEMP = ROOT / "build" / f"temp.{PLATFORM}"


def digest(paths: list[Path]) -> str:
    """One hash over the names and contents of ``paths``."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()


def core_sources() -> list[Path]:
    """What the extensions are made from."""
    found = [path for pattern in ("*.pxd", "*.h") for path in SOURCE.rglob(pattern)]
    return sorted([*found, *(path.with_suffix(".py") for path in found if path.with_suffix(".py").exists())])


def expected() -> list[Path]:
    """The extensions that should stand in the source tree: setup.py's rule, a ``.py`` with a ``.pxd`` beside it."""
    return [
        path.with_name(path.stem + SUFFIX) for path in sorted(SOURCE.rglob("*.pxd")) if path.with_suffix(".py").exists()
    ]


def run(command: list[str], environ: dict[str, str] | None = None) -> None:
    """Run a step of the build; its failure ends this program with its exit code and no traceback."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)


def place(built: Path, final: Path) -> None:
    """Put a copy of ``built`` at ``final`` in one step; leave an equal file alone."""
    if final.exists() and final.read_bytes() == built.read_bytes():
        return
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.")
    os.close(handle)
    shutil.copyfile(built, name)
    shutil.copymode(built, name)
    os.replace(name, final)


def compile_core() -> None:
    """Bring the extensions up to date with the sources."""
    # How it is compiled and what: when the first changes, file times do not tell that everything is out of date.
    how = f"{digest([ROOT / 'setup.py'])} Cython {metadata.version('cython')}"
    wanted = f"{how}\n{digest(core_sources())}\n"
    had = STAMP.read_text() if STAMP.exists() else ""
    finals = expected()
    if had == wanted and all(final.exists() for final in finals):
        return
    print(f"weft: compiling the core for Python {sys.version.split()[0]}", flush=True)
    if had.partition("\n")[0] != how:
        for folder in (BUILD_LIB, BUILD_TEMP, ROOT / "build" / "cython"):
            shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(BUILD_LIB), "--build-temp", str(BUILD_TEMP)])
    for final in finals:
        place(BUILD_LIB / final.relative_to(SOURCE), final)
    # A module that is gone must not be imported from what was compiled of it.
    for orphan in set((SOURCE / "weft").rglob(f"*{SUFFIX}")) - set(finals):
        orphan.unlink()
    STAMP.write_text(wanted)


def install() -> None:
    """Install weft, editable, unless that was done with this pyproject.toml."""
    wanted = digest([ROOT / "pyproject.toml", ROOT / "setup.py"])
    if INSTALLED.exists() and INSTALLED.read_text() == wanted:
        return
    print(f"weft: installing weft into {sys.prefix}", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*command, "--no-build-isolation", "--no-deps", "--editable", "."], {"WEFT_COMPILE": "0"})
    INSTALLED.write_text(wanted)


if __name__ == "__main__":
    STAMP.parent.mkdir(exist_ok=True)
    with STAMP.with_name("lock").open("w") as lock:
        # Builds for several Pythons share what Cython makes.
        fcntl.flock(lock, fcntl.LOCK_EX)
        compile_core()
        install()
