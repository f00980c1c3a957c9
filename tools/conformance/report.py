"""Puts verdicts into words: the table on the terminal, the JSON, and the tables of ``docs/conformance.md``.

The invariant: ``docs/conformance.md`` between its markers is a function of ``results/*.json`` and ``exclusions.toml``
(a test checks that it is up to date). Called by ``__main__`` and by ``tests/conformance``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.conformance.exclusions import OWN_TARGETS, Exclusion
from tools.conformance.verdict import Verdict, total

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
DOCS = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
LAST_LINES = 12  # of a failing test's traceback on the terminal, unless all is asked for


def as_json(verdict: Verdict, details: bool = False) -> dict[str, Any]:
    """A verdict as plain data; ``details`` adds the tracebacks of what failed at least once."""
    data: dict[str, Any] = {
        "passed": verdict.passed,
        "valid": verdict.valid,
        "on_loop": verdict.on_loop,
        "excluded": sorted(verdict.excluded),
        "failed": sorted(verdict.failed),
        "broken": sorted(verdict.broken),
    }
    if details:
        data["stale"] = sorted(verdict.stale)
        data["retried"] = sorted(verdict.retried)
        data["details"] = {
            test: {"outcome": outcome.word, "detail": outcome.detail, "seconds": outcome.seconds}
            for test, outcome in sorted((verdict.failed | verdict.broken | verdict.retried).items())
        }
    return data


def table(title: str, verdicts: Sequence[Verdict]) -> str:
    """The table of one interpreter and target, as text."""
    lines = [title, f"{'module':28}{'passed':>8}{'valid':>8}{'on loop':>9}{'excluded':>10}  not passed"]
    for verdict in [*verdicts, total(verdicts)]:
        prefix = f"{verdict.module}."
        names = [f"{test.removeprefix(prefix)} ({outcome.word})" for test, outcome in verdict.failed.items()]
        if verdict.module == "total":
            names = [f"{len(names)}"] if names else []
        lines.append(
            f"{verdict.module:28}{verdict.passed:8}{verdict.valid:8}{verdict.on_loop:9}{len(verdict.excluded):10}"
            f"  {', '.join(names)}".rstrip()
        )
    return "\n".join(lines)


def remarks(verdicts: Sequence[Verdict], unmatched: Iterable[str], verbose: bool) -> str:
    """What is to be said below the table: failures, stale exclusions, what stock fails, what needed two attempts."""
    lines: list[str] = []
    for verdict in verdicts:
        for test, outcome in verdict.failed.items():
            text = outcome.detail.strip().splitlines()
            shown = text if verbose else text[-LAST_LINES:]
            lines += [f"FAILED {test} ({outcome.word}, {outcome.seconds:.1f} s)", *(f"    {line}" for line in shown)]
        lines += [f"STALE  {test} is in exclusions.toml, and passes: remove it there" for test in verdict.stale]
        lines += [
            f"note   {test} fails on stock asyncio here ({o.word}): not counted" for test, o in verdict.broken.items()
        ]
        lines += [f"note   {test} passed at the second attempt" for test in verdict.retried]
    lines += [f"STALE  {glob} in exclusions.toml matches no test: correct or remove it" for glob in unmatched]
    return "\n".join(lines)


def save(version: str, targets: Mapping[str, Mapping[str, Any]], directory: Path = RESULTS) -> Path:
    """Writes the results of one interpreter; targets that were not run now keep what the file says of them."""
    path = directory / f"{'.'.join(version.split('.')[:2])}.json"
    old = json.loads(path.read_text())["targets"] if path.exists() else {}
    data = {"python": version, "targets": dict(sorted((old | dict(targets)).items()))}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path


def load(directory: Path = RESULTS) -> list[dict[str, Any]]:
    """The committed results, oldest Python first."""
    results = [json.loads(path.read_text()) for path in directory.glob("*.json")]
    return sorted(results, key=lambda result: tuple(int(part) for part in result["python"].split(".")[:2]))


def _sums(modules: Mapping[str, Mapping[str, Any]]) -> tuple[int, int, int, int]:
    rows = modules.values()
    return (
        sum(row["passed"] for row in rows),
        sum(row["valid"] for row in rows),
        sum(row["on_loop"] for row in rows),
        sum(len(row["excluded"]) for row in rows),
    )


def _totals_table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| Python | target | passed / valid | of them with a loop of the target | excluded |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        for name, target in result["targets"].items():
            passed, valid, on_loop, excluded = _sums(target["modules"])
            title = f"{name} {target['version']}" if name == "uvloop" else name
            lines.append(f"| {result['python']} | {title} | **{passed} / {valid}** | {on_loop} | {excluded} |")
    return lines


def _modules_table(results: Sequence[Mapping[str, Any]], target: str) -> list[str]:
    columns = [result for result in results if target in result["targets"]]
    modules = sorted({module for result in columns for module in result["targets"][target]["modules"]})
    head = " | ".join(result["python"] for result in columns)
    lines = [f"| module | {head} |", "|---" * (len(columns) + 1) + "|"]
    for module in modules:
        cells = []
        for result in columns:
            row = result["targets"][target]["modules"].get(module)
            excluded = f" ({len(row['excluded'])} excluded)" if row and row["excluded"] else ""
            cells.append(f"{row['passed']} / {row['valid']}{excluded}" if row else "-")
        lines.append(f"| {module} | {' | '.join(cells)} |")
    return lines


def _failures(results: Sequence[Mapping[str, Any]], target: str) -> list[str]:
    failures = [
        f"- {result['python']}: `{test}`"
        for result in results
        for row in result["targets"].get(target, {"modules": {}})["modules"].values()
        for test in row["failed"]
    ]
    return failures or ["None."]


def _exclusions_table(entries: Sequence[Exclusion]) -> list[str]:
    lines = ["| tests | Python | kind | reason |", "|---|---|---|---|"]
    for entry in entries:
        tests = "<br>".join(f"`{glob}`" for glob in entry.tests)
        only = "" if len(entry.targets) == len(OWN_TARGETS) else f" ({' and '.join(entry.targets)} only)"
        lines.append(f"| {tests} | {entry.python or 'all'}{only} | {entry.kind} | {entry.reason} |")
    return lines


def markdown(results: Sequence[Mapping[str, Any]], entries: Sequence[Exclusion]) -> str:
    """The generated part of ``docs/conformance.md``."""
    parts = [
        ["## The figure", "", *_totals_table(results)],
        ["## By module: weft", "", *_modules_table(results, "weft")],
        [
            "## Valid tests that weft does not pass",
            "",
            *(line for target in OWN_TARGETS for line in _failures(results, target)),
        ],
        ["## What is not asked of weft", "", *_exclusions_table(entries)],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def spliced(page: str, generated: str) -> str:
    """``page`` with what stands between its markers replaced by ``generated``.

    Raises:
        ValueError: the page lacks a marker.
    """
    if BEGIN not in page or END not in page:
        raise ValueError(f"{DOCS} must contain the lines {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{generated}\n{END}{rest.partition(END)[2]}"


def write_docs(entries: Sequence[Exclusion]) -> None:
    """Brings ``docs/conformance.md`` up to date with the committed results."""
    DOCS.write_text(spliced(DOCS.read_text(), markdown(load(), entries)))
