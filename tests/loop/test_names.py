"""``getaddrinfo``, ``getnameinfo`` and the threads that serve them."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import weft
from weft.loop.lookups import MAX_LOOKUPS

NAMES = socket.getaddrinfo  # the real one, where a test replaces it

LITERALS = [
    "127.0.0.1",
    b"127.0.0.1",
    "::1",
    "0::1",
    "::ffff:10.0.0.1",
    "fe80::1%lo",
    "FE80::2%lo",
    "255.255.255.255",
    None,
]
ODD_HOSTS = [
    "127.1",
    "0x7f.1",
    "01.2.3.4",
    "1.2.3.4%lo",
    "::1%lo",
    "fe80::1%nosuch",
    "127.0.0.1\0",
    "1.2.3.256",
    "[::1]",
    "",
]
PORTS: list[Any] = [0, 80, None, "80", b"80", "080", "", b"", 65535, 70000, True]
ODD_PORTS: list[Any] = ["http", -1, "-1", 2**80, "65536", "٣"]
KINDS = [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, 6), (socket.SOCK_STREAM, 17)]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_CANONNAME, socket.AI_ADDRCONFIG | socket.AI_V4MAPPED]


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the type and the text of what it raises."""
    try:
        return call(*args)
    except Exception as exc:
        return type(exc), str(exc)


def asked(loop: asyncio.AbstractEventLoop, host: Any, port: Any, family: int, kind: int, proto: int, flags: int) -> Any:
    return loop.run_until_complete(loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags))


def queries() -> Iterator[tuple[Any, Any, int, int, int, int]]:
    for host in LITERALS:
        for port in PORTS:
            for kind, proto in KINDS:
                yield host, port, socket.AF_UNSPEC, kind, proto, 0
        for family in (socket.AF_INET, socket.AF_INET6, 1000):
            for flags in FLAGS:
                yield host, 80, family, socket.SOCK_STREAM, 0, flags
    for host in ODD_HOSTS:
        yield host, 80, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
    for port in ODD_PORTS:
        yield "127.0.0.1", port, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, 0


class TestGetaddrinfo:
    def test_gives_what_the_socket_module_gives(self, loop: asyncio.AbstractEventLoop) -> None:
        for query in queries():
            assert outcome(asked, loop, *query) == outcome(NAMES, *query), query

    def test_looks_names_up(self, loop: asyncio.AbstractEventLoop) -> None:
        got = loop.run_until_complete(loop.getaddrinfo("localhost", "http", type=socket.SOCK_STREAM))
        assert got == NAMES("localhost", "http", type=socket.SOCK_STREAM)

    def test_refuses_on_a_closed_loop(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        loop = new_loop()
        loop.close()
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                loop.getaddrinfo(host, 80).send(None)

    def test_honours_a_replaced_socket_function(
        self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_: [f"fake {host}"])
        for host in ("127.0.0.1", "name.invalid"):
            assert asked(loop, host, 80, 0, 0, 0, 0) == [f"fake {host}"]

    @pytest.mark.parametrize("slow", [True, False])
    def test_logs_in_debug_mode(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, slow: bool
    ) -> None:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0 if slow else 1000.0
        with caplog.at_level(logging.DEBUG, "asyncio"):
            loop.run_until_complete(loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM, proto=6))
        lines = [(record.levelno, record.getMessage()) for record in caplog.records if "address" in record.getMessage()]
        query = f"localhost:80, type={socket.SOCK_STREAM!r}, proto=6"
        assert lines[0] == (logging.DEBUG, f"Get address info {query}")
        assert lines[1][0] == (logging.INFO if slow else logging.DEBUG)
        assert lines[1][1].startswith(f"Getting address info {query} took ")
        assert "127.0.0.1" in lines[1][1]


class TestGetnameinfo:
    @pytest.mark.parametrize("flags", [0, socket.NI_NUMERICHOST, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV])
    def test_gives_what_the_socket_module_gives(self, loop: asyncio.AbstractEventLoop, flags: int) -> None:
        addresses: list[Any] = [("127.0.0.1", 80), ("::1", 80, 0, 0), ("nonsense", 80), ("127.0.0.1",)]
        for address in addresses:
            got = outcome(lambda: loop.run_until_complete(loop.getnameinfo(address, flags)))  # noqa: B023
            assert got == outcome(socket.getnameinfo, address, flags)


