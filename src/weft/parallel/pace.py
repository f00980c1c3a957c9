"""How many items to send ahead, by measured time: the size of batches adapts to what an item takes.

Invariant: it doubles at most with each report, so that a few short items do not make a flood. Used by the backends.
"""

from __future__ import annotations

__all__ = ["AHEAD", "Pace"]

#: Seconds of work that lie ready beside what is under way. A round trip takes a millisecond, or ten on a busy machine.
AHEAD = 0.05
MOST = 4096  # items; from here on the cost of a batch is nothing beside that of its items
MOST_BYTES = (
    4 << 20
)  # of items or results that lie ready: large ones gain nothing by company, and memory is for them all
SMOOTHING = 0.5  # weight of the newest rate


class Pace:
    """The pace of one worker.

    Args:
        ahead: seconds of work that should lie ready.

    Attributes:
        items: so many items are that.
    """

    def __init__(self, ahead: float = AHEAD) -> None:
        self.items = 0
        self._ahead = ahead
        self._rate = 0.0
        self._size = 0.0  # bytes of an item or a result, whichever is larger, of late

    def weigh(self, count: int, size: int) -> None:
        """Takes note that so many items, or results, were so many bytes together."""
        self._size = max(size / count, self._size * (1 - SMOOTHING / 10))

    def report(self, count: int, seconds: float) -> None:
        """Takes note that so many items took so long."""
        if not count:
            return
        rate = count / max(seconds, 1e-6)
        self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)
        most = min(MOST, int(MOST_BYTES / max(self._size, 1.0)))
        self.items = min(int(self._rate * self._ahead), 2 * self.items + 1, most)
