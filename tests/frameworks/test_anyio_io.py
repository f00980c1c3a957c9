"""What AnyIO's asyncio backend does outside of tasks: threads, sockets, processes, signals, files, blocking portals."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anyio", reason="weft[frameworks] is not installed: no anyio")

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream, TaskGroup
from anyio.streams.tls import TLSListener, TLSStream

from tests.conftest import LoopFactory
from tests.frameworks.kit import BODY, LIMIT, digest
from tests.frameworks.test_anyio import Run
from tests.frameworks.test_anyio import run as run
from tests.loop.kit import client_context, server_context


class TestThreads:
    def test_results_errors_and_context(self, run: Run) -> None:
        variable = contextvars.ContextVar("variable", default="none")

        def fail() -> None:
            raise LookupError("in a thread")

        async def main() -> None:
            variable.set("seen")
            assert await anyio.to_thread.run_sync(variable.get) == "seen"
            assert await anyio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
            with pytest.raises(LookupError, match="in a thread"):
                await anyio.to_thread.run_sync(fail)

        run(main)

    def test_many_at_once(self, run: Run) -> None:
        async def main() -> list[int]:
            together = threading.Barrier(10)
            results: list[int] = []

            async def one(n: int) -> None:
                await anyio.to_thread.run_sync(together.wait, LIMIT)
                results.append(n)

            async with anyio.create_task_group() as group:
                for n in range(10):
                    group.start_soon(one, n)
            return results

        assert sorted(run(main)) == list(range(10))

    def test_a_thread_is_abandoned(self, run: Run) -> None:
        release = threading.Event()

        async def main() -> None:
            with anyio.move_on_after(0.01) as scope:
                await anyio.to_thread.run_sync(release.wait, LIMIT, abandon_on_cancel=True)
            assert scope.cancelled_caught
            release.set()

        run(main)

    def test_a_thread_calls_back(self, run: Run) -> None:
        async def double(n: int) -> int:
            await anyio.sleep(0)
            return 2 * n

        def thread() -> tuple[int, int]:
            return anyio.from_thread.run(double, 21), anyio.from_thread.run_sync(threading.get_ident)

        async def main() -> None:
            assert await anyio.to_thread.run_sync(thread) == (42, threading.get_ident())

        run(main)


class TestBlockingPortals:
    def test_calls_tasks_and_context_managers(self, new_loop: LoopFactory) -> None:
        async def kind() -> type:
            return type(asyncio.get_running_loop())

        async def fail() -> None:
            raise LookupError("in the loop")

        async def make_group() -> TaskGroup:
            return anyio.create_task_group()

        with anyio.from_thread.start_blocking_portal(backend_options={"loop_factory": new_loop}) as portal:
            probe = new_loop()
            probe.close()
            assert portal.call(kind) is type(probe)
            with pytest.raises(LookupError, match="in the loop"):
                portal.call(fail)
            futures = [portal.start_task_soon(anyio.sleep, 0) for _ in range(10)]
            assert [future.result(LIMIT) for future in futures] == [None] * 10
            forever = portal.start_task_soon(anyio.sleep_forever)
            assert forever.cancel()
            with portal.wrap_async_context_manager(portal.call(make_group)) as group:
                portal.start_task_soon(group.start_soon, anyio.sleep, 0)


async def serve_echo(listener: Listener[Any], group: TaskGroup) -> None:
    async def echo(stream: ByteStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    group.start_soon(listener.serve, echo)


async def receive_exactly(stream: ByteStream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += await stream.receive()
    return bytes(data)


async def exchange(stream: ByteStream) -> None:
    """Send and receive a large body at the same time."""
    async with stream, anyio.create_task_group() as group:
        group.start_soon(stream.send, BODY)
        assert digest(await receive_exactly(stream, len(BODY))) == digest(BODY)


class TestSockets:
    def test_tcp(self, run: Run) -> None:
        async def main() -> None:
            async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
                port = listener.extra(SocketAttribute.local_port)
                async with anyio.create_task_group() as group:
                    await serve_echo(listener, group)
                    async with anyio.create_task_group() as clients:
                        for _ in range(5):
                            clients.start_soon(exchange, await anyio.connect_tcp("127.0.0.1", port))
                    group.cancel_scope.cancel()

        run(main)

    def test_unix(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = tmp_path / "socket"
            async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
                await serve_echo(listener, group)
                await exchange(await anyio.connect_unix(path))
                group.cancel_scope.cancel()

        run(main)

    def test_tls(self, run: Run) -> None:
        async def main() -> None:
            async with await anyio.create_tcp_listener(local_host="127.0.0.1") as tcp:
                port = tcp.extra(SocketAttribute.local_port)
                async with anyio.create_task_group() as group:
                    await serve_echo(TLSListener(tcp, server_context(), standard_compatible=False), group)
                    plain = await anyio.connect_tcp("127.0.0.1", port)
                    await exchange(
                        await TLSStream.wrap(
                            plain, hostname="localhost", ssl_context=client_context(), standard_compatible=False
                        )
                    )
                    group.cancel_scope.cancel()

        run(main)

    def test_ends(self, run: Run) -> None:
        async def main() -> None:
            accepted: list[SocketStream] = []

            async def keep(stream: SocketStream) -> None:
                accepted.append(stream)
                assert await stream.receive() == b"to the end"
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                await stream.send(b"answer")
                await stream.aclose()

            async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
                port = listener.extra(SocketAttribute.local_port)
                async with anyio.create_task_group() as group:
                    group.start_soon(listener.serve, keep)
                    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                        await stream.send(b"to the end")
                        await stream.send_eof()
                        assert await stream.receive() == b"answer"
                        with pytest.raises(anyio.EndOfStream):
                            await stream.receive()
                    with pytest.raises(anyio.ClosedResourceError):
                        await stream.send(b"x")
                    group.cancel_scope.cancel()

        run(main)

    def test_receiving_is_cancelled_and_goes_on(self, run: Run) -> None:
        async def main() -> None:
            async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
                port = listener.extra(SocketAttribute.local_port)
                async with anyio.create_task_group() as group:
                    await serve_echo(listener, group)
                    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                        for n in range(10):
                            with anyio.move_on_after(0.001):
                                await stream.receive()
                            await stream.send(b"%d" % n)
                            assert await stream.receive() == b"%d" % n
                    group.cancel_scope.cancel()

        run(main)

    def test_udp(self, run: Run) -> None:
        async def main() -> None:
            async with await anyio.create_udp_socket(local_host="127.0.0.1") as one:
                port = one.extra(SocketAttribute.local_port)
                async with await anyio.create_connected_udp_socket("127.0.0.1", port) as other:
                    await other.send(b"there")
                    data, (host, back) = await one.receive()
                    await one.sendto(data + b" and back", host, back)
                    assert await other.receive() == b"there and back"

        run(main)

    def test_nobody_listens(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                with pytest.raises(OSError, match="connection attempt|refused|Connect call failed"):
                    await anyio.connect_tcp("127.0.0.1", bound.getsockname()[1])

        run(main)

    def test_readiness(self, run: Run) -> None:
        async def main() -> None:
            here, there = socket.socketpair()

            async def wait() -> None:
                await anyio.wait_readable(here)

            with here, there:
                here.setblocking(False)
                await anyio.wait_writable(here)
                with anyio.move_on_after(0.01) as scope:
                    await anyio.wait_readable(here)
                assert scope.cancelled_caught
                async with anyio.create_task_group() as group:
                    group.start_soon(wait)
                    await anyio.wait_all_tasks_blocked()
                    there.send(b"x")

        run(main)


class TestProcesses:
    def test_run(self, run: Run) -> None:
        async def main() -> None:
            code = "import sys; sys.stdout.write(sys.stdin.read().upper())"
            done = await anyio.run_process([sys.executable, "-c", code], input=b"abc" * 100_000)
            assert done.stdout == b"ABC" * 100_000
            with pytest.raises(subprocess.CalledProcessError):
                await anyio.run_process("exit 3")

        run(main)

    def test_streams_and_a_signal(self, run: Run) -> None:
        async def main() -> None:
            async with await anyio.open_process(["cat"]) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.send(b"hello")
                assert await process.stdout.receive() == b"hello"
                process.terminate()
                assert await process.wait() == -signal.SIGTERM

        run(main)

    def test_cancellation_kills_the_child(self, run: Run) -> None:
        async def main() -> None:
            with anyio.move_on_after(0.05) as scope:
                await anyio.run_process(["sleep", "3600"])
            assert scope.cancelled_caught

        run(main)


class TestSignals:
    def test_in_the_order_of_their_arrival(self, run: Run) -> None:
        before = signal.getsignal(signal.SIGUSR1)

        async def main() -> list[int]:
            seen: list[int] = []
            with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
                for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
                    os.kill(os.getpid(), signum)
                    seen.append(await anext(signals))
            return seen

        assert run(main) == [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is before


class TestFiles:
    def test_a_file(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = anyio.Path(tmp_path / "file")
            await path.write_bytes(BODY)
            async with await anyio.open_file(path, "rb") as file:
                assert digest(await file.read()) == digest(BODY)
            assert [entry.name async for entry in anyio.Path(tmp_path).iterdir()] == ["file"]

        run(main)
