"""How the end of a child process is noticed.

A watch (``PidfdWatch``, or ``ThreadWatch`` where there are no pidfds) calls ``on_exit(returncode)`` once, in the loop.
No SIGCHLD handler is installed, so whoever else has children is left alone. The invariant: the child is waited for in
the loop's thread alone, so its number stays taken until the loop knows. ``SubprocessTransport`` owns the watches.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Protocol

from weft.loop._host import Host

__all__ = ["PidfdWatch", "ThreadWatch", "Watch", "watch_child"]

logger = logging.getLogger("asyncio")

UNKNOWN_STATUS = 255
"""What is reported of a child that somebody else has waited for (asyncio's number)."""


class Watch(Protocol):
    """Notices the end of one child."""

    def send_signal(self, signum: int) -> None:
        """Send a signal; ``ProcessLookupError`` if the child was waited for, ``PermissionError`` if it changed user."""

    def detach(self) -> None:
        """Stop watching: the loop closes. Signals can still be sent."""

    def close(self) -> None:
        """Give everything back."""


def watch_child(loop: Host, proc: subprocess.Popen[bytes], on_exit: Callable[[int], None]) -> Watch:
    """Watch a child that was just started, by a pidfd if possible (pidfd_open(2): Linux 5.3)."""
    try:
        return PidfdWatch(loop, proc, on_exit)
    except OSError:  # no such call, not allowed by a container, no descriptor left, or the child is gone already
        return ThreadWatch(loop, proc, on_exit)


class PidfdWatch:
    """Watches by a descriptor that stands for this very process and becomes readable at its end."""

    def __init__(self, loop: Host, proc: subprocess.Popen[bytes], on_exit: Callable[[int], None]) -> None:
        self._loop = loop
        self._proc = proc
        self._on_exit = on_exit
        self._watching = False
        self._fd = os.pidfd_open(proc.pid)
        try:
            loop._watch_reader(self._fd, self._on_readable)
            self._watching = True
        except BaseException:
            self.close()
            raise

    def _on_readable(self) -> None:
        returncode = _collect(self._proc, os.P_PIDFD, self._fd)
        if returncode is not None:
            on_exit = self._on_exit
            self.close()
            on_exit(returncode)

    def send_signal(self, signum: int) -> None:
        if self._fd < 0:
            raise ProcessLookupError(errno.ESRCH, f"child process {self._proc.pid} has ended")
        signal.pidfd_send_signal(self._fd, signum)

    def detach(self) -> None:
        self._on_exit = _nobody_cares
        if self._watching:
            self._watching = False
            self._loop._unwatch_reader(self._fd)

    def close(self) -> None:
        self.detach()
        if self._fd >= 0:
            # Forgotten first: an interrupt between the two must not leave a number that is another's by then.
            fd, self._fd = self._fd, -1
            os.close(fd)


class ThreadWatch:
    """Watches by a thread that waits, and leaves it to the loop's thread to collect the child.

    So the process number stays taken until the loop knows.
    """

    def __init__(self, loop: Host, proc: subprocess.Popen[bytes], on_exit: Callable[[int], None]) -> None:
        self._loop = loop
        self._proc = proc
        self._on_exit = on_exit
        self._thread = threading.Thread(target=self._wait, name=f"weft-waitid-{proc.pid}", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._proc.pid, os.WEXITED | os.WNOWAIT)
        try:
            self._loop.call_soon_threadsafe(self._on_dead)
        except RuntimeError:  # the loop was closed: collect it here
            _collect(self._proc, os.P_PID, self._proc.pid)

    def _on_dead(self) -> None:
        self._thread.join()
        returncode = _collect(self._proc, os.P_PID, self._proc.pid)
        if returncode is not None:
            self._on_exit(returncode)

    def send_signal(self, signum: int) -> None:
        if self._proc.returncode is not None:
            raise ProcessLookupError(errno.ESRCH, f"child process {self._proc.pid} has ended")
        os.kill(self._proc.pid, signum)

    def detach(self) -> None:
        self._on_exit = _nobody_cares

    def close(self) -> None:
        self.detach()


def _nobody_cares(returncode: int) -> None:
    """Takes the place of ``on_exit``, which holds the transport, in a watch that has nothing more to say."""


def _collect(proc: subprocess.Popen[bytes], idtype: int, ident: int) -> int | None:
    """Wait for a child that has ended; None if it has not. Negative: the signal that killed it, as in ``Popen``.

    Looks first, and leaves the waiting to ``Popen``, which has a lock for it: a thread in ``Popen.wait()`` is told the
    truth, too.
    """
    if proc.returncode is not None:
        return proc.returncode  # do not look: the number may be another child's by now
    try:
        status = os.waitid(idtype, ident, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        with getattr(proc, "_waitpid_lock", nullcontext()):  # a thread in Popen.wait() may be about to note the code
            if proc.returncode is None:
                text = "child process pid %d exit status already read:  will report returncode %d"
                logger.warning(text, proc.pid, UNKNOWN_STATUS)
                proc.returncode = UNKNOWN_STATUS
            return proc.returncode
    if status is None:
        return None
    proc.poll()
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
