"""Kills real programs at random moments, and checks how each of them ends.

Imports weft once and forks the programs off, so that a hundred of them start in seconds; each then runs, and ends, as a
Python process does: exit handlers, threads, finalisation. The invariant: whatever is wrong with one is printed, with
the seed that gives it again. Run by ``tests/test_shutdown_kills.py`` as ``killing.py FOLDER SEED TIMES``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing.spawn  # noqa: F401 - what `weft run` imports, so that no program has to
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import weft
import weft.cli._default_loop
import weft.cli._program
import weft.cli.run
import weft.loop.process
import weft.loop.server
import weft.shutdown
from weft.parents import end_with_parent

MOST = 0.03  # seconds from "ready" to the signal; the program makes a few hundred steps in that time
LIMIT = 20.0  # seconds for one program to end
AT_ONCE = 8  # programs at a time

PROGRAM = """\
import asyncio
from tests.killing import work
asyncio.run(work())
"""


# -- the program that is killed


async def sleeps() -> None:
    """Many short sleeps."""
    while True:
        await asyncio.sleep(random.random() / 1000)


async def talks(port: int) -> None:
    """A client that talks to the server without an end."""
    with contextlib.suppress(OSError):  # the server of this very program stops listening
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
                await reader.readexactly(1000)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()  # which reads how it ended: else asyncio may complain that nobody has


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The other end."""
    with contextlib.suppress(OSError):  # its client goes, too, with an answer on its way
        try:
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()  # which reads how it ended: else asyncio may complain that nobody has


async def starts(folder: Path) -> None:
    """A child process that would go on for a minute."""
    process = await asyncio.create_subprocess_exec("sleep", "60")
    (folder / "pid").write_text(str(process.pid))
    await process.wait()


async def asks() -> None:
    """Calls in the executor."""
    while True:
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.001)


async def counts() -> Any:
    """A generator that nobody closes."""
    number = 0
    try:
        while True:
            number += 1
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)


async def iterates() -> None:
    """Goes through the generator."""
    async for _ in counts():
        pass


async def work() -> None:
    """A bit of everything, chosen by chance, until the end."""
    folder = Path.cwd()
    with open(folder / "log", "w", encoding="ascii") as log:
        log.write("opened\n")
        try:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            jobs: list[Callable[[], Coroutine[Any, Any, None]]] = [
                sleeps,
                asks,
                iterates,
                lambda: talks(port),
                lambda: talks(port),
            ]
            if random.random() < 0.2:
                jobs.append(lambda: starts(folder))
            tasks = [asyncio.create_task(job()) for job in random.choices(jobs, k=8)]
            os.write(READY, b"r")
            if random.random() < 0.5:
                await asyncio.gather(*tasks)
            else:
                async with server:
                    await server.serve_forever()
        finally:
            await asyncio.sleep(0)
            log.write("closed\n")


READY = -1


# -- who kills it


class Case(NamedTuple):
    """One program: how it is run and how it is killed."""

    number: int
    seed: int
    is_command: bool  # `weft run`, not weft.run()
    signum: int
    delay: float
    pid: int
    ready: int
    folder: Path


def start(folder: Path, seed: int, number: int) -> Case | None:
    """Fork a program off; None in the program itself, which goes on to run."""
    global READY
    draw = random.Random(seed * 10_000 + number)
    is_command, signum = draw.random() < 0.5, draw.choice([signal.SIGINT, signal.SIGTERM])
    delay = draw.random() * MOST
    own = folder / str(number)
    own.mkdir()
    ready, READY = os.pipe()
    sys.stdout.flush()
    parent, pid = os.getpid(), os.fork()
    if pid:
        os.close(READY)
        return Case(number, seed, is_command, signum, delay, pid, ready, own)
    os.close(ready)
    if not end_with_parent(parent, signal.SIGKILL):
        os._exit(1)
    random.seed(seed * 10_000 + number)
    os.environ["WEFT_STALL_THRESHOLD"] = "off"  # a busy machine makes it say something
    os.chdir(own)
    for fd, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), fd)
    global mine
    mine = is_command
    return None


mine = False


def check(case: Case) -> list[str]:
    """Kill a program once it is ready, and say what is wrong with its end."""
    if not select.select([case.ready], [], [], LIMIT)[0]:
        return ["it was never ready"]
    os.close(case.ready)
    time.sleep(case.delay)
    os.kill(case.pid, case.signum)
    until = time.monotonic() + LIMIT
    while (ended := os.waitpid(case.pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.kill(case.pid, signal.SIGKILL)
            os.waitpid(case.pid, 0)
            return ["it did not end"]
        time.sleep(0.002)
    wrong = []
    # Python itself dies of SIGINT where KeyboardInterrupt leaves the program.
    by_signal = case.signum == signal.SIGINT and not case.is_command
    expected = -case.signum if by_signal else 128 + case.signum
    if (status := os.waitstatus_to_exitcode(ended[1])) != expected:
        wrong.append(f"status {status}, not {expected}")
    errors = (case.folder / "err").read_text()
    if by_signal:
        if not errors.startswith("Traceback") or not errors.endswith("\nKeyboardInterrupt\n"):
            wrong.append("its traceback is not that of a KeyboardInterrupt")
        if any(words in errors for words in ("destroyed", "closed\n", "never", "shutdown:", "Exception ignored")):
            wrong.append("it complained")
    elif errors:
        wrong.append("it said something")
    if (case.folder / "log").read_text() != "opened\nclosed\n":
        wrong.append("its file is not complete")
    pid = case.folder / "pid"
    if pid.exists() and is_alive(int(pid.read_text())):
        wrong.append("its child process is alive")
    return [f"{words}; stderr:\n{errors}" for words in wrong]


def is_alive(pid: int) -> bool:
    """Whether the process is there and is no zombie (whoever has adopted it may take its time)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_all(folder: Path, seed: int, times: int) -> bool:
    """Start and kill the programs; False in a program, True when all are done."""
    bad = 0
    gc.freeze()  # what is not looked at is not copied
    for first in range(0, times, AT_ONCE):
        cases = []
        for number in range(first, min(first + AT_ONCE, times)):
            case = start(folder, seed, number)
            if case is None:
                return False
            cases.append(case)
        for case in cases:
            for words in check(case):
                bad += 1
                print(f"seed {case.seed}, number {case.number}, {case[2:5]}: {words}")
    print("ok" if not bad else f"{bad} wrong")
    return True


if __name__ == "__main__":
    sys.modules["tests.killing"] = sys.modules["__main__"]
    try:
        done = kill_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except Exception:
        traceback.print_exc()
        raise
    if not done:
        if mine:
            sys.exit(weft.cli.run.main(["-c", PROGRAM]))
        weft.run(work())
