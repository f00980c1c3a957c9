"""The command ``python -m tools.conformance``: runs CPython's asyncio tests on a target and on stock, and compares.

The invariant: exit status 0 means that every valid test of everything that was asked for passed and that no exclusion
is untrue; 1 means a regression; 2 that something could not be run. ``make conformance`` calls it without arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools.conformance import exclusions, interpreters, report
from tools.conformance.interpreters import Interpreter
from tools.conformance.modules import MODULES, MODULES_OF, SLOWEST_FIRST
from tools.conformance.supervise import Job, Outcomes, retry_failed, run_module
from tools.conformance.targets import TARGETS
from tools.conformance.verdict import Verdict, judge, total, unmatched

OURS = ("stock", *exclusions.OWN_TARGETS)
PEER_LIMIT = 10.0  # seconds for a test of a peer, which may well hang: it is shown beside ours, and nobody waits for it
EXIT_CLEAN, EXIT_REGRESSION, EXIT_NOT_RUN = 0, 1, 2


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter to test; repeatable "
                        "(default: this one, and those in .venv-3.*/)")  # fmt: skip
    parser.add_argument("--target", action="append", choices=TARGETS, help="repeatable (default: all of weft)")
    parser.add_argument("--module", action="append", choices=MODULES, help="repeatable (default: all)")
    parser.add_argument("--test", action="append", metavar="GLOB", help='only tests like "test_tasks.*.test_wait*"')
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="modules run at a time")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="a test that takes longer hangs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, with tracebacks")
    parser.add_argument("--save", action="store_true", help="keep the results and bring docs/conformance.md up to date")
    parser.add_argument("--docs", action="store_true", help="only bring docs/conformance.md up to date")
    parser.add_argument("--verbose", action="store_true", help="whole tracebacks")
    options = parser.parse_args(argv)
    if options.save and (options.test or options.module):
        parser.error("--save keeps whole runs: leave out --test and --module")
    return options


def plan(python: Interpreter, targets: Sequence[str], options: argparse.Namespace) -> list[Job]:
    """The jobs for one interpreter: the baseline, then each target, slow modules first."""
    chosen = options.module or (MODULES_OF.get(targets[0], MODULES) if len(targets) == 1 else MODULES)
    ordered = sorted(
        chosen, key=lambda name: SLOWEST_FIRST.index(name) if name in SLOWEST_FIRST else len(SLOWEST_FIRST)
    )
    limits = {target: options.limit if target in OURS else min(options.limit, PEER_LIMIT) for target in TARGETS}
    return [
        Job(python.path, target, module, tuple(options.test or ()), limit=limits[target])
        for module in ordered
        for target in ("stock", *targets)
        if module in MODULES_OF.get(target, MODULES)
    ]


def execute(jobs: Sequence[Job], parallel: int) -> dict[str, dict[str, Outcomes]]:
    """Runs the jobs; the outcomes by target and module. Tells on stderr how far it is."""

    def one(job: Job) -> Outcomes:
        outcomes = retry_failed(job, run_module(job))
        failures = sum(not outcome.ok and outcome.word != "skipped" for outcome in outcomes.values())
        if outcomes:
            print(f"  {job.target:11} {job.module:24} {len(outcomes):4} tests, {failures} failed", file=sys.stderr)
        return outcomes

    results: dict[str, dict[str, Outcomes]] = {}
    with ThreadPoolExecutor(parallel) as pool:
        for job, outcomes in zip(jobs, pool.map(one, jobs), strict=True):
            results.setdefault(job.target, {})[job.module] = outcomes
    return results


class Session:
    """What one call of the command has found out so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.entries = exclusions.load()
        self.status = EXIT_CLEAN
        self.json: dict[str, Any] = {}

    def run(self, python: Interpreter) -> None:
        """Tests one interpreter, and prints what came out."""
        wanted = self.options.target or list(exclusions.OWN_TARGETS)
        reasons = {target: python.lacks(target) for target in ("stock", *wanted)}
        for target, reason in reasons.items():
            if reason is not None:
                print(f"Python {python.version} ({python.path}): {target} is not tested: {reason}")
                self.status = max(self.status, EXIT_NOT_RUN)
        targets = [target for target in wanted if reasons[target] is None and reasons["stock"] is None]
        if not targets:
            return
        print(f"Python {python.version} ({python.path}): {', '.join(targets)}", file=sys.stderr)
        results = execute(plan(python, [name for name in targets if name != "stock"], self.options), self.options.jobs)
        kept = {target: self.compare(python, target, results) for target in targets if target in results}
        self.json[python.version] = kept
        if self.options.save:
            plain = {
                name: {"version": data["version"], "modules": {m: _bare(row) for m, row in data["modules"].items()}}
                for name, data in kept.items()
                if name != "stock"
            }
            print(f"saved {report.save(python.version, plain)}")

    def compare(self, python: Interpreter, target: str, results: dict[str, dict[str, Outcomes]]) -> dict[str, Any]:
        """Judges one target, prints its table, and returns it as data."""
        stock = {module: outcomes for module, outcomes in results["stock"].items() if outcomes}
        entries = exclusions.applicable(self.entries, python.minor, target)
        own = target in exclusions.OWN_TARGETS
        modules = [module for module in MODULES if module in stock and module in results[target]]
        verdicts = [judge(module, stock[module], results[target][module], entries) for module in modules]
        if not own:
            _forgive(verdicts)
        whole = {module: stock[module] for module in modules}
        stale = unmatched(entries, whole) if own and not self.options.test else []
        print(report.table(f"\nPython {python.version}, {target}", verdicts))
        if text := report.remarks(verdicts, stale, self.options.verbose) if own else "":
            print(text)
        if own and (stale or not all(verdict.clean for verdict in verdicts)):
            self.status = max(self.status, EXIT_REGRESSION)
        sums = total(verdicts)
        return {
            "version": python.packages.get(target.partition("+")[0]),
            "passed": sums.passed,
            "valid": sums.valid,
            "unmatched": stale,
            "modules": {verdict.module: report.as_json(verdict, details=True) for verdict in verdicts},
        }


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("details", "stale", "retried")}


def _forgive(verdicts: Sequence[Verdict]) -> None:
    """For a peer: what its run skips (there is no virtual clock for it) is not asked of it; no exclusion is stale."""
    for verdict in verdicts:
        skipped = [test for test, outcome in verdict.failed.items() if outcome.word == "skipped"]
        for test in skipped:
            del verdict.failed[test]
        verdict.valid -= len(skipped)
        verdict.stale.clear()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = parse(argv)
    session = Session(options)
    if not options.docs:
        for python in interpreters.gather(options.python or interpreters.found()):
            session.run(python)
    if options.json:
        options.json.write_text(json.dumps(session.json, indent=1) + "\n")
    if options.save or options.docs:
        report.write_docs(session.entries)
    return session.status


if __name__ == "__main__":
    sys.exit(main())
