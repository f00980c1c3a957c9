"""Every exception that weft raises on its own account.

Owns the hierarchy. The one invariant: each class is also a subclass of what asyncio raises in the same place, and has
the same text, so a program that catches asyncio's exception, or compares its text, keeps working.
May be imported from anywhere, the compiled core included; it imports nothing.
"""

from __future__ import annotations

__all__ = [
    "ConsumerEndedError",
    "ConsumerError",
    "ExecutorShutdownError",
    "LoopClosedError",
    "LoopRunningError",
    "MapError",
    "NotPicklableError",
    "RemoteError",
    "StallError",
    "WeftError",
    "WorkerError",
    "WrongThreadError",
]


class WeftError(Exception):
    """Base of everything that weft raises on its own account.

    Args:
        message: What is wrong, in asyncio's words where asyncio has some; the class's ``message`` if left out.

    The remedy is attached as a note (PEP 678): it shows in the traceback and leaves ``str(error)`` as asyncio has it.
    """

    message = "weft cannot do this"
    remedy = ""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.message if message is None else message)
        if self.remedy:
            self.add_note(self.remedy)


class LoopClosedError(WeftError, RuntimeError):
    """The loop was closed before this was asked of it."""

    message = "Event loop is closed"
    remedy = "A closed loop stays closed: make another with weft.new_event_loop(), or close this one later."


class LoopRunningError(WeftError, RuntimeError):
    """A loop is asked to run, or to close, while one runs in this thread."""

    message = "This event loop is already running"
    remedy = "Inside a coroutine use await or create_task(); a second loop needs a thread of its own."


class WrongThreadError(WeftError, RuntimeError):
    """A loop was called from a thread that does not run it."""

    message = "Non-thread-safe operation invoked on an event loop other than the current one"
    remedy = "From another thread use loop.call_soon_threadsafe() or asyncio.run_coroutine_threadsafe()."


class StallError(WeftError, RuntimeError):
    """A callback blocks its loop, or calls what can block it, where ``weft.watch.strict()`` makes that an error."""

    message = "A callback has blocked the loop"
    remedy = "weft.watch.allow_blocking() is for what may block; strict(allow=[...]) for whole modules."


class ConsumerError(WeftError, RuntimeError):
    """A ``weft.consumer`` is used, or written, in a way that cannot work."""

    message = "This consumer cannot be used so"


class ConsumerEndedError(ConsumerError):
    """An item is sent to a consumer that has returned, failed or been closed."""

    message = "This consumer takes no more items"
    remedy = "Ask `consumer.ended` before sending, or let feed() stop with it."


class ExecutorShutdownError(WeftError, RuntimeError):
    """The default executor is needed after ``shutdown_default_executor()``."""

    message = "Executor shutdown has been called"
    remedy = "Pass an executor of your own to run_in_executor(), or shut the default one down later."


class MapError(WeftError, RuntimeError):
    """The function given to ``weft.map`` failed for an item. Its own exception is the ``__cause__``.

    Attributes:
        item: the item.
        index: its place among the items, from 0.
        error: the function's exception.
    """

    message = "weft.map() failed for an item"

    def __init__(self, item: object, index: int, error: BaseException) -> None:
        text = _short(item)
        super().__init__(f"item {index} ({text}) failed: {type(error).__name__}: {error}")
        self.item = item
        self.index = index
        self.error = error
        self.__cause__ = error

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.item, self.index, self.error)


class WorkerError(WeftError, RuntimeError):
    """A worker process could not do what it was asked: it does not start, cannot be understood, or has died."""

    message = "A worker process cannot go on"


class NotPicklableError(WeftError, TypeError):
    """A function, an item or a result cannot be sent to another process."""

    message = "This cannot be sent to another process"


class RemoteError(WeftError, RuntimeError):
    """Stands for an exception of a worker that cannot be sent from there; its text names class and message."""

    message = "An exception in a worker"


def _short(thing: object, most: int = 100) -> str:
    try:
        text = repr(thing)
    except Exception:  # of somebody else's class: no reason to lose the error that is being told
        text = f"<{type(thing).__name__} object>"
    return text if len(text) <= most else f"{text[:most]}..."
