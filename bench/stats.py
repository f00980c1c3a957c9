"""The arithmetic of the harness: medians, spread, and ratios that drift cannot move.

The invariant: a ratio is taken within one round, where the two measurements stand side by side in time, and only
then is the median over the rounds taken; so a machine that slows down between rounds changes no ratio.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of some measurements of one thing."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Median, minimum and maximum of the rounds that succeeded; None when none did."""
    good = [value for value in values if value is not None]
    if not good:
        return None
    return Spread(statistics.median(good), min(good), max(good))


def advantage(ours: Sequence[float | None], theirs: Sequence[float | None], *, more_is_better: bool) -> Spread | None:
    """How many times better ``ours`` is than ``theirs``, per round; 1.0 is equal, 2.0 is twice as good.

    Args:
        ours: one value per round, None where the round failed.
        theirs: the same rounds of the other contender.
        more_is_better: False for times and bytes, True for rates.
    """
    ratios: list[float | None] = []
    for mine, other in zip(ours, theirs, strict=False):
        if mine and other:
            ratios.append(mine / other if more_is_better else other / mine)
    return spread(ratios)
