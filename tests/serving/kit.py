"""Programs that are served by several workers, started for real, and a client that asks them who they are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 30.0
"""Seconds after which something that should have happened will not."""

PROGRAM = """
import asyncio, os, signal, sys

MARK = "one"
busy = 0

async def answer(reader, writer):
    global busy
    busy += 1
    await reader.read(1)
    writer.write(f"{os.getpid()} {MARK}".encode())
    writer.close()
    busy -= 1

async def main(until=asyncio.Event):
    if sys.argv[1].startswith("/"):
        server = await asyncio.start_unix_server(answer, sys.argv[1])
    else:
        server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
        # In one piece, as workers share a pipe: where Python does not buffer, print() writes each of several by itself.
        print(f"port {server.sockets[0].getsockname()[1]}\\n", end="", flush=True)
    await until().wait()
    server.close()
    await asyncio.sleep(0.1)  # what was accepted just before has become a connection
    while busy:
        await asyncio.sleep(0.01)

def sigterm():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    return told
"""
RUN = PROGRAM + "\nasyncio.run(main())\n"
DRAINS = PROGRAM + "\nasyncio.run(main(sigterm))\n"
SERVE = (
    PROGRAM
    + """
import weft
if __name__ == "__main__":
    weft.serve(main, workers=2)
    print("after", flush=True)
"""
)
STUBBORN = (
    PROGRAM
    + """
import weft
signal.signal(signal.SIGTERM, signal.SIG_IGN)
weft.serve(main, workers=2, shutdown_timeout=TIMEOUT)
"""
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Served:
    """A supervisor and its workers."""

    def __init__(self, process: subprocess.Popen[str], where: int | str) -> None:
        self.process = process
        self.where = where

    def ask(self) -> tuple[int, str]:
        """Process number and mark of the worker that answers.

        Raises:
            OSError: nobody does.
        """
        family, address = (
            (socket.AF_UNIX, self.where) if isinstance(self.where, str) else (socket.AF_INET, ("127.0.0.1", self.where))
        )
        with socket.socket(family) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(address)
            sock.sendall(b"?")
            answer = b""
            while data := sock.recv(100):
                answer += data
        if not answer:
            raise ConnectionError("closed without an answer")
        pid, mark = answer.decode().split()
        return int(pid), mark

    def wait_until_served(self) -> None:
        """Until somebody answers."""
        wait_for(lambda: self.answers() is not None or self.process.poll() is not None)

    def answers(self) -> tuple[int, str] | None:
        """What ``ask`` says, None where nobody answers."""
        with suppress(OSError):
            return self.ask()
        return None

    def workers(self, count: int = 2) -> set[int]:
        """The process numbers of the workers, once so many of them have answered."""
        seen: set[int] = set()

        def enough() -> bool:
            found = self.answers()
            if found is not None:
                seen.add(found[0])
            return len(seen) >= count

        wait_for(enough)
        return seen

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; the exit status and what it wrote on standard error."""
        self.process.send_signal(signum)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


def wait_for(condition: object, seconds: float = PATIENCE) -> None:
    """Until ``condition()`` is true."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def served(*command: str, where: int | str = 0, env: dict[str, str] | None = None) -> Iterator[Served]:
    """Start ``python COMMAND``; whatever is left of it at the end is killed."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    it = Served(process, where)
    try:
        yield it
    finally:
        if process.poll() is None:
            process.kill()  # the workers end with it
        process.communicate(timeout=PATIENCE)
