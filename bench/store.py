"""Results in files: one JSON file per Python and kind of machine, in ``bench/results/``, which are committed.

A file holds runs; a run holds its circumstances (``machine.describe``) and the samples of its cases. The
invariant: each case stands in one run only, the newest, so measuring a few cases again replaces just these, and every
number keeps the circumstances under which it was taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"

DIGITS = 5  # significant digits that are kept: far below the spread of any measurement

Run = dict[str, Any]


@dataclass(frozen=True)
class CaseResult:
    """The samples of one case, and the circumstances of the run that they come from."""

    name: str
    rounds: dict[str, list[dict[str, float] | None]]
    circumstances: dict[str, Any]

    def values(self, contender: str, key: str) -> list[float | None]:
        """One value per round of a contender; None where a round failed, empty where it did not take part."""
        return [sample[key] if sample and key in sample else None for sample in self.rounds.get(contender, [])]


def make_run(
    circumstances: dict[str, object], settings: dict[str, object], samples: dict[str, Any], errors: list[str]
) -> Run:
    """A run as it is written, with numbers cut to ``DIGITS`` significant digits."""
    return {"circumstances": circumstances, "settings": settings, "cases": _rounded(samples), "errors": errors}


def merge(runs: list[Run], run: Run) -> list[Run]:
    """``runs`` and the new ``run``, whose cases replace the older ones; runs left without a case go."""
    kept = []
    for old in runs:
        cases = {name: rounds for name, rounds in old["cases"].items() if name not in run["cases"]}
        if cases:
            kept.append({**old, "cases": cases})
    return [*kept, run]


def results(runs: list[Run]) -> dict[str, CaseResult]:
    """The cases of all runs by name."""
    return {
        name: CaseResult(name, rounds, run["circumstances"]) for run in runs for name, rounds in run["cases"].items()
    }


def load(path: Path) -> list[Run]:
    """The runs of a file; none when there is no such file."""
    if not path.exists():
        return []
    runs: list[Run] = json.loads(path.read_text())["runs"]
    return runs


def save(path: Path, runs: list[Run]) -> None:
    """Write runs, one sample per line, so that a difference between two versions can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(runs))


def dumps(runs: list[Run]) -> str:
    """The text of a results file."""
    return _text({"runs": runs}, 0) + "\n"


def committed(folder: Path = RESULTS) -> Iterator[tuple[str, list[Run]]]:
    """The stems and runs of all results files, newest Python first."""
    files = sorted(folder.glob("*.json"), key=_by_version, reverse=True)
    for path in files:
        yield path.stem, load(path)


def _by_version(path: Path) -> tuple[list[int], str]:
    version = path.stem.split("-")[1].rstrip("t") if "-" in path.stem else ""
    return [int(part) for part in version.split(".") if part.isdigit()], path.stem


def _text(value: Any, depth: int) -> str:
    """JSON that opens containers of containers over lines, and keeps flat ones on one."""
    if isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values()):
        lines = (f"{json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items())
        return "{" + _lines(lines, depth) + "}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "[" + _lines((_text(item, depth + 1) for item in value), depth) + "]"
    return json.dumps(value, ensure_ascii=False)


def _lines(items: Iterator[str], depth: int) -> str:
    indent = "\n" + " " * (depth + 1)
    return indent + ("," + indent).join(items) + "\n" + " " * depth


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