class Resolver:
    """Stands in for ``socket.getaddrinfo``: each lookup waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)
        self.threads: set[threading.Thread] = set()

    def __call__(self, host: str, *args: Any) -> list[str]:
        self.threads.add(threading.current_thread())
        self.entered.release()
        assert self.go.wait(60)
        if host.startswith("bad"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [host]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.go.set()


@pytest.mark.weft_only
class TestLookupThreads:
    def test_a_literal_address_needs_no_thread(
        self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise AssertionError(f"{thread} was started")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        for host in LITERALS:
            with pytest.raises(StopIteration):  # not even suspended
                loop.getaddrinfo(host, 80).send(None)
        with pytest.raises(StopIteration):
            loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV).send(None)

    @pytest.mark.parametrize("host", [host for host in ODD_HOSTS if isinstance(host, str)])
    def test_anything_that_may_take_time_needs_one(
        self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("a thread was started")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="a thread was started"):
            loop.getaddrinfo(host, 80).send(None)
        with pytest.raises(RuntimeError, match="a thread was started"):
            loop.getaddrinfo("127.0.0.1", "http").send(None)
        with pytest.raises(RuntimeError, match="a thread was started"):
            loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST).send(None)

    def test_a_busy_default_executor_does_not_hold_lookups_up(self, loop: asyncio.AbstractEventLoop) -> None:
        go = threading.Event()

        async def main() -> None:
            busy = [loop.run_in_executor(None, go.wait, 60) for _ in range(64)]
            try:
                assert await loop.getaddrinfo("localhost", "http")
                assert not any(future.done() for future in busy)
            finally:
                go.set()
                await asyncio.gather(*busy)

        loop.run_until_complete(main())

    def test_busy_lookups_do_not_hold_the_default_executor_up(
        self, loop: asyncio.AbstractEventLoop, resolver: Resolver
    ) -> None:
        async def main() -> None:
            lookups: list[asyncio.Task[Any]]
            lookups = [loop.create_task(loop.getaddrinfo(f"host{n}", 80)) for n in range(100)]
            await asyncio.sleep(0)
            assert await loop.run_in_executor(None, int, "7") == 7
            assert not any(task.done() for task in lookups)
            resolver.go.set()
            assert await asyncio.gather(*lookups) == [[f"host{n}"] for n in range(100)]

        loop.run_until_complete(main())
        assert 1 <= len(resolver.threads) <= MAX_LOOKUPS

    def test_lookups_one_after_another_share_a_thread(
        self, loop: asyncio.AbstractEventLoop, resolver: Resolver
    ) -> None:
        resolver.go.set()
        for n in range(10):
            assert asked(loop, f"host{n}", 80, 0, 0, 0, 0) == [f"host{n}"]
        (thread,) = resolver.threads
        assert thread.name.startswith("weft-dns")
        loop.close()
        assert not thread.is_alive()

    def test_a_cancelled_lookup_leaves_nothing_behind(
        self, loop: asyncio.AbstractEventLoop, resolver: Resolver, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            tasks = [loop.create_task(loop.getaddrinfo(f"bad{n}", 80)) for n in range(MAX_LOOKUPS + 4)]
            await asyncio.sleep(0)
            for _ in range(MAX_LOOKUPS):
                assert resolver.entered.acquire(timeout=60)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            resolver.go.set()
            good: list[Any] = await loop.getaddrinfo("good", 80)
            assert good == ["good"]

        loop.run_until_complete(main())
        gc.collect()
        assert not caplog.records
        assert resolver.entered.acquire(blocking=False)
        assert not resolver.entered.acquire(blocking=False), "a lookup began after it was cancelled"

    def test_closing_does_not_wait_for_a_lookup_that_hangs(
        self, loop: asyncio.AbstractEventLoop, resolver: Resolver
    ) -> None:
        lookups = [loop.getaddrinfo(f"host{n}", 80) for n in range(MAX_LOOKUPS + 4)]
        for lookup in lookups:
            lookup.send(None)
        for _ in range(MAX_LOOKUPS):
            assert resolver.entered.acquire(timeout=60)
        loop.close()
        resolver.go.set()
        for thread in resolver.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not resolver.entered.acquire(blocking=False), "a lookup began after the loop was closed"
        for lookup in lookups:
            lookup.close()

    def test_a_lookup_that_hangs_does_not_keep_the_process_from_ending(self) -> None:
        code = """if True:
            import asyncio, socket, threading, weft
            stuck, began = threading.Event(), threading.Event()
            def hang(*args):
                began.set()
                stuck.wait()
            socket.getaddrinfo = hang
            async def main():
                lookup = asyncio.create_task(asyncio.get_running_loop().getaddrinfo("name.invalid", 80))
                await asyncio.sleep(0)
                began.wait()
            with asyncio.Runner(loop_factory=weft.new_event_loop) as runner:
                runner.run(main())
            print("end")
        """
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=50, check=True)
        assert done.stdout == b"end\n"

    def test_no_thread_to_be_had(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                loop.run_until_complete(loop.getaddrinfo("localhost", 80))
        assert loop.run_until_complete(loop.getaddrinfo("localhost", 80))


@pytest.mark.weft_only
class TestResolve:
    """What the other mixins call."""

    def test_literal(self) -> None:
        loop: Any = weft.new_event_loop()
        try:
            with pytest.raises(StopIteration) as stop:
                loop._resolve("127.0.0.1", 80, type=socket.SOCK_STREAM).send(None)
            assert stop.value.value == NAMES("127.0.0.1", 80, type=socket.SOCK_STREAM)
        finally:
            loop.close()

    def test_scope(self) -> None:
        loop: Any = weft.new_event_loop()
        try:
            with pytest.raises(StopIteration) as stop:
                loop._resolve("fe80::1", 80, type=socket.SOCK_DGRAM, flowinfo=5, scopeid=1).send(None)
            assert [info[4] for info in stop.value.value] == [("fe80::1", 80, 5, 1)]
        finally:
            loop.close()

    def test_asks_getaddrinfo_of_the_loop(self) -> None:
        loop: Any = weft.new_event_loop()
        answer: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]

        async def getaddrinfo(host: str, port: int, **options: int) -> list[Any]:
            assert (host, port, options["type"]) == ("name", 80, socket.SOCK_STREAM)
            return answer

        loop.getaddrinfo = getaddrinfo
        try:
            assert loop.run_until_complete(loop._resolve("name", 80, type=socket.SOCK_STREAM)) == answer
            answer = []
            with pytest.raises(OSError, match=r"getaddrinfo\('name'\) returned empty list"):
                loop.run_until_complete(loop._resolve("name", 80, type=socket.SOCK_STREAM))
        finally:
            loop.close()
