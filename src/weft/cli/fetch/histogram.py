"""A histogram of times whose memory does not grow with what is counted, after the idea of HdrHistogram.

Invariant: a time is counted in a bucket at most 1/32 (3 %) wider than its lower edge, from a microsecond to twelve
days; two histograms can be added. Used by the statistics, the display and the summary.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Histogram"]

PRECISION = 5  # bits below the leading one that tell buckets apart
SIDE = 1 << PRECISION
MOST = (1 << 40) - 1  # microseconds: twelve days
UNIT = 1e6  # microseconds in a second


class Histogram:
    """Counts times, given in seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (_index(MOST) + 1)
        self.count = 0
        self.sum = 0.0
        self.least = 0.0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Counts a time."""
        self._counts[_index(min(max(int(seconds * UNIT), 0), MOST))] += 1
        self.least = min(self.least, seconds) if self.count else seconds
        self.most = max(self.most, seconds)
        self.count += 1
        self.sum += seconds

    def merge(self, other: Histogram) -> None:
        """Adds what another one has counted."""
        if other.count:
            self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
            self.least = min(self.least, other.least) if self.count else other.least
            self.most = max(self.most, other.most)
            self.count += other.count
            self.sum += other.sum

    @property
    def mean(self) -> float:
        """The mean in seconds, 0 when nothing was counted."""
        return self.sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The time, in seconds, that so many percent of those counted do not exceed; 0 when nothing was counted."""
        wanted = max(self.count * percent / 100, 1)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(max(_edge(index + 1) / UNIT, self.least), self.most)
        return self.most

    def rows(self, most: int = 16) -> Iterator[tuple[float, float, int]]:
        """From and to (seconds), and how many: rows of equal ratio that cover what was counted, at most so many."""
        used = [index for index, count in enumerate(self._counts) if count]
        if not used:
            return
        # Each row is half, one, two, four... times a doubling: its edges are numbers that people can read.
        step = SIDE
        while used[-1] // step - used[0] // step + 1 > most:
            step *= 2
        for start in range(used[0] // step * step, used[-1] + 1, step):
            yield _edge(start) / UNIT, _edge(start + step) / UNIT, sum(self._counts[start : start + step])


def _index(value: int) -> int:
    """The bucket of a whole number: itself below 32, then 32 buckets for each doubling."""
    shift = max(value.bit_length() - PRECISION - 1, 0)
    return (shift << PRECISION) + (value >> shift)


def _edge(index: int) -> int:
    """The least number in a bucket."""
    shift = max((index >> PRECISION) - 1, 0)
    return (index - (shift << PRECISION)) << shift
