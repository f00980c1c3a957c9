"""Strictness: blocking as a warning or an error, for tests and development; and what is allowed to block.

Nothing is strict unless it was asked for: by ``strict()``, by ``WEFT_STRICT=warn`` or ``WEFT_STRICT=raise``, or by
weft's pytest plugin. The invariant: a ``Strict`` that was stopped leaves nothing behind (threshold, monitoring).
Called by ``reports`` for each stall, by ``callsites`` for each call that can block, and by users.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from weft import versions
from weft._core import watchdog
from weft.errors import StallError
from weft.watch.stall import Kind, Stall, StallWarning

__all__ = ["Strict", "allow_blocking", "strict", "verdict"]

MODES = ("warn", "raise", "collect")
# Spans that are over and may still count for a stall that is being reported.
SPANS_KEPT = 256

_active: list[Strict] = []


class Strict:
    """Blocking is an error from its making until :meth:`stop`, or inside its ``with`` block.

    Attributes:
        found: what has blocked, as :class:`Stall` or, for a call that was fast this time, as its report.
    """

    def __init__(self, mode: str, threshold: float | None, allow: Sequence[str], calls: bool) -> None:
        if mode not in MODES:
            raise ValueError(f"strict(mode={mode!r}): it takes one of {', '.join(MODES)}")
        self.mode = mode
        self.allow = tuple(allow)
        self.found: list[Stall | str] = []
        self._stop_calls: Callable[[], None] | None = None
        self._threshold_before = watchdog.override_threshold(threshold) if threshold is not None else None
        self._has_threshold = threshold is not None
        _active.append(self)
        if calls and versions.MONITORING:
            from weft.watch import callsites

            self._stop_calls = callsites.start(object_to_call)

    def stop(self) -> None:
        """Be strict no more; doing so twice is harmless."""
        if self not in _active:
            return
        _active.remove(self)
        if self._has_threshold:
            watchdog.override_threshold(self._threshold_before)
        if self._stop_calls is not None:
            self._stop_calls()

    def __enter__(self) -> Strict:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def allows(self, module: str) -> bool:
        """Whether a module, or a package that it is in, may block."""
        return any(module == name or module.startswith(f"{name}.") for name in self.allow)

    def object_to(self, what: Stall | str, filename: str, lineno: int, module: str) -> BaseException | None:
        """Note it; in the mode ``warn`` warn at that line, in ``raise`` give the error to raise."""
        self.found.append(what)
        if self.mode == "raise":
            return StallError(str(what))
        if self.mode == "warn":
            try:
                warnings.warn_explicit(StallWarning(str(what)), None, filename, lineno, module)
            except StallWarning as error:  # where warnings are errors
                return error
        return None


def strict(
    mode: str = "raise", *, threshold: float | None = None, allow: Sequence[str] = (), calls: bool = True
) -> Strict:
    """Make blocking an error, for tests and development: from now on, or as a ``with`` block.

    Args:
        mode: ``raise`` ends the run of a loop that was blocked with :class:`weft.errors.StallError`, and raises it at
            calls that can block; ``warn`` gives a :class:`StallWarning` at the line; ``collect`` only fills ``found``.
        threshold: seconds that a callback may take, for loops that are made from now on and are not given another.
        allow: modules (and packages, with what is in them) that may block.
        calls: also find calls that can block and were fast this time (``time.sleep(0)``, a query on a warm cache), as
            they are made; from Python 3.12 on, which has ``sys.monitoring``. Without effect before.

    Raises:
        ValueError: there is no such mode, or ``threshold`` is not above 0.
    """
    return Strict(mode, threshold, allow, calls)


def verdict(stall: Stall) -> BaseException | None:
    """What is to come of a stall that is over: the error that is to end the run, or None."""
    current = _active[-1] if _active else None
    if current is None or stall.kind is not Kind.BLOCKED or current.allows(stall.module):
        return None
    return current.object_to(stall, stall.filename or "<unknown>", stall.lineno or 1, stall.module)


def object_to_call(report: str, filename: str, lineno: int, module: str) -> tuple[bool, BaseException | None]:
    """The same for a call that can block and is about to be made; and whether its place needs no second look."""
    current = _active[-1] if _active else None
    if current is None or is_allowed_now():
        return False, None
    if current.allows(module):
        return True, None
    error = current.object_to(report, filename, lineno, module)
    return error is None, error


# -- what is allowed ---------------------------------------------------------------------------------------------------


@dataclass
class _Span:
    thread: int
    task: Any
    started: int
    ended: int | None = None


_spans: deque[_Span] = deque(maxlen=SPANS_KEPT)
_open: list[_Span] = []


@contextmanager
def allow_blocking() -> Iterator[None]:
    """Inside the block, this task (or callback) may block the loop: it is neither reported nor an error.

    For what is known to be short enough, or cannot be helped. Other tasks that run while an ``await`` in the block
    waits are not covered.
    """
    span = _Span(threading.get_native_id(), _task_here(), time.monotonic_ns())
    _open.append(span)
    try:
        yield
    finally:
        span.ended = time.monotonic_ns()
        _open.remove(span)
        _spans.append(span)


def _task_here() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def is_allowed_now() -> bool:
    """Whether the running task is inside ``allow_blocking()``."""
    thread, task = threading.get_native_id(), _task_here()
    return any(span.thread == thread and span.task is task for span in _open)


def allowed_ns(thread: int, task: Any, started: int, ended: int) -> int:
    """For how much of a time the task was inside ``allow_blocking()``, in nanoseconds."""
    total = 0
    for span in [*_spans, *_open]:
        if span.thread == thread and span.task is task:
            until = ended if span.ended is None else min(span.ended, ended)
            total += max(0, until - max(span.started, started))
    return min(total, ended - started)


def _from_environment() -> None:
    """``WEFT_STRICT=warn`` or ``WEFT_STRICT=raise``: strict for the whole of the process."""
    mode = os.environ.get("WEFT_STRICT", "")
    if mode in ("", "off"):
        return
    if mode not in ("warn", "raise"):
        raise ValueError(f"the environment has WEFT_STRICT={mode!r}: it takes warn, raise or off")
    strict(mode)


_from_environment()
