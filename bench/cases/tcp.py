"""TCP echo on loopback, by Protocol, through asyncio streams and through ``loop.sock_*``.

The server is one process on one core, the load generator (``bench/load/echo_load.c``) another on another core; both
are fresh for every measurement. The first half of the file is the servers, the second what drives them.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Sequence
from typing import Any, cast

from bench import machine
from bench.contenders import FIELD, beat_uvloop
from bench.field import Contender
from bench.load import program
from bench.model import Case, Metric, Sample, register
from bench.serve import python_server, serving

READ = 65536
BACKLOG = 4096
FLOOR = Contender("C epoll")

Address = dict[str, Any]

# Case name to server function, load generator and its options; for ``bench.instructions``.
SERVED: dict[str, tuple[str, str, list[str]]] = {}

_kept: list[object] = []  # servers and tasks of the serving process, which only a signal ends


class Echo(asyncio.Protocol):
    """Writes back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The same with a buffer of its own, which saves an allocation per read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = bytearray(READ)
        self.view = memoryview(self.buffer)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))


async def serve_protocol() -> Address:
    """Echo by ``asyncio.Protocol``."""
    return await _serve_factory(Echo)


async def serve_buffered() -> Address:
    """Echo by ``asyncio.BufferedProtocol``."""
    return await _serve_factory(BufferedEcho)


async def _serve_factory(factory: type[asyncio.BaseProtocol]) -> Address:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=BACKLOG)
    _kept.append(server)
    return {"port": server.sockets[0].getsockname()[1]}


async def serve_streams() -> Address:
    """Echo by ``asyncio.start_server``: read what there is, write it, drain."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=BACKLOG)
    _kept.append(server)
    return {"port": server.sockets[0].getsockname()[1]}


async def serve_sockets() -> Address:
    """Echo by ``loop.sock_accept``, ``sock_recv`` and ``sock_sendall``, one task per connection."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()

    async def echo(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(connection, READ):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = loop.create_task(echo(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    _kept.append(loop.create_task(accept()))
    return {"port": listener.getsockname()[1]}


# Processor time comes first, and is what the aims are about: while a server is saturated the rate is its reciprocal,
# and where it is not, or another guest has the machine, the rate is the machine's.
METRICS = (
    Metric("cpu_us", "server CPU µs/message"),
    Metric("rate", "messages/s", more_is_better=True, compared=True),
    Metric("user_us", "of it user µs"),
    Metric("system_us", "of it system µs"),
    Metric("p50_us", "p50 µs"),
    Metric("p99_us", "p99 µs"),
    Metric("server_busy", "server core busy", more_is_better=True),
    Metric("load_busy", "generator core busy"),
)

HOW = (
    "Each connection sends a message of the size named and waits for all of it to come back before it sends again. "
    "{server} Messages are counted in a window of 0.6 s after 0.15 s of warm-up; the processor time of the server is "
    "read from its process clock at both ends of that window."
)

SERVERS = {
    "protocol": ("Protocol", "The server is an `asyncio.Protocol` that writes back what it gets.", serve_protocol),
    "buffered": (
        "BufferedProtocol",
        "The server is an `asyncio.BufferedProtocol` with a 64 KiB buffer.",
        serve_buffered,
    ),
    "streams": (
        "streams",
        "The server is `asyncio.start_server`: `read`, `write`, `drain`.",
        serve_streams,
    ),
    "sockets": (
        "`sock_*`",
        "The server is a task per connection with `loop.sock_recv` and `loop.sock_sendall`.",
        serve_sockets,
    ),
}

SIZES = {64: "64 B", 1024: "1 KiB", 16384: "16 KiB"}


def echo(
    command: list[str], size: int, connections: int, seconds: float, *, tls: bool = False, extra: Sequence[str] = ()
) -> Sample:
    """Start the server, load it, and return what the generator counted; *extra* are options for that."""
    words = ["--size", str(size), "--connections", str(connections), *extra]
    return loaded(command, "echo_load", words, seconds, tls=tls)


def loaded(command: list[str], generator: str, words: list[str], seconds: float, *, tls: bool = False) -> Sample:
    """Start a server, load it by a C program of ``bench/load`` for ``seconds``, and return what that counted."""
    server_core, load_core = machine.cores()
    with serving(command, core=server_core) as server:
        options = {
            "--port": server.address["port"],
            "--warmup-ms": int(seconds * 250),
            "--duration-ms": int(seconds * 1000),
            "--pid": server.pid,
            "--core": load_core,
        }
        words = [*words, *(str(word) for pair in options.items() for word in pair)]
        done = subprocess.run([program(generator, tls=tls), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    counted: Sample = json.loads(done.stdout)
    return {"rate": counted["messages"] / counted["seconds"], **counted}


def register_echo(
    kind: str, size: int, connections: int, *, target: float | None = None, quick: bool = False, floor: bool = False
) -> None:
    """Register one cell: a kind of server, a message size in bytes, a number of connections."""
    title, words, served = SERVERS[kind]
    name = f"tcp.{kind}-{size}x{connections}"
    function = f"{__name__}:{served.__name__}"
    SERVED[name] = function, "echo_load", ["--size", str(size), "--connections", str(connections)]

    def measure(contender: str, seconds: float) -> Sample:
        if contender == FLOOR.name:
            return echo([str(program("echo_server"))], size, connections, seconds)
        return echo(python_server(contender, function), size, connections, seconds)

    register(
        Case(
            name,
            f"{title}, {SIZES[size]}, {connections} connection{'s' if connections > 1 else ''}",
            HOW.format(server=words),
            FIELD.with_floors(FLOOR) if floor else FIELD,
            METRICS,
            measure,
            seconds=0.6,
            quick=quick,
            aims=beat_uvloop(target),
        )
    )


for _size in SIZES:
    for _connections in (1, 10, 100, 1000):
        _hot = _size < 16384 and _connections in (10, 100)
        register_echo(
            "protocol",
            _size,
            _connections,
            target=1.1 if _hot else 1.0,
            quick=_size == 1024 and _connections == 100,
            floor=True,
        )
register_echo("buffered", 1024, 100)
for _size, _connections in ((64, 100), (1024, 10), (1024, 100), (16384, 100)):
    register_echo("streams", _size, _connections, target=1.25 if _connections == 100 else 1.1)
for _connections in (10, 100):
    register_echo("sockets", 1024, _connections, target=2.0)
