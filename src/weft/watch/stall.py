"""A stall, as it is shown: to the log, to callbacks, to tests.

Owns the words of a report. The invariant: only a stall of the kind BLOCKED names a line as the cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Why a loop stood still; the value is what a report says."""

    BLOCKED = "blocked"
    COLLECTION = "garbage collection"
    STOPPED = "the process was stopped, or got no processor at all"
    STARVED = "the thread was ready and got no processor"
    DEBUGGER = "a debugger held it"
    GIL = "another thread kept the GIL"


class StallWarning(RuntimeWarning):
    """A coroutine blocks the loop: in strict mode, at the line that does it."""


@dataclass(frozen=True)
class Stall:
    """One stall of a loop.

    Attributes:
        kind: why; only ``Kind.BLOCKED`` is the fault of the line that is named.
        seconds: how long the loop stood still; until now where ``is_over`` is False.
        is_over: whether it goes on; a stall of seconds is told of while it lasts, and once more when it is over.
        filename: the file of the innermost frame that is the program's own; None when no frame was seen.
        lineno: the line there; 0 for none.
        function: the qualified name of the function there.
        call: what it called, as it is written there or by its full name; None when it called nothing: it computes.
        kernel: the system call in which the thread stood; ``running``; or an empty string where nobody knows.
        cure: what to write instead; empty where there is no advice.
        task: the name of the task; None in a callback.
        module: ``__name__`` of the module of that frame.
        stack: ``file:line in function`` of each frame above the loop, the outermost first.
        seen: how often this place has blocked, this time included.
    """

    kind: Kind
    seconds: float
    is_over: bool
    filename: str | None
    lineno: int
    function: str
    call: str | None
    kernel: str
    cure: str
    task: str | None
    module: str
    stack: tuple[str, ...]
    seen: int = 1

    def __str__(self) -> str:
        return line_of(self)


def line_of(stall: Stall) -> str:
    """The report of a stall: one line."""
    so_far = "" if stall.is_over else " so far"
    where = f"task {stall.task!r}" if stall.task is not None else "a callback"
    if stall.kind is not Kind.BLOCKED:
        return f"loop late by {stall.seconds * 1e3:.0f} ms{so_far} in {where}: {stall.kind.value}; no line is to blame"
    line = f"loop blocked {stall.seconds * 1e3:.0f} ms{so_far} in {where}"
    if stall.filename is not None:
        line += f" at {shortened(stall.filename)}:{stall.lineno} in {stall.function}()"
    call = stall.call or ("it computes" if stall.kernel in {"running", ""} else "it waits")
    line += f": {call.removeprefix('builtins.')}"
    if stall.kernel:
        line += f" (kernel: {stall.kernel})"
    if stall.cure:
        line += f"; {stall.cure}"
    return f"{line}. seen {stall.seen}x"


def shortened(filename: str) -> str:
    """A file by its name from the current directory, where it lies below that."""
    import os

    try:
        relative = os.path.relpath(filename)
    except (OSError, ValueError):  # the directory is gone
        return filename
    return filename if relative.startswith("..") or filename.startswith("<") else relative
