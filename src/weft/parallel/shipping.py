"""How functions, items, results and exceptions get into another process.

What both sides can import goes by reference (pickle). Lambdas, closures, and functions of ``__main__`` go by value
(cloudpickle, the extra ``weft[cluster]``), and then items and results as well, so that a class of ``__main__`` stays
one class. Without cloudpickle the worker imports the main module once more, as multiprocessing does, when it is first
asked for something of it. Invariant: what cannot be sent is named, with the remedy. Used by both sides.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from weft.errors import NotPicklableError, RemoteError, WorkerError

__all__ = ["Parcel", "check_may_start", "dumps", "install_main", "pack", "portable"]

EXTRA = "install cloudpickle (pip install 'weft[cluster]'), or define it at the top level of a module"
PROTOCOL = 5
MAIN = "__main__"
_importing_main = False


@dataclass(frozen=True)
class Parcel:
    """A function, ready to be sent.

    Attributes:
        payload: its pickle.
        by_value: whether items and results have to be sent by value, too.
    """

    payload: bytes
    by_value: bool


def pack(function: Callable[..., Any]) -> Parcel:
    """Makes a parcel of a function.

    Raises:
        NotPicklableError: it cannot be sent.
    """
    in_main = _module_of(function) == MAIN
    if in_main and _cloudpickle() is not None:
        try:
            return Parcel(dumps(function, by_value=True), by_value=True)
        except Exception:  # it holds something that has no value (a lock): perhaps it can be imported
            if not main_source():
                raise NotPicklableError(_why(function, sys.exc_info()[1], "take out what it refers to")) from None
    if in_main and not main_source():
        raise NotPicklableError(_why(function, "another process cannot import what was typed in here", EXTRA))
    try:
        return Parcel(pickle.dumps(function, PROTOCOL), by_value=False)
    except Exception as exc:
        if _cloudpickle() is None:
            raise NotPicklableError(_why(function, exc, EXTRA)) from exc
    try:
        return Parcel(dumps(function, by_value=True), by_value=True)
    except Exception as exc:
        raise NotPicklableError(_why(function, exc, "take out what it refers to")) from exc


def dumps(thing: Any, *, by_value: bool) -> bytes:
    """A pickle of something."""
    if by_value and (cloudpickle := _cloudpickle()) is not None:
        payload: bytes = cloudpickle.dumps(thing, PROTOCOL)
        return payload
    return pickle.dumps(thing, PROTOCOL)


def portable(error: BaseException, *, by_value: bool) -> BaseException:
    """An exception that arrives at the other side: the same with its traceback as a note, or one that stands for it."""
    inner = error.__traceback__ and error.__traceback__.tb_next  # the first frame is the worker's
    text = "".join(traceback.format_exception(type(error), error, inner)).rstrip()
    note = f"In worker process {os.getpid()}:\n{text}"
    try:
        error.add_note(note)
        pickle.loads(dumps(error, by_value=by_value))  # many exceptions can be pickled, but not read again
    except Exception:
        error = RemoteError(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
        error.add_note(note)
    return error


# -- the main module


def main_source() -> dict[str, str]:
    """From what another process can import this one's main module (keys of ``multiprocessing.spawn.prepare``)."""
    main = sys.modules["__mp_main__"] = sys.modules[MAIN]  # which is what workers call it, as multiprocessing's do
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    if path is not None and os.path.exists(path):
        return {"init_main_from_path": os.path.abspath(path)}
    return {}


def install_main(source: dict[str, str]) -> None:
    """In a worker: puts a ``__main__`` in place that becomes the parent's when something of it is asked for."""
    module = ModuleType(MAIN)

    def look(name: str) -> Any:
        if source and not (name.startswith("__") and name.endswith("__")) and not _importing_main:
            _import_main(source)
            if hasattr(sys.modules[MAIN], name):
                return getattr(sys.modules[MAIN], name)
        raise AttributeError(f"the main module of the parent process has no {name!r} that can be imported here")

    module.__getattr__ = look  # type: ignore[method-assign]
    sys.modules[MAIN] = module


def _import_main(source: dict[str, str]) -> None:
    global _importing_main
    from multiprocessing import spawn

    _importing_main = True
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(
        None
    )  # what the module does when it is imported should meet its own errors, not one of ours
    try:
        spawn.prepare(dict(source))
    finally:
        _importing_main = False
        asyncio._set_running_loop(loop)


def check_may_start() -> None:
    """Refuses to start workers while a worker imports the main module: it would go on for ever.

    Raises:
        WorkerError: a worker is importing the main module.
    """
    if _importing_main:
        raise WorkerError(
            "the main module starts workers when it is imported, and each worker imports it: put what starts it "
            f"behind `if __name__ == {MAIN!r}:`, or install cloudpickle (pip install 'weft[cluster]')"
        )


def _module_of(function: Any) -> str | None:
    while isinstance(function, partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        function = owner
    if not hasattr(function, "__qualname__"):
        function = type(function)
    module: str | None = getattr(function, "__module__", None)
    return module


def _cloudpickle() -> ModuleType | None:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None


def _why(function: Any, reason: object, remedy: str) -> str:
    return f"{function!r} cannot be sent to another process: {reason}; {remedy}"
