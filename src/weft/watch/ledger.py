"""What was seen: places and how often they blocked, counters, and those who want to be told.

The invariant: what is kept is bounded, whatever a program does: PLACES places, a few counters. Written by the threads
of loops as their stalls end, and by the thread that tells of one that lasts; each step is one that the GIL makes whole.
Called by ``reports`` and by users.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from weft._core import watchdog
from weft.watch.stall import Kind, Stall

__all__ = ["Place", "on_stall", "reset", "stats", "worst"]

PLACES = 1000  # places that are remembered; beyond it the ones with the least time are forgotten
SAME_PLACE_EVERY = 10.0  # seconds between two lines in the log about one place
LINES = 20  # lines in the log per such period about all places

Callback = Callable[[Stall], object]
Key = tuple[str | None, int, Kind]


@dataclass
class Place:
    """A line that has blocked a loop.

    Attributes:
        stall: what was seen the last time.
        count: how often.
        total: seconds in all.
        longest: seconds at most.
    """

    stall: Stall
    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    logged: float = float("-inf")

    def __str__(self) -> str:
        often = f"{self.count}x, {self.total:.2f} s in all, at most {self.longest * 1e3:.0f} ms"
        return f"{often}: the last time {self.stall}"


_places: dict[Key, Place] = {}
_counts: Counter[str] = Counter()
_callbacks: list[Callback] = []
_period = [float("-inf"), 0.0]  # when it began, and how many lines it has had


def record(stall: Stall) -> Stall:
    """Note a stall that is over; gives it with the number of times its place was seen."""
    key = (stall.filename, stall.lineno, stall.kind)
    place = _places.get(key)
    if place is None:
        if len(_places) >= PLACES:
            del _places[min(_places, key=lambda one: _places[one].total)]
        place = _places[key] = Place(stall)
    place.count += 1
    place.total += stall.seconds
    place.longest = max(place.longest, stall.seconds)
    place.stall = stall = replace(stall, seen=place.count)
    _counts[stall.kind.name.lower()] += 1
    return stall


def may_log(stall: Stall) -> bool:
    """Whether the log may have a line about this stall: not the same again and again, and not too many in all."""
    now = time.monotonic()
    place = _places.get((stall.filename, stall.lineno, stall.kind))
    if place is not None:
        if now - place.logged < SAME_PLACE_EVERY:
            return False
    if now - _period[0] >= SAME_PLACE_EVERY:
        _period[:] = [now, 0.0]
    if _period[1] >= LINES:
        _counts["lines_held_back"] += 1
        return False
    _period[1] += 1
    if place is not None:
        place.logged = now
    return True


def callbacks() -> list[Callback]:
    """Those who want to be told, now."""
    return list(_callbacks)


def on_stall(callback: Callback) -> Callable[[], None]:
    """Have ``callback(stall)`` called for each stall, of every kind, when it is over.

    It is called in the thread of the loop, between two callbacks. For a stall that lasts for seconds it is called
    before too, with ``stall.is_over`` False, in another thread, while the loop stands still.

    Returns:
        A function that takes the callback back; calling it again does nothing.

    Raises:
        TypeError: ``callback`` is not callable.
    """
    if not callable(callback):
        raise TypeError(f"on_stall() needs something to call, not {callback!r}")
    _callbacks.append(callback)

    def remove() -> None:
        if callback in _callbacks:
            _callbacks.remove(callback)

    return remove


def worst(count: int = 10) -> list[Place]:
    """The places that have blocked loops for the longest time in all, the worst first; at most ``count``."""
    blocked = [place for key, place in list(_places.items()) if key[2] is Kind.BLOCKED]
    return [replace(place) for place in sorted(blocked, key=lambda place: -place.total)[:count]]


def stats() -> dict[str, int]:
    """Counters of this process: stalls by kind, and what the watchdog has done (``looks``, ``parks``, ...)."""
    kinds = {kind.name.lower(): _counts[kind.name.lower()] for kind in Kind}
    return {**kinds, "lines_held_back": _counts["lines_held_back"], **watchdog.counters()}


def reset() -> None:
    """Forget the places and counters of this process; callbacks stay."""
    _places.clear()
    _counts.clear()
    _period[:] = [float("-inf"), 0.0]
