"""weft: a coroutine runtime for Python.

The layers, from the top: ``weft.cli`` (the command), ``weft.runner`` (``run``, ``Runner``), ``weft.loop`` (asyncio's
event-loop API by topic, ordinary Python), ``weft._core`` (scheduler, tasks, driver, transports; compiled). Imports only
go down; docs/architecture.md is the map.
"""

import gc
import importlib
from typing import TYPE_CHECKING, Any

# Nothing that imports make is garbage, and the collector's looking for some takes a tenth of their time. What they have
# made is then taken for old, as it would be after a few collections (freeze() and unfreeze() move it there unseen).
_collecting = gc.isenabled() and gc.get_freeze_count() == 0
if _collecting:
    gc.disable()

from weft._start import import_asyncio

import_asyncio()

from weft._core.task import Task, TaskState
from weft._version import __version__
from weft.loop import EventLoop
from weft.runner import Runner, install, new_event_loop, run

if TYPE_CHECKING:
    from weft.acceleration import Acceleration, accelerate
    from weft.consumers import AsyncConsumer, Consumer, consumer
    from weft.coroutines import coroutine
    from weft.errors import MapError
    from weft.parallel.map import Failed, Map, Progress, map
    from weft.parallel.offload import to_interpreter, to_process, to_thread
    from weft.primitives import (
        Barrier,
        BoundedSemaphore,
        Condition,
        Event,
        LifoQueue,
        Lock,
        PriorityQueue,
        Queue,
        Semaphore,
        TaskGroup,
        Timeout,
        as_completed,
        gather,
        shield,
        sleep,
        timeout,
        timeout_at,
        wait,
        wait_for,
    )
    from weft.serving import serve
    from weft.streams import (
        StreamReader,
        StreamWriter,
        open_connection,
        open_unix_connection,
        start_server,
        start_unix_server,
    )

if _collecting:
    gc.freeze()
    gc.unfreeze()
    gc.enable()

__all__ = [
    "Acceleration",
    "AsyncConsumer",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Consumer",
    "Event",
    "EventLoop",
    "Failed",
    "LifoQueue",
    "Lock",
    "Map",
    "MapError",
    "PriorityQueue",
    "Progress",
    "Queue",
    "Runner",
    "Semaphore",
    "StreamReader",
    "StreamWriter",
    "Task",
    "TaskGroup",
    "TaskState",
    "Timeout",
    "__version__",
    "accelerate",
    "as_completed",
    "consumer",
    "coroutine",
    "gather",
    "install",
    "map",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "serve",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_interpreter",
    "to_process",
    "to_thread",
    "wait",
    "wait_for",
]

# What most programs do not use is imported when it is first asked for (PEP 562).
_LATER = {
    "Acceleration": "weft.acceleration",
    "AsyncConsumer": "weft.consumers",
    "Consumer": "weft.consumers",
    "StreamReader": "weft.streams",
    "StreamWriter": "weft.streams",
    "Failed": "weft.parallel.map",
    "Map": "weft.parallel.map",
    "MapError": "weft.errors",
    "Progress": "weft.parallel.map",
    "accelerate": "weft.acceleration",
    "consumer": "weft.consumers",
    "coroutine": "weft.coroutines",
    "serve": "weft.serving",
    "open_connection": "weft.streams",
    "open_unix_connection": "weft.streams",
    "start_server": "weft.streams",
    "start_unix_server": "weft.streams",
    "map": "weft.parallel.map",
    "to_interpreter": "weft.parallel.offload",
    "to_process": "weft.parallel.offload",
    "to_thread": "weft.parallel.offload",
    **dict.fromkeys(
        [
            "Barrier",
            "BoundedSemaphore",
            "Condition",
            "Event",
            "LifoQueue",
            "Lock",
            "PriorityQueue",
            "Queue",
            "Semaphore",
            "TaskGroup",
            "Timeout",
            "as_completed",
            "gather",
            "shield",
            "sleep",
            "timeout",
            "timeout_at",
            "wait",
            "wait_for",
        ],
        "weft.primitives",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
