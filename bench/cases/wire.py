"""What moves on one TCP connection: 1 GiB in either direction, files, and answers that are written in two parts.

The server is one process on one core; a C client (``bench/load/bulk.c``, ``bench/load/echo_load.c``) is on another. The
first half of the file is the servers, the second what drives them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, cast

from bench import machine
from bench.contenders import FIELD, LOOPS
from bench.field import Contender, Field
from bench.load import program
from bench.model import Aim, Case, Metric, Sample, register
from bench.serve import python_server, serving

FLOOR = Contender("C")
TOTAL = 1 << 30
CHUNK = bytes(256 * 1024)
FILE_SIZE = 64 << 20
HEAD = 100  # bytes, of each answer that is written in two parts

Address = dict[str, Any]

_kept: list[object] = []  # servers and tasks of the serving process, which only a signal ends


class Sink(asyncio.Protocol):
    """Counts what it gets; the end of the stream closes."""

    total = 0

    def data_received(self, data: bytes) -> None:
        self.total += len(data)


class Source(asyncio.Protocol):
    """Sends ``TOTAL`` bytes, as fast as ``pause_writing`` lets it, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.left = TOTAL
        self.is_paused = False
        self.send()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.send()

    def send(self) -> None:
        while self.left and not self.is_paused:
            self.left -= len(CHUNK)
            self.transport.write(CHUNK)
        if not self.left:
            self.transport.close()


class FileSource(asyncio.Protocol):
    """Sends a file by ``loop.sendfile`` until it is ``TOTAL`` bytes, and closes."""

    path = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.task = asyncio.get_running_loop().create_task(self.send(cast(asyncio.Transport, transport)))

    async def send(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        with open(self.path, "rb") as file:
            for _ in range(TOTAL // FILE_SIZE):
                await loop.sendfile(transport, file, fallback=False)
        transport.close()


class Parts(asyncio.Protocol):
    """Answers with what it gets, in two writes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        head, body = data[:HEAD], data[HEAD:]
        self.transport.write(head)
        self.transport.write(body)


class Joined(Parts):
    """The same in one, of the same two parts."""

    def data_received(self, data: bytes) -> None:
        head, body = data[:HEAD], data[HEAD:]
        self.transport.write(head + body)


async def serve_bulk(way: str, path: str = "") -> Address:
    """``way`` is "receive", "send" or "sendfile"."""
    FileSource.path = path
    return {"port": await _listen({"receive": Sink, "send": Source, "sendfile": FileSource}[way])}


async def serve_answers() -> Address:
    """The answers in two parts on one port, joined ones on another."""
    return {"parts": await _listen(Parts), "joined": await _listen(Joined)}


async def _listen(factory: type[asyncio.Protocol]) -> int:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    _kept.append(server)
    return int(server.sockets[0].getsockname()[1])


# -- bulk


BULK_METRICS = (
    Metric("mib_per_second", "MiB/s", more_is_better=True),
    Metric("cpu_ms", "server CPU ms/GiB", compared=True),
    Metric("server_busy", "server core busy", more_is_better=True),
    Metric("load_busy", "client core busy"),
)
# uvloop has no sendfile.
WITH_SENDFILE = Field((LOOPS["asyncio"], LOOPS["weft"]), subject="weft", peers=("asyncio",))


def bulk(contender: str, way: str, seconds: float) -> Sample:
    """Have a contender's server move ``TOTAL`` bytes ``way``, and return what the client measured."""
    server_core, client_core = machine.cores()
    total = max(int(TOTAL * seconds), FILE_SIZE) if contender == FLOOR.name else TOTAL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        if way == "sendfile":
            path.write_bytes(bytes(FILE_SIZE))
        if contender == FLOOR.name:
            command = [str(program("bulk")), "--serve", way, "--total", str(total), "--file", str(path)]
        else:
            command = python_server(contender, f"{__name__}:serve_bulk", way, str(path))
        with serving(command, core=server_core) as server:
            return client(
                "bulk",
                {
                    "--port": server.address["port"],
                    "--way": "receive" if way == "receive" else "send",
                    "--total": total,
                    "--pid": server.pid,
                    "--core": client_core,
                },
            )


def client(name: str, options: dict[str, object]) -> Sample:
    """Run a C program of ``bench/load`` and return what it printed."""
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run([program(name), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    counted: Sample = json.loads(done.stdout)
    return counted


def register_bulk(way: str, title: str, how: str, field: Field, *, quick: bool = False) -> None:
    """Register a direction; the aim is nine tenths of what a C program reaches."""
    register(
        Case(
            f"wire.bulk-{way}",
            title,
            f"1 GiB over one connection, once. {how} The client, and the floor, is a C program that blocks, with "
            "256 KiB per call.",
            field.with_floors(FLOOR),
            BULK_METRICS,
            lambda contender, seconds: bulk(contender, way, seconds),
            seconds=1.0,
            quick=quick,
            aims=(Aim(0.9, FLOOR.name),),
        )
    )


register_bulk("receive", "1 GiB received", "The server is an `asyncio.Protocol` that counts.", FIELD)
register_bulk("send", "1 GiB sent", "The server writes 256 KiB at a time until it is asked to pause.", FIELD)
register_bulk(
    "sendfile", "1 GiB of a file sent", "The server sends a file of 64 MiB by `loop.sendfile`.", WITH_SENDFILE
)


# -- answers in two parts


def answers(contender: str, seconds: float) -> Sample:
    """Load both servers of one process in turns, so that the machine's moods strike both."""
    server_core, client_core = machine.cores()
    turns = 6
    costs: dict[str, list[float]] = {"parts": [], "joined": []}
    with serving(python_server(contender, f"{__name__}:serve_answers"), core=server_core) as server:
        for turn in range(2 * turns):
            kind = ("parts", "joined", "joined", "parts")[turn % 4]
            options: dict[str, object] = {"--port": server.address[kind], "--connections": 100, "--size": 1024}
            window = {"--warmup-ms": 30, "--duration-ms": int(seconds * 1000 / turns)}
            counted = client("echo_load", {**options, **window, "--pid": server.pid, "--core": client_core})
            costs[kind].append(counted["cpu_us"])
    parts, joined = (sorted(costs[kind])[turns // 2] for kind in ("parts", "joined"))
    return {"ratio": parts / joined, "parts_us": parts, "joined_us": joined}


register(
    Case(
        "wire.head-and-body",
        "an answer of 100 B and 924 B written in two parts, against one write of both",
        "As Protocol, 1 KiB, 100 connections. The server takes the message apart, and writes the two parts, or writes "
        "them joined; both in one process, loaded in turns. Medians of six windows each.",
        FIELD,
        (
            Metric("ratio", "processor time against one write"),
            Metric("parts_us", "server CPU µs/message, two writes"),
            Metric("joined_us", "one write"),
        ),
        answers,
        seconds=1.2,
        aims=(Aim(1.03),),
    )
)
