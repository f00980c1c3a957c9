"""Handles: one callback that is to run once, with its arguments and its context, and that can be cancelled.

``Runnable`` is all that the scheduler knows of what it runs: ``run(argument)`` runs it to its next stop, and ``report``
tells the loop's exception handler what ``run`` let out. A ``Handle`` is the runnable behind
``call_soon``; timers derive from it; the task stepper is the other runnable. The invariant: a handle that has run or
was cancelled holds neither callback nor arguments, save for those that run again and again (``is_kept``); so a chain of
handles, each of which refers to the one before, is never freed by recursion.
"""

import asyncio
import sys
import threading
from asyncio import format_helpers

import cython
from cython.cimports.cpython.contextvars import PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cython.cimports.weft._core.sys.python import PyThread_get_thread_ident, weft_call

from weft import versions


class Runnable:
    def run(self, argument):
        raise NotImplementedError

    def describe(self, argument):
        """The object to name in a message about this runnable."""
        return self

    def report(self, loop, argument, error):
        raise NotImplementedError

    def drop(self):
        """It will not run any more: let go of what it was to run."""
        return 0

    # For those that wait in the timer heap.

    def is_void(self):
        """Whether it is in the heap for nothing: it was cancelled."""
        return False

    def leave_heap(self):
        """It is in the heap no longer."""


class Handle(Runnable):
    """A callback that the loop will run, as ``call_soon`` returns it; see :class:`asyncio.Handle`."""

    @property
    def __class__(self):
        # isinstance(handle, asyncio.Handle) holds without deriving from a class that has no C layout.
        return asyncio.Handle

    @property
    def _loop(self):
        return self.loop

    @property
    def _callback(self):
        return self.callback

    @property
    def _args(self):
        return self.args

    @property
    def _context(self):
        return self.context

    @property
    def _cancelled(self):
        return self.is_cancelled

    @property
    def _source_traceback(self):
        return self.source_traceback

    def __init__(self):
        raise TypeError("handles are made by loop.call_soon(), call_later(), call_at() and call_soon_threadsafe()")

    def describe(self, argument):
        return _describe(self)  # now: once it has run, it no longer knows

    def run(self, argument):
        if self.is_cancelled:
            return 0
        # The locals keep both alive when the callback cancels its own handle.
        context: object = self.context
        args: tuple = self.args
        callback: object = self.callback
        PyContext_Enter(context)
        try:
            weft_call(callback, args)
        finally:
            PyContext_Exit(context)
        if not self.is_kept:
            self.drop()
        return 0

    def callback_text(self):
        """How asyncio words a callback; its arguments are shown where this version shows them."""
        if self.callback is None:
            return self.text
        return versions.format_callback(self.callback, self.args or (), self.source_traceback is not None)

    def timing(self):
        """What a timer adds to its repr."""
        return None

    def report(self, loop, argument, error):
        context: dict = {"message": f"Exception in callback {self.callback_text()}", "exception": error, "handle": self}
        if self.source_traceback is not None:
            context["source_traceback"] = self.source_traceback
        loop.call_exception_handler(context)
        if not self.is_kept:
            self.drop()
        return 0

    def _run(self) -> None:
        """Run the callback now, as :meth:`asyncio.Handle._run` does; for tools that drive handles themselves."""
        try:
            self.run(cython.NULL)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(self.loop, cython.NULL, error)

    def drop(self):
        if self.source_traceback is not None and self.callback is not None:
            self.text = self.callback_text()  # debug mode: what it was remains to be read
        self.callback = None
        self.args = None
        return 0

    def cancel(self) -> None:
        """Keep the callback from running, where it has not run yet."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self.drop()

    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self.is_cancelled

    def get_context(self):
        """The :class:`contextvars.Context` that the callback runs in."""
        return self.context

    def __repr__(self) -> str:
        return _describe(self)


weft_pool_type(Handle)


class ThreadSafeHandle(Handle):
    """What ``call_soon_threadsafe`` returns from CPython 3.14 on: ``cancel()`` waits for a callback that is running.

    asyncio has a lock in each of them, of which next to none is ever waited for. Here who has to wait brings a lock of
    its own: the GIL makes it one step to see that the callback runs and to line up for its end.
    """

    @property
    def __class__(self):
        return versions.THREADSAFE_HANDLE

    def run(self, argument):
        self.runner = PyThread_get_thread_ident()
        try:
            return Handle.run(self, argument)
        finally:
            self.runner = 0
            if self.waiting is not None:
                for lock in self.waiting:
                    lock.release()
                self.waiting = None

    def cancel(self) -> None:
        self.wait_for_runner()
        Handle.cancel(self)

    def cancelled(self) -> bool:
        self.wait_for_runner()
        return self.is_cancelled

    def wait_for_runner(self):
        while self.runner != 0 and self.runner != PyThread_get_thread_ident():
            if self.waiting is None:
                self.waiting = []
            lock = threading.Lock()
            lock.acquire()
            self.waiting.append(lock)
            lock.acquire()
        return 0


def _describe(handle: Handle) -> str:
    """Like ``<Handle f() at app.py:3 created at app.py:9>``, which is how asyncio words it."""
    parts = [
        type(handle).__name__,
        "cancelled" if handle.is_cancelled else None,
        handle.timing(),
        handle.callback_text(),
    ]
    if handle.source_traceback:
        frame = handle.source_traceback[-1]
        parts.append(f"created at {frame[0]}:{frame[1]}")
    return "<" + " ".join([part for part in parts if part]) + ">"


def new_handle(loop, callback, args, context, debug):
    """A fresh handle; ``context`` None means a copy of the current one, as everywhere in asyncio."""
    handle: Handle = Handle.__new__(Handle)
    fill(handle, loop, callback, args, context, debug)
    return handle


def new_threadsafe_handle(loop, callback, args, context, debug):
    handle: ThreadSafeHandle = ThreadSafeHandle.__new__(ThreadSafeHandle)
    fill(handle, loop, callback, args, context, debug)
    return handle


def fill(handle, loop, callback, args, context, debug):
    handle.loop = loop
    handle.callback = callback
    handle.args = args
    handle.context = PyContext_CopyCurrent() if context is None else context
    if debug:
        # Compiled code has no frame of its own: frame 0 is the caller of the loop's method.
        handle.source_traceback = format_helpers.extract_stack(sys._getframe(0))
    return 0
