"""The C programs that load a server, or are the floor it is compared with; compiled on demand into ``build/bench``.

The invariant: a program is rebuilt when its source, or a header, is newer, and a half-written one is never run (it is
compiled beside and then renamed). Called by the cases that need a load.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from bench.store import ROOT

SOURCES = Path(__file__).parent
FLAGS = ("-O2", "-Wall", "-Wextra", "-std=gnu11")


def program(name: str, *, tls: bool = False) -> Path:
    """The path of the program made from ``bench/load/NAME.c``.

    Args:
        name: of the source, without its suffix.
        tls: compile it with ``WITH_TLS``, for which libssl's headers are needed.

    Raises:
        RuntimeError: there is no C compiler, or it refused.
    """
    source = SOURCES / f"{name}.c"
    variant = "-tls" if tls else ""
    target = ROOT / "build" / "bench" / f"{name}{variant}-{sysconfig.get_platform()}"
    flags, libraries = ([*FLAGS, "-DWITH_TLS"], ["-lssl", "-lcrypto"]) if tls else ([*FLAGS], [])
    newest = max(path.stat().st_mtime for path in (source, *SOURCES.glob("*.h")))
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError(f"{source.name} needs a C compiler (cc, gcc or clang): install gcc")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")
    command: list[str | Path] = [compiler, *flags, "-o", fresh, source, *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
    fresh.replace(target)
    return target
