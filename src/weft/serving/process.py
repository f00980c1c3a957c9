"""One worker process, as its supervisor sees it.

Invariant: it goes one way, from STARTING (it runs, and accepts nothing yet) to SERVING, maybe RETIRED (it was told to
end), to its end, which ``ended`` tells once. Its control socket is closed with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from weft.serving import control

__all__ = ["Worker", "describe_end"]

logger = logging.getLogger("weft.serve")


class Worker:
    """A process in a place.

    Args:
        place: the number of its place.
        on_wish: gives the socket that it asks for.
    """

    def __init__(self, place: int, on_wish: Callable[[int, control.Wish], socket.socket]) -> None:
        self.place = place
        self.pid = 0
        self.began = 0.0
        self.is_retired = False
        self.is_overdue = False
        loop = asyncio.get_running_loop()
        self.serving: asyncio.Future[bool] = loop.create_future()  # True: it accepts; False: it ended before
        self.ended: asyncio.Future[int] = loop.create_future()  # its status, negative for a signal
        self._loop = loop
        self._on_wish = on_wish
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"worker {self.place} (process {self.pid})"

    async def start(self, command: Sequence[str], count: int) -> None:
        """Start the process. Where the system has no room for one, that is how the worker ended."""
        try:
            await self._start(command, count)
        except OSError as error:
            logger.error("a worker cannot be started: %s", error)
            self.began = self._loop.time()
            self.serving.set_result(False)
            self.ended.set_result(os.EX_OSERR)

    async def _start(self, command: Sequence[str], count: int) -> None:
        ours, its = control.pair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, control.VARIABLE: f"{its.fileno()}:{self.place}:{count}"},
                pass_fds=[its.fileno()],
                process_group=0,  # Ctrl-C reaches the supervisor alone, which tells its workers
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        ours.setblocking(False)
        self._control = ours
        self.pid = self._process.pid
        self.began = self._loop.time()
        self._loop.add_reader(ours, self._on_message)
        self._reaper = self._loop.create_task(self._reap(self._process))

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        self._close_control()
        if self._killer is not None:
            self._killer.cancel()
        if not self.serving.done():
            self.serving.set_result(False)
        self.ended.set_result(status)

    def _close_control(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None

    def _on_message(self) -> None:
        assert self._control is not None
        try:
            message, stray = control.receive(self._control)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message, stray = None, None
        if stray is not None:
            os.close(stray)
        if message is None:
            self._close_control()  # its end follows; or it has closed what it did not know
        elif "bind" in message:
            self._answer(message)
        elif not self.serving.done():
            self.serving.set_result(True)

    def _answer(self, message: dict[str, Any]) -> None:
        assert self._control is not None
        try:
            try:
                sock = self._on_wish(self.place, control.Wish.decode(message))
            except OSError as error:
                control.send(self._control, {"errno": error.errno, "error": error.strerror or str(error)})
            else:
                control.send(self._control, {}, sock)
        except OSError:
            self._close_control()  # it does not listen any more

    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and not self.ended.done()

    def retire(self, timeout: float) -> None:
        """Tell it to end, by SIGTERM; by SIGKILL when it has not within ``timeout`` seconds."""
        if self.is_running() and not self.is_retired:
            self.is_retired = True
            self._send(signal.SIGTERM)
            self._killer = self._loop.call_later(timeout, self._overdue)

    def _overdue(self) -> None:
        self.is_overdue = True
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.is_running():
            self.is_retired = True
            self._send(signal.SIGKILL)

    def _send(self, signum: int) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signum)


def describe_end(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"
