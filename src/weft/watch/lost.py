"""Work that is lost: exceptions nobody reads, cancellations that are swallowed, tasks that nobody waits for any more.

Owns the findings of the process: each is logged once (logger ``weft.lost``) and counted by kind and line. The one
invariant: nothing here changes what the program does, and a finding is only made when the program cannot take it back.
``weft.loop.troubles`` calls most of this when the core has told it of a sign of trouble; ``weft.shutdown`` tells what
resisted; ``weft.watch.report`` reads.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from weft.loop import places
from weft.loop.places import Place
from weft.watch import graph

__all__ = ["Finding", "clear", "findings", "note_spawns", "on_finding", "unread"]

logger = logging.getLogger("weft.lost")

CURES = {
    "lost exception": "await the task, or read its exception in a done callback",
    "unread exception": "await the task, or let go of it",
    "swallowed cancellation": "raise CancelledError again, or call uncancel()",
    "siblings of a failed gather": "use asyncio.TaskGroup, or cancel them where gather() fails",
    "shielded task without owner": "keep a reference to what is shielded, and await it at the end",
    "coroutine never awaited": "await it, or make a task of it",
    "generator never closed": "use `async with contextlib.aclosing(...)`",
    "resisted shutdown": "let CancelledError through, and bound what cleaning up waits for",
    "thread that does not return": "give the call a time limit, or an Event that ends it",
}
"""The kinds of findings, each with what is to be done about it."""

CHECKS_PER_SECOND = 50
"""How many failed tasks have their references followed; each takes up to a millisecond."""

SHOWN = 10
"""How many tasks a message names."""


@dataclass
class Finding:
    """Something that went wrong, by kind and line.

    Attributes:
        kind: one of ``CURES``.
        place: the line of the program.
        message: what happened when it was first seen.
        spawned: where the task was made, where that was noted.
        count: how often it was seen.
    """

    kind: str
    place: Place
    message: str
    spawned: Place | None = None
    count: int = 1

    @property
    def cure(self) -> str:
        """What is to be done about it."""
        return CURES[self.kind]

    def __str__(self) -> str:
        spawned = f", spawned at {self.spawned}" if self.spawned else ""
        often = f" (seen {self.count}x)" if self.count > 1 else ""
        return f"{self.kind}: {self.message}{spawned}; {self.cure}{often}"


_findings: dict[tuple[str, str, int], Finding] = {}
_watchers: list[Callable[[Finding], object]] = []
# Weak: what is noted of a task must not be what keeps it.
_unread: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
_survivors: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[Place, bool]] = weakref.WeakKeyDictionary()
_spawned: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[CodeType, int]] = weakref.WeakKeyDictionary()


def findings() -> list[Finding]:
    """What was found so far in this process, in the order in which it was first seen."""
    return list(_findings.values())


def clear() -> None:
    """Forget what was found."""
    _findings.clear()
    _unread.clear()


def on_finding(watcher: Callable[[Finding], object]) -> Callable[[], None]:
    """Call ``watcher(finding)`` for whatever is found from now on, each time; returns what ends that."""
    _watchers.append(watcher)
    return lambda: _watchers.remove(watcher)


def unread() -> list[asyncio.Task[Any]]:
    """Tasks that have failed, that somebody holds, and whose exception nobody has read so far."""
    return [task for task in list(_unread) if task._log_traceback]


def record(kind: str, place: Place, message: str, spawned: Place | None = None, *, log: bool = True) -> None:
    """Make a finding, or count one more of what was found before at the same line."""
    key = (kind, place.file, place.line)
    found = _findings.get(key)
    if found is None:
        found = _findings[key] = Finding(kind, place, message, spawned)
        if log:
            logger.warning("%s", found)
    else:
        found.count += 1
    for watcher in list(_watchers):
        watcher(found)


# -- where tasks come from


def note_spawns(loop: asyncio.AbstractEventLoop) -> None:
    """Note for each task that ``loop`` makes from now on where that was; costs about a microsecond per task."""
    make = loop.create_task

    def create_task(coro: Any, **kwargs: Any) -> Any:
        task = make(coro, **kwargs)
        frame = caller = sys._getframe(1)
        while not places.is_own(frame.f_code.co_filename) and frame.f_back is not None:
            frame = frame.f_back
        if not places.is_own(frame.f_code.co_filename):
            frame = caller
        _spawned[task] = frame.f_code, frame.f_lineno
        return task

    loop.create_task = create_task  # type: ignore[method-assign]


def spawned_at(task: Any) -> Place | None:
    """Where a task was made, if that was noted, by ``note_spawns`` or by asyncio's debug mode."""
    try:
        noted = _spawned.get(task)
    except TypeError:  # a future of foreign make that cannot be referred to weakly
        return None
    if noted is not None:
        return Place(noted[0].co_filename, noted[1], noted[0].co_qualname)
    for entry in reversed(getattr(task, "_source_traceback", None) or ()):
        if places.is_own(entry.filename):
            return Place(entry.filename, entry.lineno or 0, entry.name)
    return None


def never_awaited(coroutine: Any) -> None:
    """A coroutine goes that has not begun. Python's own warning is what is shown at once."""
    defined = places.of_definition(coroutine)
    made = [Place(*entry) for entry in coroutine.cr_origin or ()]
    place = made[0] if made else defined
    where = f"made at {place}" if made else f"defined at {defined}"
    record("coroutine never awaited", place, f"{defined.function}() was {where} and never awaited", log=False)


# -- exceptions


def exception_lost(context: dict[str, Any]) -> dict[str, Any]:
    """asyncio reports an exception that nobody has read: count it, and say where the task was made."""
    task, error = context.get("future"), context.get("exception")
    spawned = spawned_at(task)
    place = _raised_at(error)
    record("lost exception", place, f"{error!r} of {named(task)} at {place} was never read", spawned, log=False)
    return {**context, "spawned_at": str(spawned)} if spawned else context


