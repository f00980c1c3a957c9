"""Types of ``weft.Task``, and of the loop's methods that make tasks and futures."""

import asyncio
import enum
import sys
from asyncio.events import _TaskFactory
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

TaskState = enum.Enum(
    "TaskState", {"PENDING": "pending", "RUNNING": "running", "DONE": "done", "CANCELLED": "cancelled"}
)

class Task(asyncio.Task[_T_co]):
    def __init__(
        self,
        coro: Coroutine[Any, Any, _T_co],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool = False,
    ) -> None: ...
    @property
    def state(self) -> TaskState: ...
    def cancel(self, msg: Any | None = None) -> bool: ...
    def cancelling(self) -> int: ...
    def uncancel(self) -> int: ...
    if sys.version_info >= (3, 12):
        def get_coro(self) -> Coroutine[Any, Any, _T_co] | None: ...
    else:
        def get_coro(self) -> Generator[Any, None, _T_co] | Coroutine[Any, Any, _T_co]: ...

    def result(self) -> _T_co: ...
    def exception(self) -> BaseException | None: ...
    def __await__(self) -> Generator[Any, None, _T_co]: ...
    def __iter__(self) -> Generator[Any, None, _T_co]: ...

class Tasks:
    def __init__(self) -> None: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]: ...
    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...
    def get_task_factory(self) -> _TaskFactory | None: ...
