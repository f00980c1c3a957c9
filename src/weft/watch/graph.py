"""What refers to what: whether a task is garbage, and what a generator would clean up.

Reads the heap through ``gc`` and changes nothing. The one invariant: where the answer is not certain, it is
the one that keeps a report from being made. ``weft.watch.lost`` asks, about what has failed or was cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import dis
import gc
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["cells_of", "cleans_up", "is_garbage", "references"]

MAX_OBJECTS = 500
"""How much is looked at for one task: half a millisecond's worth."""

# What leads to all the rest of the program, or nowhere.
_ENDS = (ModuleType, type, FunctionType, CodeType, contextvars.Context, asyncio.AbstractEventLoop, str, int, bytes)


def references(box: list[Any], index: int = 0) -> int:
    """How many references there are to what is in a box, without the box's own."""
    return sys.getrefcount(box[index]) - _OWN


_OWN = 0
_OWN = references([object()])


def is_garbage(box: list[Any]) -> bool:
    """Whether what is in the box is held by nothing but itself, in cycles of references (and the box).

    The collector's own way (see "Garbage collector design" in CPython's internals): of what can be reached, take away
    the references that come from inside. Whatever has some left is held from outside, and so is all that it refers to.
    """
    objects, edges = _reach(box[0])
    if not edges:
        return False
    inside = [0] * len(objects)
    for targets in edges.values():
        for target in targets:
            inside[target] += 1
    inside[0] += 1  # the box
    held = {number for number in range(len(objects)) if references(objects, number) > inside[number]}
    todo = list(held)
    while todo:
        for target in edges.get(todo.pop(), ()):
            if target not in held:
                held.add(target)
                todo.append(target)
    return 0 not in held


def _reach(root: Any) -> tuple[list[Any], dict[int, list[int]]]:
    """Objects that can be reached from ``root``, itself the first, and to which others each of them refers."""
    objects = [root]
    numbers = {id(root): 0}
    edges: dict[int, list[int]] = {}
    number = 0
    while number < len(objects):
        if number == 0 or not isinstance(objects[number], _ENDS):
            targets = edges[number] = []
            for target in gc.get_referents(objects[number]):
                if id(target) not in numbers:
                    if len(objects) >= MAX_OBJECTS:
                        return objects, {}
                    numbers[id(target)] = len(objects)
                    objects.append(target)
                targets.append(numbers[id(target)])
        number += 1
    del target
    return objects, edges


def cleans_up(generator: Any) -> bool:
    """Whether closing a suspended generator runs code of its own: it stands in a ``try`` or a ``with``."""
    frame = getattr(generator, "ag_frame", None)
    if frame is None or frame.f_lasti < 0:
        return False
    code = frame.f_code
    opcodes = {instruction.offset: instruction for instruction in dis.get_instructions(code)}
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]  # private; there from 3.11 on
        if entry.start <= frame.f_lasti < entry.end:
            target = opcodes.get(entry.target)
            # Each generator has a handler around it all, which turns a StopIteration into a RuntimeError.
            if target is None or target.opname != "CALL_INTRINSIC_1":
                return True
    return False


def cells_of(function: Any) -> dict[str, Any]:
    """The variables that a function has from the one around it, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet, or deleted
            continue
    return found
