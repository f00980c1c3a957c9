"""Unix signals: handlers that run as callbacks of the loop, and waking a loop that waits when a signal comes.

Owns one non-blocking pipe per loop, made when it is first needed. While the loop runs in the main thread (and for as
long as it has handlers) the pipe's writing end is the interpreter's wake-up descriptor: the C-level handler writes the
signal's number to it, at once and in any state of the loop, so a signal that comes between the last check and the start
of the wait ends the wait. The one invariant: the descriptor that was installed before comes back; a closed one never.
``Lifecycle.run_forever`` calls ``_signals_enter`` and ``_signals_leave``.
"""

from __future__ import annotations

import contextvars
import errno
import inspect
import logging
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from signal import set_wakeup_fd
from threading import get_ident, main_thread
from types import FrameType
from typing import Any, NamedTuple, TypeVarTuple

from weft.loop._host import Host

__all__ = ["Signals"]

logger = logging.getLogger("asyncio")

_Ts = TypeVarTuple("_Ts")

READ_SIZE = 4096
"""Signal numbers taken from the pipe at once."""


class _Handler(NamedTuple):
    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context


class Signals(Host):
    """Mixin: ``add_signal_handler``, ``remove_signal_handler`` and the wake-up pipe."""

    def __init__(self) -> None:
        super().__init__()
        self._signal_handlers: dict[int, _Handler] = {}
        self._signal_reader = -1
        self._signal_writer = -1
        self._signal_installed = False
        self._signal_previous = -1  # wake-up descriptor that ours has displaced
        self._signal_displaced: Signals | None = None  # the loop that it belongs to, if it is one of ours

    def _release(self) -> None:
        try:
            if sys.is_finalizing():
                self._abandon_signal_handlers()
            for signum in list(self._signal_handlers):
                self.remove_signal_handler(signum)
            self._close_signal_pipe()
        finally:
            super()._release()

    def _abandon_signal_handlers(self) -> None:
        if self._signal_handlers:
            text = f"Closing the loop {self!r} on interpreter shutdown stage, skipping signal handlers removal"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            self._signal_handlers.clear()

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call ``callback(*args)`` from the loop whenever the process receives signal ``sig``.

        Unlike a handler of ``signal.signal`` it may use the loop freely. It runs in the context of this call. A handler
        that was set for ``sig`` before is replaced.

        Raises:
            TypeError: ``sig`` is no int, or ``callback`` is a coroutine or a coroutine function.
            ValueError: There is no signal ``sig``.
            RuntimeError: The signal cannot be caught, the loop is closed, or this is not the main thread, the only one
                in which Python handles signals.
        """
        _check_callback(callback)
        _check_signal(sig)
        self._check_closed()
        try:
            self._install_signal_pipe()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        self._signal_handlers[sig] = _Handler(callback, args, contextvars.copy_context())
        try:
            signal.signal(sig, _leave_it_to_the_pipe)
            signal.siginterrupt(sig, False)  # SA_RESTART: spare code that does not expect EINTR
        except OSError as exc:
            del self._signal_handlers[sig]
            self._uninstall_unless_needed()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Give signal ``sig`` its default treatment again; return whether the loop had a handler for it.

        Raises:
            TypeError: ``sig`` is no int.
            ValueError: There is no signal ``sig``.
            RuntimeError: The signal cannot be caught.
        """
        _check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        try:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise
        self._uninstall_unless_needed()
        return True

    def _signals_enter(self) -> None:
        """The loop starts to run: from here on a signal wakes it. Does nothing outside the main thread.

        Runs for every ``run_until_complete``: two thirds of its time are the two system calls of ``set_wakeup_fd``.
        """
        if get_ident() != main_thread().ident:
            return
        with suppress(ValueError):  # the main thread of a subinterpreter: signals are not its business
            self._install_signal_pipe()

    def _signals_leave(self) -> None:
        """The loop has stopped: the wake-up descriptor that was there before comes back, unless handlers are left."""
        if not self._signal_installed or get_ident() != main_thread().ident:
            return
        if self._signal_previous >= 0:
            self._drain_signal_pipe()  # what came last belongs to the previous owner, too
        if not self._signal_handlers:
            self._uninstall_signal_pipe()

    def _install_signal_pipe(self) -> None:
        if self._signal_writer < 0:
            self._open_signal_pipe()
        # a full pipe is no reason to complain: the loop is going to wake
        previous = set_wakeup_fd(self._signal_writer, warn_on_full_buffer=False)
        if previous != self._signal_writer:
            self._signal_previous = previous
            self._signal_displaced = _pipes.get(previous) if previous >= 0 else None
        self._signal_installed = True

    def _uninstall_unless_needed(self) -> None:
        if self._signal_installed and not self._signal_handlers and not self.is_running():
            try:
                self._uninstall_signal_pipe()
            except (ValueError, OSError) as exc:
                logger.info("set_wakeup_fd() failed: %s", exc)

    def _uninstall_signal_pipe(self) -> None:
        self._signal_installed = False
        installed = set_wakeup_fd(-1)
        if installed == self._signal_writer:
            installed = self._signal_previous if self._signal_displaced is None else self._signal_before()
            self._signal_previous, self._signal_displaced = -1, None
        # else somebody has put in another one since: it stays
        if installed >= 0:
            with suppress(ValueError, OSError):  # its owner has closed it
                set_wakeup_fd(installed)

    def _signal_before(self) -> int:
        """The wake-up descriptor to put back: not that of a loop of ours that is done with it, but the one before."""
        previous, displaced = self._signal_previous, self._signal_displaced
        while displaced is not None and not displaced._signal_installed:
            previous, displaced = displaced._signal_previous, displaced._signal_displaced
        return previous

    def _open_signal_pipe(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._watch_reader(reader, self._drain_signal_pipe)
        except BaseException:
            os.close(reader)
            os.close(writer)
            raise
        self._signal_reader, self._signal_writer = reader, writer
        _pipes[writer] = self

    def _close_signal_pipe(self) -> None:
        if self._signal_writer < 0:
            return
        if self._signal_installed:
            self._uninstall_signal_pipe()
        self._unwatch_reader(self._signal_reader)
        self._drop_signal_pipe()

    def _drop_signal_pipe(self) -> None:
        _pipes.pop(self._signal_writer, None)
        reader, writer = self._signal_reader, self._signal_writer
        self._signal_reader = self._signal_writer = -1  # first: an interrupt must not leave numbers that are others'
        self._signal_installed = False
        os.close(reader)
        os.close(writer)

    def _drain_signal_pipe(self) -> None:
        """Turn the numbers in the pipe into callbacks; pass on those that this loop does not handle."""
        try:
            numbers = os.read(self._signal_reader, READ_SIZE)
        except BlockingIOError:
            return
        unclaimed = bytearray()
        for signum in numbers:
            handler = self._signal_handlers.get(signum)
            if handler is None:
                unclaimed.append(signum)
            else:
                self.call_soon(handler.callback, *handler.args, context=handler.context)
        if unclaimed and (previous := self._signal_before()) >= 0:
            with suppress(OSError):  # full or closed: its owner's loss
                os.write(previous, unclaimed)


_pipes: weakref.WeakValueDictionary[int, Signals] = weakref.WeakValueDictionary()
"""The loops that have a pipe, by its writing end."""


def _check_callback(callback: object) -> None:
    if inspect.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with add_signal_handler(): {callback!r}")


def _check_signal(sig: int) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _leave_it_to_the_pipe(signum: int, frame: FrameType | None) -> None:
    """Python-level handler of the signals that a loop handles: there must be one for the number to be written."""


def _forget_pipes_of_parent() -> None:
    """In a forked child: let go of the pipes, so that the child's signals do not show up in the parent."""
    if not _pipes:
        return
    installed = set_wakeup_fd(-1)
    if installed >= 0 and installed not in _pipes:
        with suppress(ValueError, OSError):
            set_wakeup_fd(installed)
    for loop in list(_pipes.values()):
        with suppress(RuntimeError):  # it ran in another thread, which the child does not have
            loop._unwatch_reader(loop._signal_reader)
        loop._drop_signal_pipe()


os.register_at_fork(after_in_child=_forget_pipes_of_parent)
