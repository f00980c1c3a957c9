"""The first look at what may be a sign of lost work; a second look, and the words, are those of ``weft.watch.lost``.

The core tells ``observe`` of events that no task has which ends well (``_core/stepper.py``: FAILED and its like). Most
are in good order all the same: an exception that is awaited, a cancellation that cleans up. The invariant: nothing here
changes what the program does, and ``weft.watch.lost`` is imported, by name as it lies above, when something is wrong.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from typing import Any

__all__ = ["found", "note_coroutines", "observe"]

ENDING = "_GatheringFuture"
"""The class of what ``asyncio.run`` waits for when it ends: the tasks that it has cancelled."""

detailed = False
"""Whether new loops note where each task is spawned, which costs a microsecond per task; see ``weft.watch.lost``."""


def found(name: str, *args: Any) -> Any:
    """Call a function of ``weft.watch.lost``."""
    return getattr(importlib.import_module("weft.watch.lost"), name)(*args)


def observe(loop: Any, event: str, task: Any, what: Any) -> None:
    """Hear of an event of a task of ``loop``."""
    if event == "failed":
        gathers = [callback for callback, _ in what if _is_of(callback, "gather.")] if what else None
        # After its callbacks; those whom they wake have their turn after that. A box: references will be counted.
        loop.call_soon(_look_after, loop, [task], gathers, 2 if what else 0)
    elif event == "cancelling":
        for callback, _ in what._callbacks or ():
            if _is_of(callback, "shield."):
                found("shield_cancelled", loop, callback)
    elif event == "survived" and task is not loop._ending:  # of that one weft.shutdown tells
        found("cancellation_survived", task, what)
    elif event == "ended" and type(loop._awaited).__name__ != ENDING:
        found("ended_after_cancel", task)


def note_coroutines() -> None:
    """Find coroutines that are never awaited. The warning is Python's, with where each was made, if that is known.

    Who wants to know sets ``sys.set_coroutine_origin_tracking_depth(1)``, at a cost for each coroutine.
    """
    name = "_warn_unawaited_coroutine"  # what the interpreter looks up and calls when such a coroutine goes
    if hasattr(warnings, name):
        setattr(warnings, name, _warn_unawaited)


def _warn_unawaited(coroutine: Any) -> None:
    if not sys.is_finalizing():
        found("never_awaited", coroutine)
    lines = [f"coroutine '{coroutine.__qualname__}' was never awaited"]
    if coroutine.cr_origin:
        lines.append("Coroutine created at (most recent call last)")
        lines += [f'  File "{file}", line {line}, in {function}' for file, line, function in coroutine.cr_origin[::-1]]
    warnings.warn("\n".join(lines), RuntimeWarning, stacklevel=2, source=coroutine)


def _is_of(callback: Any, function: str) -> bool:
    return getattr(callback, "__qualname__", "").startswith(function) and callback.__module__ == asyncio.tasks.__name__


def _look_after(loop: Any, box: list[Any], gathers: list[Any] | None, turns: int) -> None:
    """The callbacks of a failed task have run: has anybody read its exception, and who was gathered with it?"""
    if not gathers and not box[0]._log_traceback:
        return  # as mostly: who awaited it has read it
    if turns:
        loop.call_soon(_look_after, loop, box, gathers, turns - 1)
        return
    for callback in gathers or ():
        found("gather_failed", box[0], callback)
    # Where ours is the only reference left, asyncio's own report comes when it goes, with the return from here.
    if box[0]._log_traceback:
        found("exception_unread", loop, box)
