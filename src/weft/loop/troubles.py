"""The first look at what may be a sign of lost work; a second look, and the words, are those of ``weft.watch.lost``.

The core tells ``observe`` of events that no task has which ends well (``_core/stepper.py``: FAILED and its like). Most
are in good order all the same: an exception that is awaited, a cancellation that cleans up. The invariant: nothing here
changes what the program does, and ``weft.watch.lost`` is imported, by name as it lies above, when something is wrong.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
import warnings
import weakref
from asyncio.exceptions import CancelledError
from collections import deque
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import Any

__all__ = ["found", "handles_cancel", "note_coroutines", "observe"]

ENDING = "_GatheringFuture"
"""The class of what ``asyncio.run`` waits for when it ends: the tasks that it has cancelled."""

_ASYNCIO = os.path.join(os.path.dirname(asyncio.__file__), "")

MAX_STEPS = 500
"""How many coroutines and generators are looked into, one awaiting the other."""

detailed = False
"""Whether new loops note where each task is spawned, which costs a microsecond per task; see ``weft.watch.lost``."""


def found(name: str, *args: Any) -> Any:
    """Call a function of ``weft.watch.lost``."""
    return getattr(importlib.import_module("weft.watch.lost"), name)(*args)


def observe(loop: Any, event: str, task: Any, what: Any) -> None:
    """Hear of an event of a task of ``loop``."""
    if event == "failed":
        gathers = [callback for callback, _ in what if _is_gather(callback)] if what else None
        # After its callbacks; those whom they wake have their turn after that. Weak: should the loop stop before, this
        # is not to keep the task.
        loop.call_soon(_look_after, loop, weakref.ref(task), gathers, 2 if what else 0)
    elif event == "cancelling":
        for callback, _ in what._callbacks or ():
            if _is_of(callback, "shield."):
                found("shield_cancelled", loop, callback)
    elif event == "survived" and task is not loop._ending:  # of that one weft.shutdown tells
        _survived(task, what)
    elif event == "ended" and type(loop._awaited).__name__ != ENDING:
        if task in _cleaning or "weft.watch.lost" in sys.modules:
            found("ended_after_cancel", task, _cleaning.pop(task, None))


# Weak: what is noted of a task must not be what keeps it.
_stale: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_cleaning: weakref.WeakKeyDictionary[Any, list[tuple[CodeType, int | None]]] = weakref.WeakKeyDictionary()


def _survived(task: Any, error: BaseException) -> None:
    """A task went on after ``error``, the CancelledError of a request that stands: to clean up, or for good."""
    traceback = error.__traceback__
    if traceback is None or task.cancelling() <= _stale.get(task, 0):
        return
    if traceback.tb_frame.f_code.co_filename.startswith(_ASYNCIO):
        # A TaskGroup. Up to 3.12 one that fails while it waits at its end leaves a request to cancel standing.
        _stale[task] = task.cancelling()
    elif handles_cancel(task.get_coro()):
        if task not in _cleaning:
            from weft.loop import places  # here: most runs end without

            _cleaning[task] = list(places.passed(traceback))
    else:
        found("cancellation_survived", task, error)


_SUSPENDED = (CoroutineType, GeneratorType, AsyncGeneratorType)


def handles_cancel(coroutine: Any) -> bool:
    """Whether a suspended coroutine, or one that it waits for, is in the handler of a CancelledError, or holds one.

    What a coroutine handles while it is suspended is among what it refers to. Generators of C code (an ``asend()``) are
    looked into as well.
    """
    seen: set[int] = set()
    todo = deque([coroutine])
    while todo and len(seen) < MAX_STEPS:
        for target in gc.get_referents(todo.popleft()):
            if isinstance(target, CancelledError):
                return True
            is_step = isinstance(target, _SUSPENDED) or type(target).__name__.startswith(("async_gen", "coroutine_"))
            if is_step and id(target) not in seen:
                seen.add(id(target))
                todo.append(target)
    return False


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


def _is_gather(callback: Any) -> bool:
    """Whether it is that of asyncio's ``gather``, or the one that weft's makes."""
    return _is_of(callback, "gather.") or hasattr(callback, "_gathered")


def _is_of(callback: Any, function: str) -> bool:
    return getattr(callback, "__qualname__", "").startswith(function) and callback.__module__ == asyncio.tasks.__name__


def _look_after(loop: Any, failed: weakref.ref[Any], gathers: list[Any] | None, turns: int) -> None:
    """The callbacks of a failed task have run: has anybody read its exception, and who was gathered with it?"""
    task = failed()
    if task is None or (not gathers and not task._log_traceback):
        return  # as mostly: it has gone, and asyncio has said what there was to say, or who awaited it has read it
    if turns:
        loop.call_soon(_look_after, loop, failed, gathers, turns - 1)
        return
    for callback in gathers or ():
        found("gather_failed", task, callback)
    if task._log_traceback:
        box = [task]  # references to it will be counted
        del task
        found("exception_unread", loop, box)
