"""Where a coroutine, an exception or a thread stands: a line of the program's own code, for messages.

The one invariant: a place holds text and numbers, no frame, so that a report keeps nothing alive. The program's own
code lies neither in the standard library, nor in site-packages, nor in weft; where there is none, the innermost line
counts.
Used by ``weft.shutdown`` and ``weft.watch``, for events of trouble only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

__all__ = [
    "Place",
    "is_own",
    "of_catcher",
    "of_coroutine",
    "of_definition",
    "of_frame",
    "of_generator",
    "of_thread",
    "of_traceback",
]

MAX_DEPTH = 1000
"""How far a chain of awaits is followed: Python's own limit of recursion."""


class Place(NamedTuple):
    """A line of code: its file, its number (from 1) and the function that it is in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_short(self.file)}:{self.line} in {self.function}()"


NOWHERE = Place("?", 0, "?")


def _short(file: str) -> str:
    """The path from the current directory, where the file lies below it."""
    try:
        below = os.path.relpath(file)
    except (OSError, ValueError):  # the directory is gone
        return file
    return file if below.startswith("..") else below


@cache
def _foreign() -> tuple[str, ...]:
    import sysconfig  # here, as a run in which nothing is wrong needs none of it

    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {sysconfig.get_path(kind) for kind in kinds} | {os.path.dirname(os.path.dirname(__file__))}
    return (*(os.path.join(folder, "") for folder in folders), "<frozen ")


def is_own(file: str) -> bool:
    """Whether a file is the program's own."""
    return not file.startswith(_foreign())


def innermost(places: Iterable[tuple[CodeType, int | None]]) -> Place:
    """Of code and lines from the outermost to the innermost: the innermost line that is the program's own."""
    own = last = NOWHERE
    for code, line in places:
        last = Place(code.co_filename, line or code.co_firstlineno, code.co_qualname)
        if is_own(code.co_filename):
            own = last
    return last if own is NOWHERE else own


def _chain(coroutine: Any) -> Iterator[tuple[CodeType, int | None]]:
    """What a suspended coroutine awaits, and what that awaits, from the outermost on."""
    for _ in range(MAX_DEPTH):
        for kind in ("cr", "gi", "ag"):
            code = getattr(coroutine, f"{kind}_code", None)
            if code is not None:
                break
        else:
            return
        frame = getattr(coroutine, f"{kind}_frame", None)
        if frame is not None:
            yield code, frame.f_lineno
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)


def of_coroutine(coroutine: Any) -> Place:
    """Where a suspended coroutine (or generator) stands; where it is defined, when it has ended."""
    place = innermost(_chain(coroutine))
    return of_definition(coroutine) if place is NOWHERE else place


def of_definition(coroutine: Any) -> Place:
    """Where the function of a coroutine or generator is defined."""
    for kind in ("cr", "gi", "ag"):
        code = getattr(coroutine, f"{kind}_code", None)
        if code is not None:
            return Place(code.co_filename, code.co_firstlineno, code.co_qualname)
    return Place("?", 0, getattr(coroutine, "__qualname__", type(coroutine).__name__))


def _outwards(frame: FrameType | None) -> Iterator[tuple[CodeType, int | None]]:
    while frame is not None:
        yield frame.f_code, frame.f_lineno
        frame = frame.f_back


def of_frame(frame: FrameType | None) -> Place:
    """The program's own line that is innermost in a running stack."""
    return innermost(reversed(list(_outwards(frame))))


def of_thread(ident: int | None) -> Place:
    """The program's own line that a thread is in; nowhere when there is no such thread."""
    return of_frame(sys._current_frames().get(ident or 0))


def of_traceback(traceback: TracebackType | None) -> Place:
    """The program's own line in which an exception was raised."""
    return innermost(passed(traceback))


def of_catcher(traceback: TracebackType | None) -> Place:
    """The line in the function of the program's own that an exception has come out to."""
    return innermost(reversed(list(passed(traceback))))


def passed(traceback: TracebackType | None) -> Iterator[tuple[CodeType, int | None]]:
    """The code and lines that an exception has come through, the outermost first."""
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next


def of_generator(generator: Any) -> Place:
    """Where a suspended asynchronous generator stands, whatever file it is in."""
    frame, code = generator.ag_frame, generator.ag_code
    return Place(code.co_filename, frame.f_lineno if frame else code.co_firstlineno, code.co_qualname)
