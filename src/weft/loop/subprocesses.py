"""``subprocess_exec`` and ``subprocess_shell``.

Owns a weak list of the transports, to tell them when the loop closes: children that still run are not killed then but
when their transport is closed or garbage-collected, as in asyncio. The one invariant: every child that is started is
watched until it was collected. ``process`` does the work. No SIGCHLD handler and no child watcher is involved, so all
this works in any thread.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import weakref
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from weft.loop._host import Host

if TYPE_CHECKING:
    from weft.loop.process import SubprocessTransport

__all__ = ["Subprocesses"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

logger = logging.getLogger("asyncio")


class Subprocesses(Host):
    """Mixin: child processes."""

    def __init__(self) -> None:
        super().__init__()
        self._children: weakref.WeakSet[SubprocessTransport] = weakref.WeakSet()

    def _release(self) -> None:
        for child in self._children:
            child._detach()
        super()._release()

    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], _P],
        cmd: bytes | str,
        *,
        stdin: int | IO[Any] | None = subprocess.PIPE,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
        universal_newlines: Literal[False] = False,
        shell: Literal[True] = True,
        bufsize: Literal[0] = 0,
        encoding: None = None,
        errors: None = None,
        text: Literal[False] | None = None,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, _P]:
        """Run ``cmd`` by the shell; see ``loop.subprocess_shell`` in the documentation of asyncio.

        Args:
            protocol_factory: Makes the ``asyncio.SubprocessProtocol`` that hears of the child and its pipes.
            cmd: The command line.
            stdin: ``PIPE``, ``DEVNULL``, a file or descriptor, or None to inherit; ``stdout`` and ``stderr`` likewise.
            kwargs: Further arguments of ``subprocess.Popen``.

        Raises:
            ValueError: An argument that is only there to be refused has a value: pipes carry bytes, unbuffered.
            OSError: The shell cannot be started.
        """
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        if not shell:
            raise ValueError("shell must be True")
        _check_bytes_only(universal_newlines, bufsize, encoding, errors, text)
        return await self._spawn(
            protocol_factory, cmd, f"run shell command {cmd!r}", stdin, stdout, stderr, shell=True, **kwargs
        )

    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], _P],
        program: Any,
        *args: Any,
        stdin: int | IO[Any] | None = subprocess.PIPE,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
        universal_newlines: Literal[False] = False,
        shell: Literal[False] = False,
        bufsize: Literal[0] = 0,
        encoding: None = None,
        errors: None = None,
        text: Literal[False] | None = None,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, _P]:
        """Run ``program`` with ``args``; see ``loop.subprocess_exec`` in the documentation of asyncio.

        Args and errors are those of ``subprocess_shell``; ``program`` and ``args`` are str, bytes or path-like.
        """
        if shell:
            raise ValueError("shell must be False")
        _check_bytes_only(universal_newlines, bufsize, encoding, errors, text)
        return await self._spawn(
            protocol_factory,
            (program, *args),
            f"execute program {program!r}",
            stdin,
            stdout,
            stderr,
            shell=False,
            **kwargs,
        )

    async def _spawn(
        self,
        protocol_factory: Callable[[], _P],
        command: Any,
        title: str,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, _P]:
        self._check_closed()
        self._check_thread()
        protocol = protocol_factory()
        if self.get_debug():
            logger.debug("%s%s", title, _describe_pipes(stdin, stdout, stderr))
        # a plain pipe for stdin, no socket pair: the child can reopen it as /dev/stdin, and epoll reports the end of
        # its reader too (EPOLLERR, see pipe(7))
        proc: subprocess.Popen[bytes]
        proc = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0, **kwargs)
        from weft.loop.process import SubprocessTransport  # here: see the note in weft.loop

        transport = SubprocessTransport(self, protocol, proc)
        self._children.add(transport)
        await transport._start()
        if self.get_debug():
            logger.info("%s: %r", title, transport)
        return transport, protocol


def _check_bytes_only(universal_newlines: bool, bufsize: int, encoding: object, errors: object, text: object) -> None:
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _describe_pipes(stdin: Any, stdout: Any, stderr: Any) -> str:
    info = ""
    if stdin is not None:
        info += f" stdin={_describe(stdin)}"
    if stdout is not None and stderr == subprocess.STDOUT:
        return f"{info} stdout=stderr={_describe(stdout)}"
    if stdout is not None:
        info += f" stdout={_describe(stdout)}"
    if stderr is not None:
        info += f" stderr={_describe(stderr)}"
    return info


def _describe(target: Any) -> str:
    if target == subprocess.PIPE:
        return "<pipe>"
    if target == subprocess.STDOUT:
        return "<stdout>"
    return repr(target)
