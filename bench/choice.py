"""What a run measures: which cases, and who takes part in them, with a word on everything that is left out.

The invariant: what nobody named may be missing and is left out with its reason; what was named and is missing is an
error. Called by ``__main__``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.field import Contender
from bench.model import CASES, Case


@dataclass(frozen=True)
class Choice:
    """Cases that can run here, the names of all who take part, and what is left out and why."""

    cases: list[Case]
    names: list[str]
    left_out: list[str]

    @property
    def versions(self) -> dict[str, str]:
        """The versions of everything that takes part, by package."""
        taking_part = [one for name, one in everyone(self.cases).items() if name in self.names]
        return {package: version for one in taking_part for package, version in one.versions().items()}


def everyone(cases: Iterable[Case]) -> dict[str, Contender]:
    """All contenders and floors of some cases by name, in the order of their tables."""
    return {one.name: one for case in cases for one in case.field.everyone}


def choose(cases: Sequence[Case], wanted: Sequence[str] | None) -> Choice:
    """Sort out what can be measured.

    Args:
        cases: the cases that were asked for.
        wanted: names of contenders; None for all that are installed. Floors take part in either case.

    Raises:
        LookupError: a name is unknown, or not installed.
    """
    left_out = [f"{case.name}: {reason}" for case in cases if (reason := case.missing())]
    cases = [case for case in cases if not case.missing()]
    missing = {name: one.missing() for name, one in everyone(cases).items()}
    here = [name for name, reason in missing.items() if not reason]
    if wanted is None:
        left_out += [f"{name}: {reason}" for name, reason in missing.items() if reason]
        return Choice(cases, here, left_out)
    _check(wanted, missing)
    floors = {floor.name for case in cases for floor in case.field.floors}
    names = [name for name in here if name in wanted or name in floors]
    left_out += [f"{case.name}: none of its contenders was chosen" for case in cases if not case.field.entrants(names)]
    return Choice([case for case in cases if case.field.entrants(names)], names, left_out)


def _check(wanted: Sequence[str], missing: dict[str, str]) -> None:
    known = everyone(CASES.values())
    for name in wanted:
        if name not in known:
            raise LookupError(f"unknown contender {name!r}: choose from {', '.join(known)}")
        if missing.get(name):
            raise LookupError(f"{name} is {missing[name]}")
