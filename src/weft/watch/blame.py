"""Whose line it is: from the frames of a thread that stalled to the innermost one of the program's own, and its call.

The program's own is what lies neither in the standard library, nor in site-packages, nor in weft; where nothing does, a
library's line is better than none. The invariant: nothing here runs code of a user (no attribute of an object is
looked up but those of modules and classes, statically), so a report cannot make things worse. Called by ``reports``.
"""

from __future__ import annotations

import ast
import builtins
import dis
import linecache
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getattr_static
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import weft
from weft.loop.lifecycle import Lifecycle

LONGEST_CALL = 60  # characters of source that a report shows


class Frame(NamedTuple):
    """A frame as the core copies it: what it runs, where, and the globals."""

    code: CodeType
    lineno: int
    lasti: int
    names: dict[str, Any]


@dataclass(frozen=True)
class Blame:
    """The line that is to blame, and what it called."""

    filename: str | None
    lineno: int
    function: str
    module: str
    call: str | None
    names: tuple[str, ...]
    stack: tuple[str, ...]


NOBODY = Blame(None, 0, "", "", None, (), ())
_OURS = os.path.dirname(os.path.realpath(weft.__file__)) + os.sep
_STDLIB = tuple(
    {os.path.realpath(path) + os.sep for key in ("stdlib", "platstdlib") if (path := sysconfig.get_path(key))}
    | {os.path.dirname(os.path.realpath(os.__file__)) + os.sep}
)
_RUN = Lifecycle.run_forever.__code__


def rank(filename: str) -> int:
    """How much a file is the program's own: 0 for that, 1 for a library, 2 for the standard library, 3 for weft.

    Last comes the import system, for which whoever imports is to blame.
    """
    if filename.startswith("<frozen"):
        return 4 if filename.startswith("<frozen importlib") else 2
    path = os.path.realpath(filename)
    if path.startswith(_OURS):
        return 3
    if f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path:
        return 1
    return 2 if path.startswith(_STDLIB) else 0


def blame(given: Sequence[tuple[CodeType, int, int, dict[str, Any]]]) -> Blame:
    """Find the line to blame among the frames of a thread, the innermost first."""
    frames = above_the_loop(given)
    if not frames:
        return NOBODY
    ranks = [rank(frame.code.co_filename) for frame in frames]
    index = ranks.index(min(ranks))
    frame = frames[index]
    written = call_at(frame)
    inner = [full_name(one) for one in frames[:index]][::-1]
    resolved = resolve(written, frame.names) if written else None
    names = [name for name in (resolved, written) if name] + inner
    if index > 0 and (last := call_at(frames[0])):
        names.append(resolve(last, frames[0].names) or last)
    if written is None and inner:
        written = inner[0]
    elif written is not None and "." not in written and written in frame.names:
        written = resolved or written
    return Blame(
        frame.code.co_filename,
        frame.lineno or frame.code.co_firstlineno,
        frame.code.co_qualname,
        str(frame.names.get("__name__", "")),
        written,
        tuple(names),
        tuple(f"{one.code.co_filename}:{one.lineno} in {one.code.co_qualname}" for one in reversed(frames)),
    )


def above_the_loop(given: Sequence[tuple[CodeType, int, int, dict[str, Any]]]) -> list[Frame]:
    """The frames of the callback; below it are those of whoever runs the loop."""
    frames = []
    for one in given:
        if one[0] is _RUN:
            break
        frames.append(Frame(*one))
    return frames


def full_name(frame: Frame) -> str:
    """``module.qualified.name`` of what a frame runs."""
    return f"{frame.names.get('__name__', '?')}.{frame.code.co_qualname}"


# -- the call ----------------------------------------------------------------------------------------------------------


def call_at(frame: Frame) -> str | None:
    """What is called where the frame stands, as it is written there; None when it calls nothing, or has no source."""
    operation = dis.opname[frame.code.co_code[frame.lasti]] if 0 <= frame.lasti < len(frame.code.co_code) else ""
    if operation == "CACHE":
        operation = "CALL"  # 3.11 stands on what follows a call
    text = segment(frame)
    if text is None:
        return None
    node = parsed(text)
    if node is None:
        return None
    is_call = "CALL" in operation
    if isinstance(node, ast.Call) and is_call:
        return cut(ast.unparse(node.func))
    if is_call and isinstance(node, ast.Name | ast.Attribute):
        # The calls of a ``with``: the first has no argument, the last has those of an exception.
        return cut(ast.unparse(node)) + (".__exit__" if frame.code.co_code[frame.lasti + 1] else ".__enter__")
    if operation in {"BEFORE_WITH", "LOAD_SPECIAL"}:
        return cut(ast.unparse(node)) + ".__enter__"
    if operation == "FOR_ITER":
        return f"next({cut(ast.unparse(node))})"
    return None


def parsed(text: str) -> ast.expr | None:
    """The expression of a piece of source; of a ``with`` or a ``for``, which 3.11 shows whole, what it is over."""
    try:
        statement = ast.parse(text.strip()).body[0]
    except (SyntaxError, ValueError, IndexError):
        return None
    if isinstance(statement, ast.With | ast.AsyncWith):
        return statement.items[0].context_expr
    if isinstance(statement, ast.For):
        return statement.iter
    return statement.value if isinstance(statement, ast.Expr) else None


def cut(text: str) -> str:
    """A text in one line that is not too long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_CALL else text[: LONGEST_CALL - 3] + "..."


def segment(frame: Frame) -> str | None:
    """The source of the expression that the frame evaluates."""
    positions = list(frame.code.co_positions())
    index = frame.lasti // 2
    if not 0 <= index < len(positions):
        return None
    first, last, start, end = positions[index]
    if first is None or last is None or start is None or end is None:
        return None  # -X no_debug_ranges
    lines = [line.encode() for line in linecache.getlines(frame.code.co_filename, frame.names)[first - 1 : last]]
    if len(lines) != last - first + 1:
        return None
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return b"".join(lines).decode(errors="replace")


def resolve(written: str, names: dict[str, Any]) -> str | None:
    """The full name of a function that is written as a name, or as attributes of modules and classes."""
    first, *rest = written.split(".")
    found = names.get(first, vars(builtins).get(first))
    for name in rest:
        if isinstance(found, ModuleType):
            found = vars(found).get(name)
        elif isinstance(found, type):
            found = getattr_static(found, name, None)
        else:
            return None
    return name_of(found)


def name_of(function: Any) -> str | None:
    """The full name of a function, a class or a method; None for anything else."""
    if isinstance(function, type):
        return f"{function.__module__}.{function.__qualname__}"
    kind = type(function)
    if kind.__module__ != "builtins" or kind.__name__ not in _CALLABLES:
        return None
    if kind.__name__ == "method":
        function = function.__func__
    owner = getattr(function, "__objclass__", None)
    if owner is None and kind.__name__ == "builtin_function_or_method":
        self = function.__self__
        if self is not None and not isinstance(self, ModuleType):
            owner = self if isinstance(self, type) else type(self)
    if owner is not None:
        return f"{owner.__module__}.{owner.__qualname__}.{function.__name__}"
    return f"{getattr(function, '__module__', None) or '?'}.{getattr(function, '__qualname__', '?')}"


_CALLABLES = {
    "function",
    "builtin_function_or_method",
    "method",
    "method_descriptor",
    "wrapper_descriptor",
    "method-wrapper",
}
