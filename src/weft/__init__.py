"""weft: a coroutine runtime for Python.

The layers, from the top: ``weft.cli`` (the command), ``weft.runner`` (``run``, ``Runner``), ``weft.loop`` (asyncio's
event-loop API by topic, ordinary Python), ``weft._core`` (scheduler, tasks, driver, transports; compiled). Imports only
go down; docs/architecture.md is the map.
"""

from weft._core.task import Task, TaskState
from weft._version import __version__
from weft.loop import EventLoop
from weft.runner import Runner, install, new_event_loop, run

__all__ = ["EventLoop", "Runner", "Task", "TaskState", "__version__", "install", "new_event_loop", "run"]
