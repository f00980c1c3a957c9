"""Runs cases in interleaved rounds, every measurement in a fresh process, and keeps every number.

The invariant: within a round the contenders of one case follow each other at once (A B C, then the next case),
and each round starts with another contender, so that neither a slow minute nor a place in the order favours anyone.
A measurement that fails leaves a hole and a message, never a wrong number. Called by ``__main__``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from bench.model import Case, Sample
from bench.store import ROOT

# Starting a process, a server and a load generator on a busy machine; far above what any measurement takes.
GRACE_SECONDS = 60.0

Rounds = dict[str, list[Sample | None]]


@dataclass
class Outcome:
    """All samples of a run: case name, then contender, then one entry per round (None where it failed)."""

    samples: dict[str, Rounds] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


Measurer = Callable[[Case, str, float], Sample]


class MeasurementFailed(Exception):
    """A measuring process ended without a sample; the message holds the end of what it said."""


def measure_in_process(case: Case, contender: str, seconds: float) -> Sample:
    """One measurement in a fresh interpreter.

    Raises:
        MeasurementFailed: it crashed, or took longer than ``seconds`` and a minute.
    """
    command = [sys.executable, "-m", "bench.worker", case.name, contender, str(seconds)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"{case.name} on {contender}: no result in {seconds + GRACE_SECONDS:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MeasurementFailed(f"{case.name} on {contender}: exit status {done.returncode}: {last}")
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return sample


def run(
    cases: Sequence[Case],
    chosen: Collection[str],
    *,
    rounds: int,
    scale: float = 1.0,
    on_sample: Callable[[str], None] = lambda text: None,
    measure: Measurer = measure_in_process,
) -> Outcome:
    """Measure every case on every contender, ``rounds`` times.

    Args:
        chosen: names; those who compete in the field of a case take part in it.
        scale: multiplies the time of each measurement.
        on_sample: told in a few words before each measurement.
        measure: how one measurement is made.
    """
    cases = [case for case in cases if case.field.entrants(chosen)]
    outcome = Outcome({case.name: {name: [] for name in case.field.entrants(chosen)} for case in cases})
    for number in range(rounds):
        for case in cases:
            order = case.field.entrants(chosen)
            turn = number % len(order)
            for name in order[turn:] + order[:turn]:
                on_sample(f"round {number + 1}/{rounds}  {case.name}  {name}")
                outcome.samples[case.name][name].append(_attempt(case, name, scale, measure, outcome.errors))
    return outcome


def _attempt(case: Case, contender: str, scale: float, measure: Measurer, errors: list[str]) -> Sample | None:
    try:
        sample = measure(case, contender, case.seconds * scale)
    except MeasurementFailed as error:
        errors.append(str(error))
        return None
    missing = [metric.key for metric in case.metrics if metric.key not in sample]
    if missing:
        errors.append(f"{case.name} on {contender}: the sample lacks {', '.join(missing)}")
        return None
    return sample
