"""Streams: asyncio's own on each loop, and weft's own on weft.

Echo is measured as in ``bench/cases/tcp.py``; lines are sent in bulk by this process, and the server, which reads line
by line, says how many came and what they cost. The invariant: all servers run the same lines of Python, over the module
(``asyncio`` or ``weft``) that the contender stands for.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import time
from typing import Any

from bench import machine
from bench.cases.tcp import BACKLOG, HOW, METRICS, READ, SERVED, SIZES, Address, echo
from bench.contenders import LOOPS, beat_uvloop
from bench.field import Contender, Field, version_of
from bench.model import Case, Metric, Sample, register
from bench.serve import python_server, serving

OWN = "weft.streams"
LINE = b"x" * 63 + b"\n"
LINES = LINE * (1 << 14)  # a megabyte
WARM_UP = 0.15


class OwnStreams(Contender):
    """weft with its own streams in place of asyncio's."""

    def versions(self) -> dict[str, str]:
        """That of weft."""
        return {"weft": version_of("weft")}


FIELD = Field((*LOOPS.values(), OwnStreams(OWN)), subject=OWN, peers=("asyncio", "uvloop", "weft"))

_kept: list[object] = []  # servers of the serving process, which only a signal ends


async def serve_echo(module: str) -> Address:
    """Echo by ``start_server`` of *module*: read what there is, write it, drain."""

    async def serve(reader: Any, writer: Any) -> None:
        while data := await reader.read(READ):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await _start(module, serve)


async def serve_own_echo() -> Address:
    """The same by weft's own streams."""
    return await serve_echo("weft")


async def serve_lines(module: str) -> Address:
    """Count lines by ``readline``; answers with their number and their cost, without what the first line came with."""

    async def serve(reader: Any, writer: Any) -> None:
        lines = 0
        while await reader.readline() != b"start\n":
            pass
        spent, began = time.process_time(), time.perf_counter()
        while await reader.readline():
            lines += 1
        spent, took = time.process_time() - spent, time.perf_counter() - began
        writer.write(json.dumps({"lines": lines, "cpu": spent, "seconds": took}).encode())
        writer.close()

    return await _start(module, serve)


async def _start(module: str, serve: Any) -> Address:
    server = await importlib.import_module(module).start_server(serve, "127.0.0.1", 0, backlog=BACKLOG)
    _kept.append(server)
    return {"port": server.sockets[0].getsockname()[1]}


def command(contender: str, function: str) -> list[str]:
    """The command that runs a server of this file for a contender."""
    loop, module = ("weft", "weft") if contender == OWN else (contender, "asyncio")
    return python_server(loop, f"{__name__}:{function}", module)


def register_echo(size: int, connections: int, *, quick: bool = False) -> None:
    """Register one cell: a message size in bytes, a number of connections."""
    name = f"streams.echo-{size}x{connections}"
    if size == 1024:
        words = ["--size", str(size), "--connections", str(connections)]
        SERVED[name] = f"{__name__}:serve_own_echo", "echo_load", words
    register(
        Case(
            name,
            f"echo, {SIZES[size]}, {connections} connections",
            HOW.format(server="The server is `start_server`, asyncio's or weft's: `read`, `write`, `drain`."),
            FIELD,
            METRICS,
            lambda contender, seconds: echo(command(contender, "serve_echo"), size, connections, seconds),
            seconds=0.6,
            quick=quick,
            aims=beat_uvloop(1.6),
        )
    )


def measure_lines(contender: str, seconds: float) -> Sample:
    """Send lines for a while, end the stream, and return what the server has counted."""
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    with serving(command(contender, "serve_lines"), core=server_core) as server:
        with socket.create_connection(("127.0.0.1", server.address["port"])) as connection:
            for part, length in ((b"", WARM_UP), (b"start\n", seconds)):
                connection.sendall(part)
                end = time.monotonic() + length
                sent = 0
                while time.monotonic() < end:
                    connection.sendall(LINES)
                    sent += len(LINES) // len(LINE)
            connection.shutdown(socket.SHUT_WR)
            counted = json.loads(connection.makefile("rb").read())
    if counted["lines"] != sent:
        raise RuntimeError(f"the server counted {counted['lines']} lines of {sent}")
    return {
        "cpu_ns": counted["cpu"] / sent * 1e9,
        "rate": sent / counted["seconds"],
        "busy": counted["cpu"] / counted["seconds"],
    }


for _size in SIZES:
    register_echo(_size, 100, quick=_size == 1024)
register(
    Case(
        "streams.readline",
        "`readline` of 64-byte lines",
        "One connection brings lines of 64 bytes as fast as the server takes them, a megabyte per `send`; the server "
        "awaits `readline` for each. Lines are counted for 0.6 s after 0.15 s of warm-up, up to the end of the stream.",
        FIELD,
        (
            Metric("cpu_ns", "server CPU ns/line"),
            Metric("rate", "lines/s", more_is_better=True, compared=True),
            Metric("busy", "server core busy", more_is_better=True),
        ),
        measure_lines,
        seconds=0.6,
        aims=beat_uvloop(4.0),
    )
)
