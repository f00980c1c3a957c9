"""What it takes to start: the whole process, from ``fork`` to exit.

Each measurement starts the same small program several times and takes the median, so that one slow ``fork`` says
nothing. The program uses what the package itself recommends (``Contender.snippet``).
"""

from __future__ import annotations

import os
import statistics
import sys
from time import perf_counter

from bench import machine
from bench.contenders import FIELD, LOOPS
from bench.model import Case, Metric, Sample, paragraph, register

PROGRAM = "async def main(): pass\n"
FEWEST_STARTS = 3

METRICS = (Metric("ms", "ms"), Metric("cpu_ms", "CPU ms", compared=True))


def measure(contender: str, budget: float) -> Sample:
    """`python -c` of a program that imports the package, runs `async def main(): pass` by the package's own `run`
    (`asyncio.Runner` where it has none) and exits: wall-clock time and processor time of the whole process, the
    interpreter's own start (the same for all) included.
    """
    os.sched_setaffinity(0, {machine.cores()[0]})
    program = PROGRAM + LOOPS[contender].snippet
    start_once(program)  # fills the page cache and writes the .pyc files
    deadline = perf_counter() + budget
    starts: list[tuple[float, float]] = []
    while perf_counter() < deadline or len(starts) < FEWEST_STARTS:
        starts.append(start_once(program))
    return {
        "ms": statistics.median(wall for wall, _ in starts) * 1e3,
        "cpu_ms": statistics.median(cpu for _, cpu in starts) * 1e3,
    }


def start_once(program: str) -> tuple[float, float]:
    """Wall-clock and processor seconds of one process that runs ``program``.

    Raises:
        RuntimeError: it failed.
    """
    # A package that could never write its .pyc files would be compiled at each start, which no user sees.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], environment)
    _, status, usage = os.wait4(pid, 0)
    wall = perf_counter() - start
    if status != 0:
        raise RuntimeError(f"the program ended with status {os.waitstatus_to_exitcode(status)}:\n{program}")
    return wall, usage.ru_utime + usage.ru_stime


register(
    Case(
        "startup.noop",
        "import, run a noop, exit",
        paragraph(measure),
        FIELD,
        METRICS,
        measure,
        seconds=1.0,
        quick=True,
    )
)
