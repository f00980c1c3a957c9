"""Whether a loop stays what it is as what it carries grows: a million tasks, a million timers, 50,000 connections.

Each case is measured at an eighth, a quarter, a half and the whole of its size, each size in a child of its own, so
that no memory is used twice. The headline is processor time per item at the whole size; the exponents are the slopes
of total time and total bytes over size on logarithmic scales: 1 is linear. A measurement takes as long as its items
take, not what it is given: the time only scales their number. Bounded: a child ends itself after ``PATIENCE`` seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from time import process_time_ns

from bench import machine
from bench.cases.memory import resident_bytes
from bench.contenders import FIELD, LOOPS
from bench.model import Aim, Case, Metric, Sample, paragraph, register

PARTS = (8, 4, 2, 1)
PATIENCE = 300  # seconds
FEWEST = 80  # items at the whole size, however little time is given
SPARE_FILES = 100
LEVEL = 1.1  # the exponent of n log n between 1/8 of a million and a million is 1.06

METRICS = (
    Metric("ns", "CPU ns"),
    Metric("bytes", "bytes", compared=True),
    Metric("time_exponent", "exponent of time"),
    Metric("bytes_exponent", "exponent of bytes"),
    Metric("items", "items", more_is_better=True),
)
AIMS = (Aim(LEVEL, key="time_exponent"), Aim(LEVEL, key="bytes_exponent"))

#: A body does everything with ``number`` items, and calls its argument when all of them are there.
Body = Callable[[int, Callable[[], None]], Awaitable[None]]


def exponent(sizes: Sequence[int], totals: Sequence[float]) -> float:
    """The slope of ``totals`` over ``sizes`` on logarithmic scales, by least squares: 1 is linear, 2 quadratic."""
    x, y = [math.log(size) for size in sizes], [math.log(max(total, 1.0)) for total in totals]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / sum((a - middle_x) ** 2 for a in x)


def scaled(name: str, title: str, full: int, most: Callable[[], int] | None = None) -> Callable[[Body], Body]:
    """Register the function below as a case that is measured at four sizes up to ``full``, or to what ``most`` says."""

    def decorate(body: Body) -> Body:
        def measure(contender: str, budget: float) -> Sample:
            os.sched_setaffinity(0, {machine.cores()[0]})
            whole = max(int(full * min(budget, 1.0)), FEWEST)
            if most is not None:
                whole = min(whole, most())
            sizes = [whole // part for part in PARTS]
            times, sizes_in_memory = zip(*(in_child(contender, body, size) for size in sizes), strict=True)
            return {
                "ns": times[-1] / whole,
                "bytes": sizes_in_memory[-1] / whole,
                "time_exponent": exponent(sizes, times),
                "bytes_exponent": exponent(sizes, sizes_in_memory),
                "items": whole,
            }

        register(Case(name, title, paragraph(body), FIELD, METRICS, measure, 1.0, aims=AIMS))
        return body

    return decorate


def in_child(contender: str, body: Body, number: int) -> tuple[float, float]:
    """Processor nanoseconds and bytes of ``number`` items, from a forked child.

    Raises:
        RuntimeError: the child failed, or was not done in time.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(PATIENCE)
            os.write(writer, json.dumps(LOOPS[contender].run(totals(body, number))).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise RuntimeError(f"{contender} ended with status {status} over {number:,} items")
    time, size = json.loads(answer)
    return time, size


async def totals(body: Body, number: int) -> tuple[float, float]:
    """Processor nanoseconds and bytes of ``number`` items together; the collector is on, as in any program."""
    grown = 0

    def all_there() -> None:
        nonlocal grown
        grown = resident_bytes() - before

    gc.collect()
    before, start = resident_bytes(), process_time_ns()
    await body(number, all_there)
    return process_time_ns() - start, grown


@scaled("scale.parked", "1,000,000 parked tasks", 1_000_000)
async def parked(number: int, all_there: Callable[[], None]) -> None:
    """1,000,000 tasks are made, wait for one future, are woken by it and end: processor time and growth of the resident
    set per task.
    """
    loop = asyncio.get_running_loop()
    gate = loop.create_future()

    async def wait() -> None:
        await gate

    tasks = [loop.create_task(wait()) for _ in range(number)]
    await asyncio.sleep(0)
    all_there()
    gate.set_result(None)
    while not tasks[-1].done():
        await asyncio.sleep(0)


@scaled("scale.timers", "1,000,000 timers", 1_000_000)
async def timers(number: int, all_there: Callable[[], None]) -> None:
    """1,000,000 timers are set, no two for one moment and in no order; two of three are cancelled, the others are due
    and fire: processor time and growth of the resident set per timer. A heap is n log n, and that shows.
    """
    loop = asyncio.get_running_loop()
    fired = 0

    def fire() -> None:
        nonlocal fired
        fired += 1

    start = loop.time()
    # Multiples of a number that has no divisor in common with any of the sizes come in no order.
    order = (index * 7_368_787 % number for index in range(number))
    handles = [
        loop.call_at(start + (600 if index % 3 else -600) + place / number, fire) for index, place in enumerate(order)
    ]
    all_there()
    for index, handle in enumerate(handles):
        if index % 3:
            handle.cancel()
    while fired < (number + 2) // 3:
        await asyncio.sleep(0)


def most_connections() -> int:
    """As many as this process may have files (``ulimit -Hn``)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES


def raise_limit(number: int) -> None:
    """Let this process, and those that it starts, have ``number`` files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


# The other ends: a process that opens so many connections, from as many addresses as it takes, says so, and closes
# them when its standard input does. 127.0.0.0/8 is all loopback (RFC 1122, 3.2.1.3); an address has 28,000 ports.
HOLDER = """
import socket, sys
port, number = map(int, sys.argv[1:])
held = []
for index in range(number):
    end = socket.socket()
    end.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    end.bind((f"127.0.0.{2 + index // 10000}", 0))
    end.connect(("127.0.0.1", port))
    held.append(end)
print("there", flush=True)
sys.stdin.read()
"""


class Idle(asyncio.Protocol):
    """The server's side of a connection on which nothing happens."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self.count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.count(1)

    def connection_lost(self, error: Exception | None) -> None:
        self.count(-1)


@scaled("scale.connections", "50,000 idle connections", 50_000, most_connections)
async def connections(number: int, all_there: Callable[[], None]) -> None:
    """50,000 connections over loopback are accepted by one `asyncio.Protocol` server, stay idle, and are closed by the
    other side: processor time, the kernel's for the server's end included, and growth of the server's resident set per
    connection. Where the process may not have so many files (`ulimit -Hn`), as many as it may.
    """
    loop = asyncio.get_running_loop()
    raise_limit(number + SPARE_FILES)
    open_now, reached = 0, asyncio.Event()
    wanted = number

    def count(more: int) -> None:
        nonlocal open_now
        open_now += more
        if open_now == wanted:
            reached.set()

    server = await loop.create_server(lambda: Idle(count), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    command = [sys.executable, "-c", HOLDER, str(port), str(number)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        await reached.wait()
        all_there()
        wanted = 0
        reached.clear()
        holder.communicate()
        await reached.wait()
    finally:
        holder.kill()
        holder.wait()
        server.close()
