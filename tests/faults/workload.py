"""A program that moves bytes in every way a loop offers, while the shim makes its system calls fail; prints a verdict.

Each scenario moves noise and raises where not every byte arrives once and in order. The verdict is one line of JSON:
what each scenario said, what was reported to the exception handler, how often each rule struck, what was left over.
Run by ``tests/faults/kit.py::run_workload`` as ``workload.py LOOP PLAN SEED SCENARIO...``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import random
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.loop.kit import client_context, server_context

NOISE = random.Random(2).randbytes(128 * 1024)
CLIENTS = 4
LIMIT = 20.0  # seconds for a scenario, which takes a tenth of one

Scenario = Callable[[], Coroutine[Any, Any, None]]
scenarios: dict[str, Scenario] = {}
reports: list[str] = []


def scenario(function: Scenario) -> Scenario:
    """Enter a scenario under its function's name."""
    scenarios[function.__name__] = function
    return function


def noise(number: int) -> bytes:
    """What client ``number`` sends: no two the same."""
    return b"%d:" % number + NOISE[number * 1000 :]


def same(got: bytes | bytearray, sent: bytes) -> None:
    """Fail with the first place at which they differ."""
    if got != sent:
        at = next(
            (i for i, (one, two) in enumerate(zip(got, sent, strict=False)) if one != two), min(len(got), len(sent))
        )
        raise AssertionError(f"{len(got)} bytes of {len(sent)} arrived, and they differ at {at}")


# -- protocols


class Echo(asyncio.Protocol):
    """Sends back what comes, and reads no more while the peer does not."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    """The same with a small buffer of its own."""

    def __init__(self) -> None:
        self.buffer = bytearray(5000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.writelines([self.buffer[: nbytes // 2], bytes(self.buffer[nbytes // 2 : nbytes])])


class Client(asyncio.Protocol):
    """Writes noise in pieces of all sizes, ends its side, and has the echo in ``result``."""

    transport: Any

    def __init__(self, number: int) -> None:
        self.data = noise(number)
        self.got = bytearray()
        self.result: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        at, size = 0, 1
        while at < len(self.data):
            transport.write(self.data[at : at + size])  # type: ignore[attr-defined]  # a stream's transport
            at, size = at + size, min(size * 2, 40_000)

    def data_received(self, data: bytes) -> None:
        self.got += data
        if len(self.got) >= len(self.data):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.result.set_exception(exc)
        else:
            self.result.set_result(None)


async def by_protocols(factory: Callable[[], asyncio.BaseProtocol], **options: Any) -> None:
    """Several clients at once to one server; every echo must be whole."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, **options)
    address = server.sockets[0].getsockname()
    clients = [(await loop.create_connection(lambda: Client(one), *address))[1] for one in range(CLIENTS)]  # noqa: B023
    for client in clients:
        await client.result
        same(client.got, client.data)
    server.close()
    await server.wait_closed()


@scenario
async def protocols() -> None:
    """Echo by ``Protocol``."""
    await by_protocols(Echo)


@scenario
async def buffered() -> None:
    """Echo by ``BufferedProtocol``."""
    await by_protocols(BufferedEcho)


