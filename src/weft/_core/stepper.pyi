"""Types of the scheduler with tasks."""

import asyncio
from abc import ABCMeta
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

from weft._core.scheduler import Scheduler

_Ts = TypeVarTuple("_Ts")

SteppedTask: type[asyncio.Task[object]]

class TaskScheduler(Scheduler, metaclass=ABCMeta):  # abstract, as Scheduler is
    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle: ...
