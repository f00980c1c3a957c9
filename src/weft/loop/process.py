"""The transport of a child process, and how its end is noticed.

Owns the ``Popen`` object, the pipes' protocols and the watch. The one invariant: a process number is used only while
the child has not been waited for, so no signal ever reaches a stranger that got the number later. ``Subprocesses``
makes the transports; nothing else here is called from outside.

A watch (``PidfdWatch``, or ``ThreadWatch`` where there are no pidfds) calls ``on_exit(returncode)`` once, in the loop.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import IO, Any, Protocol, cast

from weft.loop._host import Host

__all__ = ["PidfdWatch", "SubprocessTransport", "ThreadWatch", "Watch", "watch_child"]

logger = logging.getLogger("asyncio")

UNKNOWN_STATUS = 255
"""What is reported of a child that somebody else has waited for (asyncio's number)."""

BURIAL_SECONDS = 0.1
"""How long ``close`` waits for a child that it killed, where there is no loop any more that would."""


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


class SubprocessTransport(asyncio.SubprocessTransport):
    """A running child process with its pipes (``asyncio.SubprocessTransport``)."""

    def __init__(
        self,
        loop: Host,
        protocol: asyncio.BaseProtocol,
        proc: subprocess.Popen[bytes],
    ) -> None:
        super().__init__({"subprocess": proc})
        self._loop = loop
        self._protocol: asyncio.SubprocessProtocol | None = cast(asyncio.SubprocessProtocol, protocol)
        self._proc: subprocess.Popen[bytes] | None = proc
        self._pid = proc.pid
        self._returncode: int | None = None
        self._watch: Watch | None = None
        self._closed = False
        self._finished = False
        self._detached = False
        self._exit_waiters: list[asyncio.Future[int]] = []
        # calls to the protocol that must wait until connection_made was called; None from then on
        self._pending: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = []
        files = {0: proc.stdin, 1: proc.stdout, 2: proc.stderr}
        self._pipes = {fd: _Pipe(self, fd, file) for fd, file in files.items() if file is not None}

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._closed:
            info.append("closed")
        info.append(f"pid={self._pid}")
        info.append("running" if self._returncode is None else f"returncode={self._returncode}")
        info += [f"{pipe.name}={pipe.transport}" for pipe in self._pipes.values()]
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._closed:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let ``protocol`` hear of the child from now on."""
        self._protocol = cast(asyncio.SubprocessProtocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that hears of the child; None when all is over, as in asyncio."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_closing(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def get_pid(self) -> int:
        """The child's process number; another process may have it once the child has ended."""
        return self._pid

    def get_returncode(self) -> int | None:
        """The exit code; -N if signal N killed the child; None while it runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """The transport of the child's stdin (0), stdout (1) or stderr (2); None if that is no pipe of ours."""
        pipe = self._pipes.get(fd)
        return None if pipe is None else pipe.transport

    def send_signal(self, signal: int) -> None:
        """Send ``signal`` to the child; does nothing if it has ended but not all its pipes are closed.

        Raises:
            ProcessLookupError: It is all over: ``connection_lost`` was called.
            PermissionError: The child runs as another user now.
        """
        if self._proc is None or self._watch is None:
            text = f"no signal can be sent to child process {self._pid}: it has ended with code {self._returncode}"
            raise ProcessLookupError(errno.ESRCH, text)
        with suppress(ProcessLookupError):
            self._watch.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM; see ``send_signal``."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; see ``send_signal``."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes, and kill the child if it runs. Its end is still reported to the protocol."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.close(self._detached)
        if self._proc is not None and self._returncode is None:
            self._kill(self._proc)
            if self._detached:
                self._bury(self._proc)

    def _kill(self, proc: subprocess.Popen[bytes]) -> None:
        if proc.poll() is None:  # it may have ended, and nobody has told us yet
            if self._loop.get_debug():
                logger.warning("Close running child process: kill %r", self)
            with suppress(ProcessLookupError, PermissionError):  # it has just ended, or runs as another user
                proc.kill()

    def _bury(self, proc: subprocess.Popen[bytes]) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._returncode = proc.wait(BURIAL_SECONDS)
        if self._watch is not None:
            self._watch.close()

    def _detach(self) -> None:
        """The loop closes: no more reports, and ``close`` must do without a loop.

        The cycles of references are cut, so that a transport which nobody holds ends at once, not some time later.
        """
        self._detached = True
        self._protocol = None
        for pipe in self._pipes.values():
            pipe.detach()
        if self._watch is not None:
            self._watch.detach()

    async def _start(self) -> None:
        """Watch the child, connect its pipes, and call ``connection_made``; on any error the child is killed."""
        proc = self._proc
        assert proc is not None
        if self._loop.get_debug():
            logger.debug("process %r created: pid %s", _program(proc.args), self._pid)
        try:
            self._watch = watch_child(self._loop, proc, self._process_exited)
            for pipe in self._pipes.values():
                await pipe.connect(self._loop)
            await self._announce()
        except BaseException as exc:
            self._give_up()
            if isinstance(exc, (Exception, asyncio.CancelledError)):  # others must get out at once
                await self._wait()
            raise

    async def _announce(self) -> None:
        assert self._protocol is not None
        assert self._pending is not None
        self._loop.call_soon(self._protocol.connection_made, self)
        pending, self._pending = self._pending, None
        for callback, args in pending:
            self._loop.call_soon(callback, *args)
        announced = self._loop.create_future()
        self._loop.call_soon(_wake, announced, None)
        await announced

    def _give_up(self) -> None:
        if self._pending is not None:
            self._pending = None
            self._protocol = asyncio.SubprocessProtocol()  # the real one has not heard of us, and is not to
        for pipe in self._pipes.values():
            pipe.abandon(None if self._detached else self._loop)
        self.close()
        if self._watch is None:
            assert self._proc is not None
            self._process_exited(self._proc.wait())

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        if self._pending is None:
            self._loop.call_soon(callback, *args)
        else:
            self._pending.append((callback, args))

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        if self._protocol is not None:
            self._call(self._protocol.pipe_data_received, fd, data)
        if self._returncode is not None:
            self._call(self._let_waiters_go)  # the protocol may have paused the pipe

    def _pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if self._protocol is not None:
            self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._try_finish()
        if self._returncode is not None:
            self._call(self._let_waiters_go)

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        assert self._protocol is not None
        self._call(self._protocol.process_exited)
        self._try_finish()
        self._call(self._let_waiters_go)

    def _try_finish(self) -> None:
        if self._finished or self._returncode is None:
            return
        if all(pipe.disconnected for pipe in self._pipes.values()):
            self._finished = True
            self._call(self._call_connection_lost)

    def _call_connection_lost(self) -> None:
        assert self._protocol is not None
        try:
            self._protocol.connection_lost(None)
        finally:
            self._wake_waiters()
            self._proc = None
            self._protocol = None

    async def _wait(self) -> int:
        """Wait until the child has ended, and return its code. ``asyncio.subprocess.Process`` calls it.

        As documented, and unlike older versions of asyncio, it does not wait for the end of pipes that somebody else
        holds open (https://github.com/python/cpython/issues/119710).
        """
        if self._returncode is not None:
            return self._returncode
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._exit_waiters.append(waiter)
        return await waiter

    def _let_waiters_go(self) -> None:
        """End ``_wait``; if a pipe is about to end by itself, later, so as to keep asyncio's order."""
        if self._exit_waiters and not any(pipe.is_ending() for pipe in self._pipes.values()):
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._exit_waiters = self._exit_waiters, []
        for waiter in waiters:
            _wake(waiter, self._returncode)


class _Pipe(asyncio.Protocol):
    """Protocol of one of the child's pipes: passes on to the transport of the process what happens to it."""

    def __init__(self, process: SubprocessTransport, fd: int, file: IO[bytes]) -> None:
        self.name = ("stdin", "stdout", "stderr")[fd]
        self.transport: asyncio.BaseTransport | None = None
        self.disconnected = False
        self._process: SubprocessTransport | None = process
        self._fd = fd
        self._file = file

    async def connect(self, loop: Host) -> None:
        """Hand the pipe over to a transport of its own."""
        if self._fd == 0:
            await loop.connect_write_pipe(lambda: self, self._file)
        else:
            await loop.connect_read_pipe(lambda: self, self._file)

    def close(self, detached: bool) -> None:
        """Close the pipe; its transport can do that only while it has a loop."""
        if detached:
            self._file.close()
        elif self.transport is not None:
            self.transport.close()

    def abandon(self, loop: Host | None) -> None:
        """Close a pipe that has no transport, or one that was given up before its ``connection_made``.

        Later, for that one may have callbacks in the queue that still use the descriptor. Closing twice does no harm.
        """
        if self.transport is None:
            self.disconnected = True
            if loop is None:
                self._file.close()
            else:
                loop.call_soon(self._file.close)

    def detach(self) -> None:
        """Let go of the process: the loop closes."""
        self._process = None

    def is_ending(self) -> bool:
        """Whether the other side is closed and the transport is going to say so, after what is left in the pipe."""
        transport = self.transport
        if self.disconnected or transport is None:
            return False
        if transport.is_closing():
            return True
        if isinstance(transport, asyncio.ReadTransport) and not transport.is_reading():
            return False
        poll = select.poll()
        poll.register(self._file, 0)  # asks for nothing: POLLHUP and POLLERR come unasked
        return bool(poll.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._process is not None:
            self._process._pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.disconnected:
            self.disconnected = True
            if self._process is not None:
                self._process._pipe_connection_lost(self._fd, exc)

    def pause_writing(self) -> None:
        if self._process is not None and self._process._protocol is not None:
            self._process._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._process is not None and self._process._protocol is not None:
            self._process._protocol.resume_writing()


def _wake(waiter: asyncio.Future[Any], result: object) -> None:
    if not waiter.done():
        waiter.set_result(result)


def _program(args: Any) -> object:
    return args if isinstance(args, (str, bytes)) else args[0]
