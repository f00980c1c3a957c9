"""What a run has done so far, in figures.

Invariant: its size does not depend on how many requests there were. Written by the engine, read by the display and the
summary.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from weft.cli.fetch.histogram import Histogram
from weft.cli.fetch.model import Result

__all__ = ["Stats"]

SAMPLES = 5  # failures that the summary names


class Stats:
    """Counts results.

    Attributes:
        done: how many succeeded.
        failed: how many did not.
        skipped: how many an earlier run had done.
        in_flight: how many are under way.
        size: bytes of bodies.
        latency: times until the body was complete, of all that were answered.
        reasons: how many failed for which reason.
        samples: the first results that failed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = self.failed = self.skipped = self.in_flight = self.size = 0
        self.latency = Histogram()
        self.reasons: Counter[str] = Counter()
        self.samples: list[Result] = []
        self.clock = clock
        self._start = clock()

    @property
    def finished(self) -> int:
        """How many were tried to the end."""
        return self.done + self.failed

    @property
    def seconds(self) -> float:
        """How long the run takes so far."""
        return self.clock() - self._start

    def add(self, result: Result) -> None:
        """Counts a result."""
        self.size += result.size
        if result.error is None and result.status is not None:
            self.latency.add(result.seconds)
        if result.ok:
            self.done += 1
            return
        self.failed += 1
        self.reasons[result.error or f"status {result.status}"] += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(
                Result(
                    result.item, result.started, status=result.status, error=result.error, message=result.message
                )  # without the body: it would be held to the end
            )
