"""Tells how a run of ``weft.map`` goes: a line on a terminal, or a call of the user's function.

Invariant: nothing is written where standard error is no terminal, and the last word comes when the run is over. It
looks at the run by a timer, so it costs nothing per item.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TextIO

__all__ = ["Progress", "Reporter"]

REFRESH = 0.2  # seconds: calm to the eye
SMOOTHING = 0.2  # weight of the newest rate in the moving average: about a second of memory
CLEAR = "\r\x1b[K"  # ECMA-48: to the line's start, erase to its end
WIDTH = 80  # columns where the terminal does not say


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: how many items have succeeded.
        failed: how many have failed.
        total: how many there are, or None where nobody knows.
        seconds: since the run began.
        rate: items per second, of late.
        eta: seconds that the rest will take at that rate, or None where nobody knows.
        over: whether this is the last word.
    """

    done: int
    failed: int
    total: int | None
    seconds: float
    rate: float
    eta: float | None
    over: bool

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        parts = [f"{self.done}{of} done", f"{self.failed} failed" if self.failed else "", f"{self.rate:.0f}/s"]
        if self.eta is not None and not self.over:
            parts.append(f"eta {_clock(self.eta)}")
        return f"{_clock(self.seconds)}  " + "  ".join(filter(None, parts))


class Counts(Protocol):
    """What is looked at: the engine."""

    total: int | None
    done: int
    failed_count: int
    on_end: Callable[[], None] | None


class Reporter:
    """Looks at a run now and then, until it is over.

    Args:
        counts: the run.
        show: called with each :class:`Progress`; True stands for a line on standard error.
    """

    def __init__(self, counts: Counts, show: bool | Callable[[Progress], object]) -> None:
        self._counts = counts
        self._line = None if callable(show) else _Line(sys.stderr)
        self._show: Callable[[Progress], object] = show if callable(show) else self._line  # type: ignore[assignment]
        self._rate = 0.0
        self._before = (0.0, 0)

    def start(self) -> None:
        """Begins, on the loop that runs."""
        if self._line is not None and not self._line.is_terminal:
            return
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_later(REFRESH, self._tick)
        self._counts.on_end = self._finish

    def _tick(self) -> None:
        self._timer = self._loop.call_later(REFRESH, self._tick)
        self._tell(over=False)

    def _finish(self) -> None:
        self._timer.cancel()
        self._tell(over=True)

    def _tell(self, over: bool) -> None:
        try:
            self._show(self._look(over))
        except Exception as exc:  # whoever only looks on must not end the run
            message = f"weft.map(): the function given as progress failed: {self._show!r}"
            self._loop.call_exception_handler({"message": message, "exception": exc})

    def _look(self, over: bool) -> Progress:
        counts = self._counts
        seconds = self._loop.time() - self._began
        ended = counts.done + counts.failed_count
        before = self._before
        now = (ended - before[1]) / max(seconds - before[0], 1e-9)
        self._rate = now if not before[0] else self._rate + SMOOTHING * (now - self._rate)
        self._before = (seconds, ended)
        left = None if counts.total is None else max(counts.total - ended, 0)
        eta = None if left is None or not self._rate else left / self._rate
        return Progress(counts.done, counts.failed_count, counts.total, seconds, self._rate, eta, over)


class _Line:
    """One line of a terminal, drawn over and over."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.is_terminal = stream is not None and stream.isatty()

    def __call__(self, progress: Progress) -> None:
        text = CLEAR + str(progress)[: self._width() - 1] + ("\n" if progress.over else "")
        assert self._stream is not None
        with suppress(OSError, ValueError):  # the terminal is gone: no reason to stop
            self._stream.write(text)
            self._stream.flush()

    def _width(self) -> int:
        assert self._stream is not None
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError):
            return WIDTH


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
