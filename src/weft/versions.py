"""What differs between the supported versions of CPython, as named constants: the only place that compares versions."""

import inspect
import sys
import threading
from asyncio import coroutines, events, format_helpers
from collections.abc import Callable
from contextvars import Context
from typing import Any

#: From 3.14 on ``call_soon_threadsafe`` returns a handle whose ``cancel()`` waits for a callback that is running.
THREADSAFE_HANDLE_CANCEL_WAITS = sys.version_info >= (3, 14)
#: The class that such a handle claims to be.
THREADSAFE_HANDLE: type = getattr(events, "_ThreadSafeHandle", events.Handle)
#: From 3.12 on tasks can start eagerly (``Task(eager_start=True)``).
EAGER_TASKS = sys.version_info >= (3, 12)
#: From 3.12 on ``loop.create_task`` and friends know which tasks wait for which; the await graph came with 3.14.
AWAIT_GRAPH = sys.version_info >= (3, 14)
#: Tools that look at a process from outside read a task's name, from 3.14 on; up to then it need not be made before it
#: is asked for, which saves 32 to 64 bytes per task.
LAZY_TASK_NAMES = sys.version_info < (3, 14)
#: From 3.12 on ``sys.monitoring`` tells of calls at next to no cost.
MONITORING = sys.version_info >= (3, 12)
#: From 3.13 on ``Task.uncancel()`` to zero takes back a cancellation that has not been delivered.
UNCANCEL_TAKES_BACK = sys.version_info >= (3, 13)
#: From 3.12 on ``Server.wait_closed()`` waits for the connections too; before it returned at once after ``close()``.
SERVER_WAITS_FOR_CONNECTIONS = sys.version_info >= (3, 12)
#: From 3.14 on a ``Server.serve_forever()`` that is cancelled closes the connections before it waits for their end.
SERVE_FOREVER_CLOSES_CONNECTIONS = sys.version_info >= (3, 14)
#: From 3.14.7 on a ``create_connection(sock=...)`` that fails closes the program's socket too; before, it stayed open.
FAILED_CONNECTION_CLOSES_SOCKET = sys.version_info >= (3, 14, 7)
#: From 3.14 on ``sendfile`` goes to ``offset`` however it sends, and leaves the file behind the last byte that was sent
#: even where that is none; before, reading and writing in place of sendfile(2) took an offset of 0 for "from here".
SENDFILE_ALWAYS_SEEKS = sys.version_info >= (3, 14)
#: From 3.15 on all methods of a stream's protocol run in one context; before, each was called in some copy.
STREAM_HAS_ONE_CONTEXT = sys.version_info >= (3, 15)
#: Whether the private parts of asyncio's ``StreamReader`` are those that weft knows how to fill.
STREAM_READER_IS_KNOWN = (3, 11) <= sys.version_info < (3, 16)
#: From 3.13 on ``create_unix_server`` removes its path when the server closes, unless told otherwise.
UNIX_SERVER_UNLINKS = sys.version_info >= (3, 13)
#: From 3.13 on whoever leaves a semaphore's line wakes all for whom there is room; before, the next one alone.
SEMAPHORE_WAKES_ALL = sys.version_info >= (3, 13)
#: From 3.13 on a ``Condition.wait()`` that fails passes the notification on that it may have got, and raises the
#: cancellation that came; before, it raised a new one without message.
CONDITION_PASSES_ON = sys.version_info >= (3, 13)
#: From 3.13 on ``sleep()`` refuses what is not a number; before, it was for the loop to make something of it.
SLEEP_REFUSES_NAN = sys.version_info >= (3, 13)
#: How asyncio refuses a stream socket for a datagram endpoint; programs match the text.
DATAGRAM_SOCKET_EXPECTED = (
    "A datagram socket was expected" if sys.version_info >= (3, 13) else "A UDP Socket was expected"
)
#: Event-loop policies are deprecated from 3.14 on and gone in 3.16.
POLICIES_DEPRECATED = sys.version_info >= (3, 14)
POLICIES_GONE = sys.version_info >= (3, 16)
#: From 3.14 on there is ``concurrent.futures.InterpreterPoolExecutor``.
INTERPRETER_POOLS = sys.version_info >= (3, 14)

if sys.version_info >= (3, 14):
    #: Up to 3.13 asyncio keeps a loop's current task in this dict; from 3.14 on it stands in the thread's state.
    CURRENT_TASKS = None
    from asyncio import future_add_to_awaited_by, future_discard_from_awaited_by
    from asyncio.tasks import _swap_current_task as swap_current_task  # type: ignore[attr-defined]  # private as well
else:
    from asyncio import tasks

    CURRENT_TASKS = tasks._current_tasks  # type: ignore[attr-defined]  # private, so not in typeshed
    swap_current_task = future_add_to_awaited_by = future_discard_from_awaited_by = None


def format_callback(callback: Any, args: tuple[Any, ...], debug: bool) -> str:
    """asyncio's words for a callback: ``f() at app.py:3``; from 3.13 on its arguments are shown in debug mode only."""
    if sys.version_info >= (3, 13):
        return str(format_helpers._format_callback_source(callback, args, debug=debug))  # type: ignore[attr-defined]
    return str(format_helpers._format_callback_source(callback, args))


def mark_coroutine_function(function: Any) -> None:
    """Have ``iscoroutinefunction`` say of a compiled function, which returns a coroutine, that it is one.

    asyncio's asks for the mark in every version; that of :mod:`inspect` can be told from 3.12 on.
    """
    function._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]  # private, so not in typeshed
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)


def call_task_factory(
    factory: Callable[..., Any], loop: Any, coro: Any, name: str | None, context: Context | None, extra: dict[str, Any]
) -> Any:
    """Make a task by the user's factory, with the arguments that this version of asyncio hands to it."""
    if context is not None:
        extra["context"] = context
    if sys.version_info >= (3, 14):
        if name is not None:
            extra["name"] = name
        return factory(loop, coro, **extra)
    task = factory(loop, coro, **extra)
    if name is not None:
        task.set_name(name)
    return task


def let_go_of_thread(thread: threading.Thread) -> None:
    """Let the process end without a thread that does not return, for which the interpreter would wait.

    Two places join threads at exit, ``concurrent.futures.thread`` and ``threading``; neither has a public way to leave
    one out.
    """
    from concurrent.futures import thread as pool

    getattr(pool, "_threads_queues", {}).pop(thread, None)
    if sys.version_info >= (3, 13):
        _left_behind.add(thread)
        threading._thread_shutdown = _join_others  # type: ignore[attr-defined]
    else:
        with threading._shutdown_locks_lock:  # type: ignore[attr-defined]
            threading._shutdown_locks.discard(thread._tstate_lock)  # type: ignore[attr-defined]


_left_behind: set[threading.Thread] = set()


def _join_others() -> None:
    """What ``threading`` does at exit from 3.13 on, save for what was let go of."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread() and thread not in _left_behind:
            thread.join()


def keep_for_ever(thing: object) -> None:
    """See to it that ``thing`` is never destroyed, not even at the end of the process."""
    from ctypes import py_object, pythonapi

    pythonapi.Py_IncRef(py_object(thing))
