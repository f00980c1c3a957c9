"""Instructions per operation, by valgrind: ``python -m bench.instructions CASE CONTENDER [--top N]``.

For finding out *why* a case costs what it costs, on a machine too noisy to time anything. The case is run twice under
``valgrind --tool=callgrind``, with few and with many operations; the difference divided by the number of additional
operations is what one operation executes in user space, function by function, without start-up. System calls count
as one instruction each, and caches and branch predictors not at all: compare counts, not contenders' speed.
Takes the scheduler cases and the echo cases (the server is counted). Called by people.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import bench.cases  # noqa: F401  registers every case
from bench.cases.tcp import SERVED
from bench.contenders import LOOPS
from bench.load import program
from bench.serve import python_server, serving
from bench.store import ROOT
from bench.timing import BODIES, multiple_of_batch

FEW, MANY = 2_000, 12_000
LINE = re.compile(r"\s*([\d,]+)\s+\([^)]*\)\s+(\S+?):(.+?)(?: \[.*\])?$")


def main(arguments: Sequence[str]) -> None:
    """Count and print the table."""
    options = argparse.ArgumentParser(prog="python -m bench.instructions", description="Instructions per operation.")
    options.add_argument("case", choices=[*BODIES, *SERVED], metavar="CASE")
    options.add_argument("contender", choices=list(LOOPS), metavar="CONTENDER")
    options.add_argument("--top", type=int, default=30, help="functions to show (30)")
    options.add_argument("--body", type=int, metavar="COUNT", help=argparse.SUPPRESS)
    given = options.parse_args(arguments)
    if given.body is not None:
        run_body(given.case, given.contender, given.body)
        return
    few, many = (counts_of(given.case, given.contender, count) for count in (FEW, MANY))
    operations = size_of(given.case, MANY) - size_of(given.case, FEW)
    many.subtract(few)
    print(f"{given.case} on {given.contender}: {many.total() / operations:,.0f} instructions per operation")
    for function, count in many.most_common(given.top):
        print(f"{count / operations:10,.1f}  {function}")


def size_of(case: str, count: int) -> int:
    """The number of operations that are really done when ``count`` are asked for."""
    return multiple_of_batch(count, BODIES[case][1]) if case in BODIES else count


def run_body(case: str, contender: str, count: int) -> None:
    """What runs under valgrind for a scheduler case."""
    body, _ = BODIES[case]

    async def run() -> None:
        await body(size_of(case, count))

    LOOPS[contender].run(run())


def counts_of(case: str, contender: str, count: int) -> Counter[str]:
    """Instructions by function of a whole process that does ``count`` operations."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet"]
        if case in BODIES:
            worker = [sys.executable, "-m", "bench.instructions", case, contender, "--body", str(count)]
            subprocess.run([*valgrind, *worker], cwd=ROOT, check=True)
        else:
            function, generator, load = SERVED[case]
            load_server([*valgrind, *python_server(contender, function)], generator, load, count)
        annotate = ["callgrind_annotate", "--auto=no", "--threshold=100", str(out)]
        return parse(subprocess.run(annotate, capture_output=True, text=True, check=True).stdout)


def load_server(command: list[str], generator: str, load: list[str], count: int) -> None:
    """Start a server under valgrind, have it answer ``count`` messages, and end it so that valgrind writes."""
    with serving(command) as server:
        words = ["--port", str(server.address["port"]), "--warmup-ms", "1", "--duration-ms", "600000"]
        subprocess.run([program(generator), *words, *load, "--messages", str(count)], check=True, capture_output=True)
        server.process.terminate()
        server.process.wait()


def parse(text: str) -> Counter[str]:
    """The exclusive costs of ``callgrind_annotate`` by function, recursion and inlined headers included."""
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        found = LINE.match(line)
        if found:
            counts[found[3].partition("'")[0]] += int(found[1].replace(",", ""))
    return counts


if __name__ == "__main__":
    main(sys.argv[1:])