_checks = [0.0, 0]  # in which second, how many


def exception_unread(loop: Any, box: list[Any]) -> None:
    """A task has failed, and nobody who waited for it has read its exception.

    Where nothing refers to the task but what is garbage with it (the traceback of its exception leads to a frame that
    has it in a variable, say), nobody can read it any more, and asyncio's report comes now instead of some time.
    """
    second = time.monotonic() // 1
    _checks[:] = [second, _checks[1] + 1 if _checks[0] == second else 1]
    if _checks[1] <= CHECKS_PER_SECOND and graph.is_garbage(box):
        task = box[0]
        context = {
            "message": f"{type(task).__name__} exception was never retrieved",
            "exception": task._exception,
            "future": task,
        }
        if task._source_traceback:
            context["source_traceback"] = task._source_traceback
        task._log_traceback = False
        loop.call_exception_handler(context)
    else:
        _unread.add(box[0])


def record_unread() -> None:
    """The program has ended: what nobody has read by now, nobody will."""
    for task in unread():
        error = task._exception  # exception() would count as reading
        place = _raised_at(error)
        message = f"{error!r} of {named(task)} at {place} is held and was not read"
        record("unread exception", place, message, spawned_at(task), log=False)
    _unread.clear()


# -- cancellation


def cancellation_survived(task: Any, error: BaseException) -> None:
    """A task went on, or ends, after ``error``, the CancelledError of a request that stands, and does not handle it."""
    coroutine = task.get_coro()
    place = places.of_catcher(error.__traceback__)
    _, reported = _survivors.get(task, (place, False))
    goes_on = not reported and getattr(coroutine, "cr_frame", None) is not None
    if goes_on:
        now = places.of_coroutine(coroutine)
        message = f"{named(task)} was cancelled at {place} and goes on at {now}"
        record("swallowed cancellation", place, message, spawned_at(task))
    _survivors[task] = place, reported or goes_on


def ended_after_cancel(task: Any, cleaned: list[tuple[CodeType, int | None]] | None) -> None:
    """A task ends well although it was cancelled; only those that have seen the CancelledError have swallowed it.

    It has ``cleaned`` up after that, where those are the lines that it had come out to, or has gone on.
    """
    place, reported = _survivors.pop(task, (None, False))
    if place is None and cleaned:
        place = places.innermost(reversed(cleaned))
    if place is not None and not reported:
        message = f"{named(task)} was cancelled at {place} and ended as if it had not been"
        record("swallowed cancellation", place, message, spawned_at(task))


# -- tasks that go on for nobody


def gather_failed(task: Any, callback: Any) -> None:
    """A task of a ``gather()`` has failed, and who awaited that has had its turn."""
    cells = getattr(callback, "_gathered", None) or graph.cells_of(callback)
    outer = cells.get("outer")
    if cells.get("return_exceptions") or outer is None or getattr(outer, "_exception", None) is not task._exception:
        return
    left = [
        child
        for child in dict.fromkeys(cells.get("children", ()))
        if isinstance(child, asyncio.Task)
        and not child.done()
        and not child.cancelling()
        and all(other is callback for other, _ in child._callbacks or ())
    ]
    if left:
        failed = _raised_at(task._exception)
        place = places.of_coroutine(left[0].get_coro())
        message = f"{len(left)} go on after {task._exception!r} at {failed} ended their gather(): {_list(left)}"
        record("siblings of a failed gather", place, message, spawned_at(left[0]))


def shield_cancelled(loop: Any, callback: Any) -> None:
    """Who awaited a ``shield()`` is cancelled: does anybody hold what was shielded?"""
    inner = graph.cells_of(callback).get("inner")
    if isinstance(inner, asyncio.Task) and not inner.done():
        loop.call_soon(_shielded, loop, [inner], 3)


def _shielded(loop: Any, box: list[Any], turns: int) -> None:
    if turns:
        loop.call_soon(_shielded, loop, box, turns - 1)
        return
    task = box[0]
    others = [callback for callback, _ in task._callbacks or () if callback.__module__ != asyncio.tasks.__name__]
    if task.done() or task.cancelling() or others:
        return
    del task
    if graph.references(box) == 2:  # the registry's, and that of the ring or of what it waits for
        place = places.of_coroutine(box[0].get_coro())
        message = f"{named(box[0])} goes on at {place}, and who awaited its shield() was cancelled"
        record("shielded task without owner", place, message, spawned_at(box[0]))


def resisted(kind: str, place: Place, message: str) -> None:
    """The end of the run has given something up; ``weft.shutdown`` has said so."""
    record(kind, place, message, log=False)


# -- generators


def generators_left(generators: list[Any], how: str) -> None:
    """asyncio closes these, which the program has not closed; it matters where closing runs code of the program's."""
    for generator in generators:
        if graph.cleans_up(generator):
            place = places.of_generator(generator)
            record("generator never closed", place, f"{place.function}() {how}, at {place}")


# -- words


def named(task: Any) -> str:
    """A task as messages name it."""
    return f"task {task.get_name()!r}" if isinstance(task, asyncio.Task) else repr(task)


def _raised_at(error: BaseException | None) -> Place:
    return places.of_traceback(None if error is None else error.__traceback__)


def _list(tasks: list[Any]) -> str:
    shown = [f"{named(task)} at {places.of_coroutine(task.get_coro())}" for task in tasks[:SHOWN]]
    return ", ".join(shown) + (f" and {len(tasks) - SHOWN} more" if len(tasks) > SHOWN else "")
