"""Proxies for the tests: an HTTP proxy and a SOCKS 5 server that do as told, and the real ones of the system."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.http.dialkit import join

TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class ConnectProxy:
    """An HTTP proxy that knows nothing but CONNECT.

    Attributes:
        answer: what it answers; it is a tunnel afterwards if that begins with a status of 2xx.
        piecewise: send the answer byte by byte.
        hosts: where the names of the targets are; others are taken as they are.
        heads: the requests that came.
    """

    answer: bytes = TUNNEL
    piecewise: bool = False
    hosts: Mapping[str, str] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        step = 1 if self.piecewise else max(1, len(self.answer))
        for start in range(0, len(self.answer), step):
            writer.write(self.answer[start : start + step])
            await asyncio.sleep(0)
        if self.answer[8:10] == b" 2":
            host, _, port = head.split()[1].rpartition(":")
            await join(reader, writer, self.hosts.get(host, host.strip("[]")), int(port))
        elif self.answer:
            await reader.read()  # stays open: it is the client who closes


@dataclass
class Socks:
    """A SOCKS 5 server (RFC 1928).

    Attributes:
        auth: the user and password that it wants, or None.
        replies: what it replies to the first requests; 0, a tunnel, to all others.
        bound: what stands in its reply for the address, with the kind in front.
        after: what it sends after the reply.
        hosts: where names are.
        targets: the addresses that were asked for, names as text and addresses as objects.
    """

    auth: tuple[bytes, bytes] | None = None
    replies: list[int] = field(default_factory=list)
    bound: bytes = b"\1\0\0\0\0\0\0"
    after: bytes = b""
    hosts: Mapping[str, str] = field(default_factory=dict)
    targets: list[tuple[object, int]] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        assert version == 5
        methods = await reader.readexactly(count)
        method = 0 if self.auth is None else 2
        if method not in methods:
            writer.write(b"\5\xff")
            await reader.read()
            return
        writer.write(bytes([5, method]))
        if self.auth is not None and not await self.logs_in(reader, writer):
            return
        host, port = await self.target(reader)
        reply = self.replies.pop(0) if self.replies else 0
        for byte in bytes([5, reply, 0]) + self.bound + self.after:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        if not reply:
            await join(reader, writer, self.hosts.get(host, host), port)
        else:
            await reader.read()

    async def logs_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        assert (await reader.readexactly(1)) == b"\1"
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        right = (user, password) == self.auth
        writer.write(b"\1\0" if right else b"\1\1")
        if not right:
            await reader.read()
        return right

    async def target(self, reader: asyncio.StreamReader) -> tuple[str, int]:
        version, command, reserved, kind = await reader.readexactly(4)
        assert (version, command, reserved) == (5, 1, 0)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            seen: object = host
        else:
            seen = ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16))
            host = str(seen)
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.targets.append((seen, port))
        return host, port


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def program(name: str) -> str | None:
    """Where a program of the system is; Debian keeps some where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


@contextlib.asynccontextmanager
async def running(*command: str, port: int) -> AsyncIterator[None]:
    """A server program, from when it accepts connections at *port* until it has ended."""
    # Not the sanitizers, where the tests run under them: the program is not ours, and may change its user.
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None, process.communicate()[0].decode()
                    await asyncio.sleep(0.01)
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def tinyproxy_config(folder: Path, port: int, *more: str) -> str:
    """A configuration for tinyproxy that lets it connect to any port; the file's name."""
    path = folder / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", f'LogFile "{folder}/log"', "MaxClients 20", *more]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def squid_config(folder: Path, port: int) -> str:
    """A configuration for squid in one process, without a cache; the file's name."""
    path = folder / "squid.conf"
    path.write_text(
        f"""http_port 127.0.0.1:{port}
http_access allow all
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
netdb_filename none
shutdown_lifetime 0 seconds
pinger_enable off
"""
    )
    return str(path)
