"""One live line about the run on a terminal, in plain ANSI.

Invariant: nothing is written where standard error is no terminal, and the line is gone when the run is over.
Called by ``run``.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from weft.cli.fetch.stats import Stats

__all__ = ["Display", "bytes_text", "duration_text", "time_text"]

REFRESH = 0.1  # seconds between two drawings
WINDOW = 30  # drawings over which rates are taken: three seconds, calm to the eye and still of now
CLEAR = "\r\x1b[K"  # ECMA-48: to the line's start, erase to its end
WIDTH = 80  # columns where the terminal does not say


class Display:
    """Draws the line.

    Args:
        stats: what to show.
        stream: the terminal.
        fraction: how much of the input has been read, or None where nobody knows.
    """

    def __init__(self, stats: Stats, stream: TextIO, fraction: Callable[[], float | None] = lambda: None) -> None:
        self._stats = stats
        self._stream = stream
        self._fraction = fraction
        self._past: deque[tuple[float, int, int]] = deque(maxlen=WINDOW)

    async def run(self) -> None:
        """Draws until cancelled."""
        try:
            while True:
                await asyncio.sleep(REFRESH)
                self._write(CLEAR + self.line(self._width()))
        finally:
            self._write(CLEAR)

    def line(self, width: int = WIDTH) -> str:
        """What there is to say, in at most so many columns."""
        stats = self._stats
        now = (stats.seconds, stats.finished, stats.size)
        before = self._past[0] if self._past else (0.0, 0, 0)
        self._past.append(now)
        span = max(now[0] - before[0], 1e-9)
        fraction = self._fraction()
        parts = [
            duration_text(stats.seconds),
            "" if fraction is None else f"{fraction:.0%} read",
            f"{stats.done} done",
            f"{stats.failed} failed" if stats.failed else "",
            f"{stats.skipped} skipped" if stats.skipped else "",
            f"{stats.in_flight} in flight",
            f"{(now[1] - before[1]) / span:.0f}/s",
            f"{bytes_text((now[2] - before[2]) / span)}/s",
        ]
        if stats.latency.count:
            parts += [f"p{percent} {time_text(stats.latency.percentile(percent))}" for percent in (50, 99)]
        return "  ".join(filter(None, parts))[: max(width - 1, 0)]  # a full line would wrap

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError):
            return WIDTH

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone: no reason to stop
            self._stream.write(text)
            self._stream.flush()


def bytes_text(count: float) -> str:
    """A number of bytes with three digits and a unit: ``1.23 MB``. Units are powers of 1000, as networks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def time_text(seconds: float) -> str:
    """A latency with three digits and a unit: ``1.23 ms``."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:.0f} s"


def duration_text(seconds: float) -> str:
    """How long something takes, as a clock shows it: ``1:02`` or ``1:00:02``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
