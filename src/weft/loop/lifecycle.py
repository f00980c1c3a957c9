"""From a new loop to a closed one: running, stopping, debug mode, the exception handler, async generators, closing.

One invariant: between the two lines that set and reset asyncio's running loop, whatever else was changed for the run
(asyncgen hooks, the wake-up descriptor for signals, coroutine origin tracking) is changed back, however the run ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
import warnings
import weakref
from asyncio import coroutines, events
from asyncio.log import logger
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from weft.errors import LoopRunningError
from weft.loop import troubles
from weft.loop._host import Host

ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

# How many frames of a coroutine's origin debug mode keeps (asyncio: 10).
ORIGIN_DEPTH = 10
# How asyncio ends its report of an exception that nobody has read.
NEVER_RETRIEVED = "exception was never retrieved"


class Lifecycle(Host):
    """``run_forever`` to ``close``."""

    def __init__(self) -> None:
        super().__init__()
        self._exception_handler: ExceptionHandler | None = None
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown = False
        self._awaited: asyncio.Future[Any] | None = None  # by run_until_complete
        self._ending: asyncio.Future[Any] | None = None  # the main task, once a signal has cancelled it
        self._task_observer = troubles.observe
        if troubles.detailed:
            troubles.found("note_spawns", self)
        _loops.add(self)
        self.set_debug(coroutines._is_debug_mode())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self.is_closed():
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
            if not self.is_running():
                self.close()

    # -- running -------------------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until :meth:`stop` is called.

        Raises:
            RuntimeError: when this loop is closed, or this or another loop is running in this thread.
        """
        self._check_closed()
        self._check_not_running()
        hooks = sys.get_asyncgen_hooks()
        tracking = sys.get_coroutine_origin_tracking_depth()
        try:
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_started, finalizer=self._asyncgen_dropped)
            if self.get_debug():
                sys.set_coroutine_origin_tracking_depth(ORIGIN_DEPTH)
            self._signals_enter()
            events._set_running_loop(self)
            self._run(threading.get_ident())
        finally:
            events._set_running_loop(None)
            self._signals_leave()
            sys.set_coroutine_origin_tracking_depth(tracking)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Any) -> Any:
        """Run until ``future`` (a coroutine becomes a task) is done; returns its result or raises its exception.

        Raises:
            RuntimeError: as :meth:`run_forever`, and when the loop is stopped before ``future`` is done.
        """
        self._check_closed()
        self._check_not_running()
        is_new = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)
        if is_new:
            # An exception is raised below; should something else end the run, that is what counts.
            future._log_destroy_pending = False
        future.add_done_callback(_stop_when_done)
        self._awaited = future
        try:
            self.run_forever()
        except BaseException as error:
            # It is what is being raised, or of no interest any more.
            if future.done() and not future.cancelled() and (is_new or getattr(future, "_exception", None) is error):
                future.exception()
            raise
        finally:
            self._awaited = None
            future.remove_done_callback(_stop_when_done)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def _check_not_running(self) -> None:
        if self.is_running():
            raise LoopRunningError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise LoopRunningError("Cannot run the event loop while another loop is running")

    def close(self) -> None:
        """Close the loop: drop what is scheduled, and give back every descriptor and pool.

        Unfinished tasks are let go, and say so. Closing twice is harmless.

        Raises:
            RuntimeError: when the loop is running.
        """
        if self.is_running():
            raise LoopRunningError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            logger.debug("Close %r", self)
        self._release()

    # -- debug mode and exceptions -------------------------------------------------------------------------------------

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode on or off; see asyncio's documentation of it."""
        self._set_debug(enabled)
        if self.is_running():
            self.call_soon_threadsafe(sys.set_coroutine_origin_tracking_depth, ORIGIN_DEPTH if enabled else 0)

    def get_exception_handler(self) -> ExceptionHandler | None:
        """The handler set by :meth:`set_exception_handler`, or None."""
        return self._exception_handler

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Set ``handler(loop, context)`` for exceptions that nothing else catches; None for the default.

        Raises:
            TypeError: when ``handler`` is neither None nor callable.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log ``context`` as an error; its keys are those of :meth:`asyncio.loop.call_exception_handler`."""
        lines = [context.get("message") or "Unhandled exception in event loop"]
        exception = context.get("exception")
        for key in sorted(context):
            if key in ("message", "exception"):
                continue
            value = context[key]
            if key in ("source_traceback", "handle_traceback"):
                what = "Object" if key == "source_traceback" else "Handle"
                stack = "".join(traceback.format_list(value)).rstrip()
                lines.append(f"{what} created at (most recent call last):\n{stack}")
            else:
                lines.append(f"{key}: {value!r}")
        info = (type(exception), exception, exception.__traceback__) if exception is not None else False
        logger.error("\n".join(lines), exc_info=info)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an exception that nothing else catches; an error in the handler is logged and goes no further."""
        handler = self._exception_handler
        if str(context.get("message")).endswith(NEVER_RETRIEVED) and not sys.is_finalizing():
            context = troubles.found("exception_lost", context)
        if handler is None:
            self._log_or_give_up(context, "Exception in default exception handler")
            return
        try:
            # The context of the thing that failed, where it has one: the handler may look at context variables.
            source: Any = context.get("task") or context.get("future") or context.get("handle")
            run_in = source.get_context() if hasattr(source, "get_context") else None
            if run_in is not None and hasattr(run_in, "run"):
                run_in.run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._log_or_give_up(
                {"message": "Unhandled error in exception handler", "exception": error, "context": context},
                "Exception in default exception handler while handling an unexpected error in custom exception handler",
            )

    def _log_or_give_up(self, context: dict[str, Any], last_words: str) -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(last_words, exc_info=True)

    # -- async generators ----------------------------------------------------------------------------------------------

    def _asyncgen_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(generator)

    def _asyncgen_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(generator)
        if not self.is_closed():
            # Garbage collection may run in any thread.
            self.call_soon_threadsafe(self._close_dropped, generator, generator.aclose())

    def _close_dropped(self, generator: AsyncGenerator[Any, Any], closing: Coroutine[Any, Any, None]) -> None:
        troubles.found("generators_left", [generator], "was dropped before its end")
        self.create_task(closing)

    async def shutdown_asyncgens(self) -> None:
        """Close every asynchronous generator that is still open; later ones give a warning."""
        self._asyncgens_shutdown = True
        if not self._asyncgens:
            return
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        troubles.found("generators_left", closing, "was open until the end of the run")
        results = await asyncio.gather(*[generator.aclose() for generator in closing], return_exceptions=True)
        for result, generator in zip(results, closing, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )


_loops: weakref.WeakSet[Lifecycle] = weakref.WeakSet()
"""Every loop, for a forked child to look after."""


def _leave_loops_to_parent() -> None:
    """In a forked child: what it does to a loop it has inherited must not reach the parent, or the parent's peers."""
    for loop in list(_loops):
        loop._driver.after_fork(loop.is_running())


os.register_at_fork(after_in_child=_leave_loops_to_parent)


def _stop_when_done(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), SystemExit | KeyboardInterrupt):
        return  # it leaves the loop by itself
    future.get_loop().stop()