# -- streams


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(10_000):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def stream_client(number: int, opened: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    reader, writer = await opened
    data = noise(number)

    async def send() -> None:
        for at in range(0, len(data), 30_000):
            writer.write(data[at : at + 30_000])
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        same(await reader.readexactly(len(data)), data)
        await sending
    finally:
        sending.cancel()
        writer.close()
    await writer.wait_closed()


@scenario
async def streams() -> None:
    """Echo by streams, over TCP."""
    server = await asyncio.start_server(echo_stream, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.gather(*[stream_client(one, asyncio.open_connection(*address)) for one in range(CLIENTS)])
    server.close()
    await server.wait_closed()


@scenario
async def unix() -> None:
    """Echo by streams, over a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        server = await asyncio.start_unix_server(echo_stream, path)
        await asyncio.gather(*[stream_client(one, asyncio.open_unix_connection(path)) for one in range(CLIENTS)])
        server.close()
        await server.wait_closed()


@scenario
async def tls() -> None:
    """Echo by streams, over TLS."""
    server = await asyncio.start_server(echo_stream, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    context = client_context()
    opened = [asyncio.open_connection(*address, ssl=context, server_hostname="localhost") for _ in range(CLIENTS)]
    await asyncio.gather(*[stream_client(number, one) for number, one in enumerate(opened)])
    server.close()
    await server.wait_closed()


# -- sockets


@scenario
async def sockets() -> None:
    """Echo by ``sock_*``."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def serve(sock: socket.socket) -> None:
        with sock:
            buffer = bytearray(10_000)
            while size := await loop.sock_recv_into(sock, buffer):
                await loop.sock_sendall(sock, buffer[:size])

    async def ask(number: int) -> None:
        data, got = noise(number), bytearray()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listener.getsockname())
            sending = asyncio.create_task(loop.sock_sendall(sock, data))
            while len(got) < len(data):
                piece = await loop.sock_recv(sock, 7000)
                if not piece:
                    break
                got += piece
            same(got, data)
            await sending

    asking = asyncio.gather(*map(ask, range(CLIENTS)))
    accepted = [(await loop.sock_accept(listener))[0] for _ in range(CLIENTS)]
    await asyncio.gather(*map(serve, accepted))
    await asking
    listener.close()


class Datagrams(asyncio.DatagramProtocol):
    """Counts what comes."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.errors: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(type(exc).__name__)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@scenario
async def datagrams() -> None:
    """A thousand datagrams over a Unix pair, which loses none; what an error has swallowed was told of."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (ours, theirs):
        sock.setblocking(False)
    sending, sender = await loop.create_datagram_endpoint(Datagrams, sock=ours)
    receiving, receiver = await loop.create_datagram_endpoint(Datagrams, sock=theirs)
    sent = [b"%d" % number * 100 for number in range(1000)]
    for data in sent[:500]:
        sending.sendto(data)
    for number, data in enumerate(sent[500:]):
        sending.sendto(data)
        if number % 3:  # one or two in a turn
            await asyncio.sleep(0)
    while len(receiver.got) + len(sender.errors) < len(sent):
        await asyncio.sleep(0)
    missing = len(sent) - len(receiver.got)
    order = iter(sent)
    assert all(data in order for data in receiver.got), "datagrams came in another order, or twice"
    assert missing == len(sender.errors), f"{missing} are missing, {len(sender.errors)} errors were told"
    for transport, protocol in ((sending, sender), (receiving, receiver)):
        transport.close()
        assert await protocol.lost is None


# -- pipes and processes


@scenario
async def pipes() -> None:
    """A pipe between two transports."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0))
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    transport.write(NOISE[:10])
    transport.writelines([NOISE[10:1000], NOISE[1000:]])
    transport.close()
    same(await reader.read(), NOISE)


@scenario
async def processes() -> None:
    """Through ``cat`` and back."""
    for _ in range(2):
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = await process.communicate(NOISE)
        same(out, NOISE)
        assert not err
        assert process.returncode == 0


@scenario
async def timers() -> None:
    """Sleeps of all lengths and a thread that calls, so that the kernel is waited in."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*[asyncio.sleep(one / 1000) for one in range(20)])
    for number in range(20):
        assert await loop.run_in_executor(None, int, number) == number


# -- the verdict


def open_fds() -> dict[int, str]:
    """What the process has open, but for the files of its threads: the stall watch looks into these for a moment."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing
    return {fd: what for fd, what in found.items() if not what.startswith(f"/proc/{os.getpid()}/task/")}


def left_over(before: dict[int, str]) -> list[str]:
    """Descriptors, threads and children that were not there before."""
    gc.collect()
    left = [f"fd {fd}: {what}" for fd, what in open_fds().items() if before.get(fd) != what]
    left += [f"thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]
    with contextlib.suppress(ChildProcessError):
        left.append(f"child {os.waitpid(-1, os.WNOHANG)}")
    return left


async def play(names: list[str]) -> dict[str, str]:
    """Run the scenarios one after another, each with its own word."""
    loop = asyncio.get_running_loop()

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        reports.append(f"{context['message']} / {context.get('exception')!r}")

    loop.set_exception_handler(report)
    words = {}
    for name in names:
        try:
            async with asyncio.timeout(LIMIT):
                await scenarios[name]()
            words[name] = "ok"
        except Exception as error:
            words[name] = f"{type(error).__name__}: {error}"
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, left = await asyncio.wait(others, timeout=LIMIT)  # what serves the other end comes to its end
            words[name] += f", and tasks are left: {left}" if left else ""
        for _ in range(3):
            await asyncio.sleep(0)
    await loop.shutdown_default_executor()
    return words


def main(kind: str, plan: str, seed: str, *names: str) -> None:
    """Play the scenarios (all, if none is named) and print the verdict."""
    import weft

    shim = ctypes.CDLL(None)
    shim.faults_struck.restype = ctypes.c_long
    factory: Any = weft.new_event_loop if kind == "weft" else asyncio.SelectorEventLoop
    before = open_fds()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.sleep(0))  # a loop that runs: what it needs for that is not at stake
        assert shim.faults_plan(plan.encode(), ctypes.c_uint64(int(seed))) == len(plan.split())
        words = runner.run(play(list(names or scenarios)))
    struck = {rule: shim.faults_struck(number) for number, rule in enumerate(plan.split())}
    shim.faults_plan(b"", ctypes.c_uint64(0))
    print(json.dumps({"words": words, "reports": reports, "struck": struck, "left": left_over(before)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
