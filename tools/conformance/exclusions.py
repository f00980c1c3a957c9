"""Reads ``exclusions.toml``: the tests that are not asked of the target, each with its reason.

The invariant: every entry has a kind and a reason, and names what it covers; ``verdict`` fails an entry that has become
untrue. Called by ``__main__`` and by the generator of ``docs/conformance.md``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("exclusions.toml")
KINDS = ("private", "design")
OWN_TARGETS = ("weft", "weft+ctask", "weft+streams", "weft+accelerated")
KEYS = {"tests", "kind", "reason", "python", "targets"}


@dataclass(frozen=True)
class Exclusion:
    """One entry of the list."""

    tests: tuple[str, ...]
    kind: str
    reason: str
    python: str = ""
    targets: tuple[str, ...] = OWN_TARGETS

    def applies(self, version: tuple[int, int], target: str) -> bool:
        """Whether the entry is about this version of Python and this target.

        What no loop but the stock one can pass is not asked of a peer either; our own design decisions are no excuse
        for it.
        """
        if target not in self.targets and not (self.kind == "private" and target not in OWN_TARGETS):
            return False
        return all(_holds(version, condition.strip()) for condition in self.python.split(",") if condition.strip())

    def covers(self, test: str) -> bool:
        """Whether ``test``, a "module.Class.test", is one of those listed."""
        return any(fnmatchcase(test, glob) for glob in self.tests)


def _holds(version: tuple[int, int], condition: str) -> bool:
    for sign, holds in (
        (">=", version.__ge__),
        ("<", version.__lt__),
        ("==", version.__eq__),
    ):
        if condition.startswith(sign):
            major, _, minor = condition.removeprefix(sign).partition(".")
            return bool(holds((int(major), int(minor))))
    raise ValueError(f"condition {condition!r} on the Python version: write '>=3.12', '<3.14' or '==3.11'")


def _entry(number: int, raw: dict[str, Any]) -> Exclusion:
    where = f"{FILE.name}, entry {number}"
    if unknown := set(raw) - KEYS:
        raise ValueError(f"{where}: unknown key {sorted(unknown)}: the keys are {sorted(KEYS)}")
    if raw.get("kind") not in KINDS:
        raise ValueError(f"{where}: kind {raw.get('kind')!r} is not one of {KINDS}")
    if not raw.get("tests") or not str(raw.get("reason", "")).strip():
        raise ValueError(f"{where}: it needs both tests and a reason")
    entry = Exclusion(
        tests=tuple(raw["tests"]),
        kind=raw["kind"],
        reason=" ".join(raw["reason"].split()),
        python=raw.get("python", ""),
        targets=tuple(raw.get("targets", OWN_TARGETS)),
    )
    entry.applies((3, 11), "weft")  # a condition that cannot be read is an error here, not in the middle of a run
    return entry


def load(path: Path = FILE) -> list[Exclusion]:
    """Reads and checks the list.

    Raises:
        ValueError: an entry lacks its reason, or says something that cannot be read.
    """
    raw = tomllib.loads(path.read_text())
    return [_entry(number, entry) for number, entry in enumerate(raw.get("exclude", []), 1)]


def applicable(entries: Iterable[Exclusion], version: tuple[int, int], target: str) -> list[Exclusion]:
    """The entries that hold for ``target`` on this version of Python."""
    return [entry for entry in entries if entry.applies(version, target)]
