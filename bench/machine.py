"""What stands beside every result: the machine and the software, without naming the machine.

The invariant: nothing here identifies a host, a user or a path.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import sys
from pathlib import Path


def describe(versions: dict[str, str]) -> dict[str, object]:
    """The circumstances of a run: Python, kernel, processor, versions of what is measured, time and load."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "kernel": f"{platform.system()} {kernel_version(platform.release())}",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def kernel_version(release: str) -> str:
    """The numbers of a kernel release: what follows them may be the name of a site's own build."""
    found = re.match(r"\d+(\.\d+)*", release)
    return found.group() if found else release


def cpu_model() -> str:
    """The processor's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def result_name() -> str:
    """The stem of the results file for this Python and kind of machine, such as ``cpython-3.12-x86_64-amd-epyc-2``."""
    implementation = platform.python_implementation().lower()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    free_threaded = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else "t"
    cpu = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)|@.*|\bCPU\b|\bProcessor\b", "", cpu_model()).lower()).strip("-")
    cores = len(os.sched_getaffinity(0))
    return f"{implementation}-{version}{free_threaded}-{platform.machine()}-{cpu}-{cores}"


def cores() -> tuple[int, int]:
    """The core for the program under test and the core for what loads it; the same when there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[0], mine[-1]
