"""``weft.accelerate()``: weft's primitives in the place of asyncio's, for programs that do not know of weft.

A function is put wherever a module of asyncio has it (``asyncio.sleep``, ``asyncio.tasks.sleep``, ...). A class stays
where it is, so that ``isinstance``, subclasses, and names imported long before hold; what changes is what it makes: an
``asyncio.Queue()`` is a ``weft.Queue``, which derives from it. The invariant: what was put in place is taken away again
by the last of those who asked for it, and nothing that somebody else has put there is touched.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from weft._core.classes import forget_new
from weft.primitives import CLASSES, FUNCTIONS

__all__ = ["Acceleration", "accelerate"]

_lock = threading.Lock()
_users = 0  # how many accelerations are in force


class Acceleration:
    """What :func:`accelerate` returns: a context manager that ends it, once."""

    def __init__(self) -> None:
        self._is_active = False

    def __repr__(self) -> str:
        return f"<weft.accelerate(): {'in force' if self._is_active else 'over'}>"

    def restore(self) -> None:
        """Give asyncio its own back, unless another acceleration is in force; what was made stays what it is."""
        global _users
        with _lock:
            if not self._is_active:
                return
            self._is_active = False
            _users -= 1
            if _users == 0:
                _take_away()

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()


def accelerate() -> Acceleration:
    """Put weft's primitives in the place of asyncio's, in the whole process, until told otherwise.

    ``asyncio.Queue``, ``LifoQueue``, ``PriorityQueue``, ``Lock``, ``Event``, ``Condition``, ``Semaphore``,
    ``BoundedSemaphore`` and ``Timeout`` make objects of weft's classes from now on, and ``sleep``, ``gather``,
    ``timeout`` and ``timeout_at`` are weft's. On loops that are not weft's they work as well. What stays asyncio's own:
    objects of classes that derive from asyncio's, and functions that somebody imported by name before.

    Returns:
        A context manager, for ``with``; or call its :meth:`Acceleration.restore`. Accelerations nest.
    """
    global _users
    acceleration = Acceleration()
    with _lock:
        if _users == 0:
            _put_in_place()
        _users += 1
        acceleration._is_active = True
    return acceleration


def _put_in_place() -> None:
    _replace(FUNCTIONS)
    for stock, ours in CLASSES.items():
        stock.__new__ = staticmethod(_maker(stock, ours))  # type: ignore[method-assign]


def _take_away() -> None:
    _replace({ours: stock for stock, ours in FUNCTIONS.items()})
    for stock in CLASSES:
        if getattr(vars(stock).get("__new__"), "__func__", None) in _makers:
            forget_new(stock)
    _makers.clear()


def _replace(functions: dict[Any, Any]) -> None:
    """Put a function in the place of another, under its name in every module of asyncio that has it."""
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "asyncio"]
    for before, after in functions.items():
        name = before.__name__
        for module in modules:
            if getattr(module, name, None) is before:
                setattr(module, name, after)


_makers: set[Any] = set()


def _maker(stock: Any, ours: Any) -> Callable[..., Any]:
    """A ``__new__`` for ``stock`` that makes objects of ``ours``, and leaves those of subclasses alone."""

    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls is stock:
            return ours.__new__(ours)
        make = super(stock, cls).__new__
        return make(cls) if make is object.__new__ else make(cls, *args, **kwargs)

    _makers.add(__new__)
    return __new__
