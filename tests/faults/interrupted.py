"""A program that is interrupted at random moments while it spawns, connects, sleeps and starts processes.

Plays ROUNDS rounds in one process; in each, a thread draws from SEED when to send SIGINT. After it, every job that
began must have come to its ``finally``, and nothing may be left. (Not so where KeyboardInterrupt is raised anywhere:
CPython's own ``subprocess.Popen`` and ``socket.accept`` can lose a descriptor then; but nothing may crash or hang.)

Run by ``tests/faults/test_interrupts.py`` as ``interrupted.py HOW SEED ROUNDS``, where HOW is "weft.run",
"asyncio.Runner", "several" (more than one signal in each round) or "bare" (no Runner: KeyboardInterrupt anywhere).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Coroutine, Iterator
from typing import Any

import weft
from tests.faults.workload import Echo, left_over, open_fds

MOST = 0.03  # seconds until the signal; a round makes a few hundred steps in that time
begun: list[str] = []
ended: list[str] = []


@contextlib.contextmanager
def noted(name: str) -> Iterator[None]:
    """Note that a job has begun, and that its ``finally`` was reached."""
    begun.append(name)
    try:
        yield
    finally:
        ended.append(name)


async def sleeps() -> None:
    with noted("sleep"):
        await asyncio.sleep(random.random() / 1000)


async def talks(address: Any) -> None:
    with noted("talk"):
        reader, writer = await asyncio.open_connection(*address)
        try:
            for _ in range(5):
                writer.write(b"x" * 1000)
                await writer.drain()
                await reader.readexactly(1000)
        finally:
            writer.close()


async def starts() -> None:
    with noted("process"):
        process = await asyncio.create_subprocess_exec("sleep", "0.005", stdout=asyncio.subprocess.PIPE)
        try:
            await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def asks() -> None:
    with noted("thread"):
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.001)


async def works(anywhere: bool) -> None:
    """Everything at once, until it is cancelled; no threads where an interrupt can hit the start of one (CPython's)."""
    loop = asyncio.get_running_loop()
    with noted("main"):
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        try:
            address = server.sockets[0].getsockname()
            while True:
                jobs: list[Coroutine[Any, Any, None]] = [*[sleeps() for _ in range(10)], talks(address), talks(address)]
                if random.random() < 0.3:
                    jobs.append(starts())
                if not anywhere:
                    jobs.append(asks())
                async with asyncio.TaskGroup() as group:
                    for job in jobs:
                        group.create_task(job)
        finally:
            server.close()


def run_bare() -> None:
    """What people did before there were Runners: KeyboardInterrupt comes out of whatever runs."""
    loop = weft.new_event_loop()
    try:
        loop.run_until_complete(works(True))
    finally:
        fired.set()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        if tasks := asyncio.all_tasks(loop):
            # One that was interrupted in a callback of a TaskGroup, which is Python, may wait for ever.
            loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def interrupt(draw: random.Random, times: int) -> None:
    """Send the signals of a round; "bare" gets them until one was noticed, as a destructor swallows exceptions."""
    for _ in range(times):
        time.sleep(draw.random() * MOST)
        if fired.is_set():
            return
        os.kill(os.getpid(), signal.SIGINT)


fired = threading.Event()


def play(how: str, draw: random.Random) -> str:
    """One round; says how it ended."""
    fired.clear()
    times = {"several": 4, "bare": 1000}.get(how, 1)
    word = "returned"
    thread = threading.Thread(target=interrupt, args=(draw, times), name="interrupter")
    try:
        thread.start()
        if how == "bare":
            run_bare()
        elif how == "asyncio.Runner":
            with asyncio.Runner(loop_factory=weft.new_event_loop) as runner:
                runner.run(works(False))
        else:
            weft.run(works(how == "several"))
    except KeyboardInterrupt:
        word = "interrupted"
    while thread.is_alive():
        with contextlib.suppress(KeyboardInterrupt):
            fired.set()
            thread.join()
    return word


def main(how: str, seed: str, rounds: str) -> None:
    """Play the rounds."""
    faulthandler.dump_traceback_later(80, exit=True)
    if how in ("several", "bare"):
        # An interrupt in the middle of closing leaves it to the collector, which says so.
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw = random.Random(seed)
    random.seed(seed)
    before = open_fds()
    for number in range(int(rounds)):
        begun.clear()
        ended.clear()
        word = play(how, draw)
        assert word == "interrupted", f"round {number}: {word}"
        if how in ("several", "bare"):
            continue
        assert sorted(begun) == sorted(ended), f"round {number}: {begun} began, {ended} ended"
        until = time.monotonic() + 20  # threads and children that were let go come to their end by themselves
        while (left := left_over(before)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not left, f"round {number}: {left}"
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
