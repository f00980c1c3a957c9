"""What the tests of faults share: the shim that fails system calls, and programs in processes of their own.

Invariant: whatever is made to fail fails in a child process, which is told how long it may live.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.core.kit import SCRIPT_LIMIT, SOURCES

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

MOVING = ("recv", "recvfrom", "recvmmsg", "read", "send", "sendto", "sendmsg", "sendmmsg", "write", "writev")


def rules(what: int | str, one_in: int, *calls: str) -> str:
    """A plan: one in ``one_in`` of each of ``calls`` fails with error ``what``, or moves fewer bytes ("short")."""
    return " ".join(f"{call}:{what}:{one_in}" for call in calls)


INTERRUPTED = rules(errno.EINTR, 3, *MOVING, "accept4", "connect", "epoll_wait")
WOULD_BLOCK = rules(errno.EAGAIN, 2, *MOVING, "accept4")
SHORT = rules("short", 2, *MOVING)


def compile_shim(folder: Path) -> Path:
    """Compile ``shim.c`` into ``folder``."""
    library = folder / "shim.so"
    command = ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(HERE / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=SCRIPT_LIMIT)
    return library


def preloaded(library: Path) -> dict[str, str]:
    """The environment of a child that loads ``library`` before libc, but after a sanitizer."""
    return {"LD_PRELOAD": " ".join(filter(None, (os.environ.get("LD_PRELOAD"), str(library))))}


@dataclass
class Verdict:
    """What ``workload.py`` has to say.

    Attributes:
        words: of each scenario "ok", or what it raised.
        reports: what the exception handler was told.
        struck: how often each rule of the plan struck.
        left: descriptors, threads and children at the end that were not there at the start.
    """

    words: dict[str, str]
    reports: list[str]
    struck: dict[str, int]
    left: list[str]


def run_workload(shim: Path, loop: str, plan: str, *scenarios: str, seed: int = 1) -> Verdict:
    """Run scenarios of ``workload.py`` (all, if none is named) on a loop ("weft", "asyncio") while ``plan`` strikes."""
    command = [sys.executable, "-X", "faulthandler", str(HERE / "workload.py"), loop, plan, str(seed), *scenarios]
    environ = {**os.environ, **preloaded(shim), "PYTHONPATH": f"{ROOT}:{SOURCES}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_LIMIT, env=environ, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return Verdict(**json.loads(done.stdout.splitlines()[-1]))
