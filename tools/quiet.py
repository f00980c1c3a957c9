"""A busy program that never blocks, for as long as it is told to: the stall watch must not blame a single line.

Streams that echo, tasks, timers, threads of an executor, and a collector with much to look at, all at once in one loop.
(No children: to start a process does block, until it has been started.) ``python tools/quiet.py --minutes 10``; the
exit code is 1 when a line was blamed. The invariant: no callback of it computes for more than some milliseconds.
Called by people, and by ``tests/watch/test_quiet.py`` for a few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Awaitable, Callable

import weft
from weft import watch

CLIENTS = 20
MESSAGE = bytes(4096)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's side of a connection."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def converse(port: int) -> None:
    """A connection, a hundred messages, and its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(100):
        writer.write(MESSAGE)
        await reader.readexactly(len(MESSAGE))
    writer.close()
    await writer.wait_closed()


async def many_tasks() -> None:
    """A thousand tasks, some of which are cancelled."""
    tasks = [asyncio.create_task(asyncio.sleep(n % 7 / 1000)) for n in range(1000)]
    for task in tasks[::10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def short_steps() -> None:
    """Callbacks that each compute for some milliseconds: far below the threshold, without a pause between them."""
    for _ in range(20):
        until = time.thread_time() + 0.003
        while time.thread_time() < until:
            pass
        await asyncio.sleep(0)


async def in_threads() -> None:
    """Work that gives the GIL up, where it belongs."""
    await asyncio.gather(*(asyncio.to_thread(hashlib.sha256, bytes(2_000_000)) for _ in range(4)))


async def idle() -> None:
    """Nothing, for longer than the watchdog stays awake."""
    await asyncio.sleep(0.5)


async def again_and_again(work: Callable[[], Awaitable[None]], until: float, done: dict[str, int], name: str) -> None:
    """Do something until the time is over."""
    while time.monotonic() < until:
        await work()
        done[name] = done.get(name, 0) + 1


async def main(seconds: float) -> dict[str, int]:
    """Everything at once, then quiet times in between."""
    done: dict[str, int] = {}
    end = time.monotonic() + seconds
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    works: dict[str, Callable[[], Awaitable[None]]] = {f"client {n}": lambda: converse(port) for n in range(CLIENTS)}
    works |= {"tasks": many_tasks, "steps": short_steps, "threads": in_threads}
    while time.monotonic() < end:
        until = min(end, time.monotonic() + 10)
        await asyncio.gather(*(again_and_again(work, until, done, name) for name, work in works.items()))
        await idle()
    server.close()
    await server.wait_closed()
    return done


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A busy program that never blocks.")
    options.add_argument("--minutes", type=float, default=0.1)
    seconds = options.parse_args().minutes * 60
    reports: list[watch.Stall] = []
    watch.on_stall(reports.append)
    done = weft.run(main(seconds))
    print(f"{seconds:.0f} s, load {os.getloadavg()[0]:.1f}: {sum(done.values())} rounds")
    for stall in reports:
        print(stall)
    print({name: count for name, count in watch.stats().items() if count})
    sys.exit(any(stall.kind is watch.Kind.BLOCKED for stall in reports))
