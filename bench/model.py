"""What a benchmark case is, and the registry of them all.

A case is a function ``measure(contender, seconds) -> Sample`` and the words that describe it. It runs in a process
of its own, for one contender, and returns numbers by the key of its metrics; the first metric is the headline.
The invariant: names are unique, and ``bench.cases`` registers every case when it is imported.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.field import Field

Sample = dict[str, float]
Measure = Callable[[str, float], Sample]


@dataclass(frozen=True)
class Metric:
    """One number of a sample: ``key`` in the sample, ``unit`` for people, and which way is better.

    The first metric of a case and those ``compared`` get a table with ratios; the others stand in a table of details.
    """

    key: str
    unit: str
    more_is_better: bool = False
    compared: bool = False


@dataclass(frozen=True)
class Aim:
    """What the subject of a case is to reach.

    Attributes:
        value: how many times better than ``rival`` it is to be; without one, the figure itself.
        rival: the name of another contender, or of a floor.
        key: the metric that is meant, by default the headline.
    """

    value: float
    rival: str | None = None
    key: str | None = None


def nothing_missing() -> str:
    """What a case needs that is everywhere."""
    return ""


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Attributes:
        name: ``group.words``, unique; what ``--cases`` matches.
        title: what stands in the tables.
        how: how it is measured, for ``docs/benchmarks.md``.
        field: who takes part.
        metrics: what a sample holds, headline first.
        measure: does one measurement for one contender.
        seconds: how long one measurement should take.
        quick: whether ``--quick`` includes it.
        aims: what the subject of the field is to reach here.
        missing: says what the case needs and this machine lacks (a server), in a few words; empty when all is there.
    """

    name: str
    title: str
    how: str
    field: Field
    metrics: tuple[Metric, ...]
    measure: Measure
    seconds: float
    quick: bool = False
    aims: tuple[Aim, ...] = ()
    missing: Callable[[], str] = nothing_missing

    @property
    def group(self) -> str:
        """The part of the name before the first dot; tables are made per group."""
        return self.name.partition(".")[0]

    @property
    def headline(self) -> Metric:
        """The metric by which a case is won or lost."""
        return self.metrics[0]

    def metric(self, key: str | None) -> Metric:
        """The metric of that key; the headline for None."""
        return self.headline if key is None else next(metric for metric in self.metrics if metric.key == key)

    @property
    def compared(self) -> tuple[Metric, ...]:
        """The metrics that get a table of their own, headline first."""
        return (self.metrics[0], *(metric for metric in self.metrics[1:] if metric.compared))


CASES: dict[str, Case] = {}


def register(case: Case) -> Case:
    """Add a case.

    Raises:
        ValueError: the name is taken.
    """
    if case.name in CASES:
        raise ValueError(f"benchmark case {case.name!r} is registered twice: choose another name")
    CASES[case.name] = case
    return case


def paragraph(function: Callable[..., object]) -> str:
    """The docstring of a case's function in one line: it is the text that the documentation shows."""
    return " ".join((inspect.getdoc(function) or "").split())


def select(patterns: Iterable[str], *, quick: bool = False) -> list[Case]:
    """The cases whose name matches one of the patterns (``fnmatch``, or a part of the name), in order of registration.

    Args:
        patterns: none means all.
        quick: only those marked quick, unless patterns name them.

    Raises:
        LookupError: a pattern matches nothing.
    """
    wanted = list(patterns)
    if not wanted:
        return [case for case in CASES.values() if case.quick or not quick]
    for pattern in wanted:
        if not any(_matches(case.name, pattern) for case in CASES.values()):
            raise LookupError(f"no benchmark case matches {pattern!r}: `python -m bench --list` names them all")
    return [case for case in CASES.values() if any(_matches(case.name, pattern) for pattern in wanted)]


def _matches(name: str, pattern: str) -> bool:
    return pattern in name or fnmatch.fnmatchcase(name, pattern)
