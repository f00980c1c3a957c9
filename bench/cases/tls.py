"""TLS on loopback: echo over connections that stand, handshakes, and what an idle connection keeps in memory.

Server and load generator are those of ``bench/cases/tcp.py``, with TLS: the generator is the same C program, compiled
with libssl, so its processor time is on its own core whatever the contender. The certificate has a P-256 key, with
which a signature is cheap: with RSA the handshakes of all contenders would cost the same, OpenSSL's part.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import ssl
import subprocess
from functools import cache
from typing import Any

from bench.cases import tcp
from bench.cases.memory import METRICS as BYTES
from bench.cases.memory import resident_bytes
from bench.contenders import FIELD, LOOPS, beat_uvloop
from bench.load import SOURCES
from bench.model import Case, Sample, register
from bench.serve import python_server

CERTIFICATE = SOURCES / "localhost.pem"
IDLE = 2000  # connections in a measurement of memory that is given one second; both ends are in the process

HOW = (
    "{what} TLS 1.3; the load generator is a C program over libssl. Messages are counted in a window of 0.6 s after "
    "0.15 s of warm-up; the processor time of the server is read from its process clock at both ends of that window."
)


@cache
def no_headers() -> str:
    """Why the load generator cannot be compiled here; empty when it can."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "needs a C compiler"
    command = [compiler, "-E", "-x", "c", "-"]
    done = subprocess.run(command, input=b"#include <openssl/ssl.h>\n", capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs OpenSSL's headers: try `apt install libssl-dev`"


def server_context() -> ssl.SSLContext:
    """The TLS parameters of every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def serve_protocol() -> tcp.Address:
    """Echo by ``asyncio.Protocol``."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(tcp.Echo, "127.0.0.1", 0, backlog=tcp.BACKLOG, ssl=server_context())
    tcp._kept.append(server)
    return {"port": server.sockets[0].getsockname()[1]}


async def serve_streams() -> tcp.Address:
    """Echo by ``asyncio.start_server``."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(tcp.READ):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=tcp.BACKLOG, ssl=server_context())
    tcp._kept.append(server)
    return {"port": server.sockets[0].getsockname()[1]}


def register_loaded(name: str, title: str, what: str, served: Any, *options: str, target: float | None) -> None:
    """Register a case whose server is loaded by the generator, with *options*."""
    function = f"{__name__}:{served.__name__}"
    size, connections = int(options[1]), int(options[3])

    def measure(contender: str, seconds: float) -> Sample:
        return tcp.echo(python_server(contender, function), size, connections, seconds, tls=True, extra=options[4:])

    register(
        Case(
            name,
            title,
            HOW.format(what=what),
            FIELD,
            tcp.METRICS,
            measure,
            seconds=0.6,
            aims=beat_uvloop(target),
            missing=no_headers,
        )
    )


_ECHO = "The server is an `asyncio.Protocol` that writes back what it gets, to {} connections, {} bytes at a time."
for _size, _connections in ((1024, 100), (1024, 10), (16384, 100)):
    register_loaded(
        f"tls.protocol-{_size}x{_connections}",
        f"TLS, Protocol, {tcp.SIZES[_size]}, {_connections} connections",
        _ECHO.format(_connections, _size),
        serve_protocol,
        *("--size", str(_size), "--connections", str(_connections)),
        target=1.5 if _size == 1024 and _connections == 100 else 1.1,
    )
register_loaded(
    "tls.streams-1024x100",
    "TLS, streams, 1 KiB, 100 connections",
    "The server is `asyncio.start_server`: `read`, `write`, `drain`.",
    serve_streams,
    *("--size", "1024", "--connections", "100"),
    target=1.1,
)
register_loaded(
    "tls.handshakes",
    "TLS handshakes, 10 at a time",
    "Each message of 64 bytes comes over a connection of its own: accept, full handshake, echo, close_notify.",
    serve_protocol,
    *("--size", "64", "--connections", "10", "--anew"),
    target=1.0,
)


class _Idle(asyncio.Protocol):
    """Says nothing."""


async def _bytes_per_connection(number: int) -> float:
    loop = asyncio.get_running_loop()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(CERTIFICATE)
    server = await loop.create_server(_Idle, "127.0.0.1", 0, backlog=tcp.BACKLOG, ssl=server_context())
    host, port = server.sockets[0].getsockname()

    async def connect(count: int) -> list[asyncio.Transport]:
        pairs = [
            await loop.create_connection(_Idle, host, port, ssl=client, server_hostname="localhost")
            for _ in range(count)
        ]
        await asyncio.sleep(0.05)  # the tickets that a server sends after its handshake
        return [transport for transport, _ in pairs]

    transports = await connect(20)
    gc.collect()
    before = resident_bytes()
    transports += await connect(number)
    gc.collect()
    value = (resident_bytes() - before) / number / 2  # both ends are here
    for transport in transports:
        transport.abort()
    server.close()
    await asyncio.sleep(0.05)
    return value


def _measure_idle(contender: str, budget: float) -> Sample:
    return {"bytes": LOOPS[contender].run(_bytes_per_connection(int(IDLE * budget)))}


register(
    Case(
        "memory.tls",
        "idle TLS connection",
        "The growth of the resident set (`/proc/self/statm`) per end of a TLS connection that has finished its "
        "handshake and says nothing; client and server are in the process, so half of what a pair takes.",
        FIELD,
        BYTES,
        _measure_idle,
        0.4,
        False,
        beat_uvloop(1.5),
    )
)
