"""A token bucket that hands out places in time instead of tokens, so that it needs no timer while nobody asks.

Invariant: in any span of t seconds at most ``rate * t + burst`` places lie. Used by the engine's feed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["TokenBucket"]

BURST = 0.1  # seconds whose requests may come at once: finer than that, timers cost more than the requests


class TokenBucket:
    """Spreads what is done over time.

    Args:
        rate: how often per second, more than 0.
        clock: gives seconds that never go back.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate
        self._ahead = max(BURST - self._interval, 0.0)  # a slow rate has no burst: its first request is one
        self._clock = clock
        self._next = clock()

    def reserve(self) -> float:
        """Takes the next place. Gives how many seconds off it is, 0 for now."""
        now = self._clock()
        self._next = max(self._next, now - self._ahead)
        delay = self._next - now
        self._next += self._interval
        return max(delay, 0.0)
