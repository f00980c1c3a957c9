"""The command: ``python -m bench`` from the root of the repository (``make bench``).

It chooses cases and contenders, has the runner measure, prints the tables, and writes what is asked for.
Exit status: 0, 1 when a measurement failed or the page is out of date, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import bench.cases  # noqa: F401  registers every case
from bench import machine, page, report, runner, store
from bench.choice import Choice, choose, everyone
from bench.model import Case, select

ROUNDS = 3
QUICK_ROUNDS = 2
QUICK_SCALE = 0.4
BUSY_LOAD = 0.5


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compare event loops and HTTP clients: interleaved rounds, a fresh process per measurement.",
        epilog="Takes about ten minutes by default, four of them for HTTP clients; about a minute with --quick.",
    )
    options.add_argument("--cases", action="append", default=[], metavar="NAME,...", help="parts of names, or patterns")
    options.add_argument("--contenders", metavar="NAME,...", help="see --list (all installed ones)")
    options.add_argument("--rounds", type=int, help=f"({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    options.add_argument("--scale", type=float, help="multiplies the time of each measurement (1)")
    options.add_argument("--quick", action="store_true", help="the main cases only, short")
    options.add_argument("--json", type=Path, metavar="FILE", help="write all samples to a file")
    options.add_argument("--save", action="store_true", help="put the results in bench/results/ and docs/benchmarks.md")
    options.add_argument("--list", action="store_true", help="name the cases and contenders, and stop")
    options.add_argument("--write-docs", action="store_true", help="make the page from the committed results, and stop")
    options.add_argument("--check-docs", action="store_true", help="fail if the page is out of date, and stop")
    return options


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    if options.check_docs:
        return check_docs()
    if options.write_docs:
        page.write()
        return 0
    try:
        cases = select(_names(options.cases), quick=options.quick)
        if options.list:
            return list_all(cases)
        choice = choose(cases, None if options.contenders is None else _names([options.contenders]))
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    return measure(options, choice)


def measure(options: argparse.Namespace, choice: Choice) -> int:
    """Measure, print, save; returns the exit status."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    scale = options.scale or (QUICK_SCALE if options.quick else 1.0)
    circumstances = machine.describe(choice.versions)
    announce(circumstances, choice, rounds)
    start = perf_counter()
    outcome = runner.run(choice.cases, choice.names, rounds=rounds, scale=scale, on_sample=Progress(choice, rounds))
    print(f"\r\033[K{perf_counter() - start:.0f} s", file=sys.stderr)
    settings: dict[str, object] = {"rounds": rounds, "scale": scale}
    run = store.make_run(circumstances, settings, outcome.samples, outcome.errors)
    report.print_all(store.results([run]))
    for error in outcome.errors:
        print(f"failed: {error}", file=sys.stderr)
    if options.json:
        store.save(options.json, [run])
    if options.save:
        target = store.RESULTS / f"{machine.result_name()}.json"
        store.save(target, store.merge(store.load(target), run))
        page.write()
        print(f"\nsaved as {target.relative_to(store.ROOT)}; {page.PAGE.relative_to(store.ROOT)} is up to date")
    return 1 if outcome.errors else 0


def check_docs() -> int:
    """Say whether the page is true."""
    if page.is_current():
        return 0
    print("docs/benchmarks.md is not what bench/results/ makes it: run `python -m bench --write-docs`", file=sys.stderr)
    return 1


def list_all(cases: list[Case]) -> int:
    """Print the cases and the contenders."""
    for case in cases:
        print(f"{case.name:32}{case.title}")
    for name, contender in everyone(cases).items():
        versions = ", ".join(f"{package} {version}" for package, version in contender.versions().items())
        print(f"{name:32}{contender.missing() or versions}")
    return 0


def announce(circumstances: dict[str, object], choice: Choice, rounds: int) -> None:
    """Say on standard error what is about to happen, what is left out, and whether the machine is quiet."""
    about = ", ".join(str(circumstances[key]) for key in ("python", "cpu", "kernel"))
    print(f"{about}; {len(choice.cases)} cases, {rounds} rounds, {', '.join(choice.names)}", file=sys.stderr)
    for words in choice.left_out:
        print(f"left out: {words}", file=sys.stderr)
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        print(f"the machine is busy (load average {load:.2f}): expect a wide spread", file=sys.stderr)


class Progress:
    """One line on a terminal that says what is being measured; silent elsewhere."""

    def __init__(self, choice: Choice, rounds: int) -> None:
        self.total = rounds * sum(len(case.field.entrants(choice.names)) for case in choice.cases)
        self.done = 0

    def __call__(self, text: str) -> None:
        self.done += 1
        if sys.stderr.isatty():
            print(f"\r\033[K{self.done}/{self.total}  {text}", end="", file=sys.stderr, flush=True)


def _names(lists: Sequence[str]) -> list[str]:
    return [name.strip() for words in lists for name in words.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
