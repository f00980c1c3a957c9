"""The short way into asyncio's own streams: taken exactly where nobody could tell the difference."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import weft
from tests.streams.kit import RESET, end, shut, until

pytestmark = pytest.mark.time_limit(30)

DATA = bytes(range(256)) * 40


def frames_of(main: Callable[[], Any]) -> set[str]:
    """The names of the functions of asyncio's streams that are called while *main* runs on weft's loop."""
    called: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.endswith("streams.py"):
            called.add(frame.f_code.co_name)

    async def noting() -> None:
        sys.setprofile(note)
        try:
            await main()
        finally:
            sys.setprofile(None)

    weft.run(noting())
    return called


class OwnProtocol(asyncio.StreamReaderProtocol):
    """Sees what comes."""

    seen = b""

    def data_received(self, data: bytes) -> None:
        self.seen += data
        super().data_received(data)


class OwnReader(asyncio.StreamReader):
    """Sees what comes."""

    seen = b""

    def feed_data(self, data: Any) -> None:
        self.seen += bytes(data)
        super().feed_data(data)


class Opened:
    """A connection whose far end is a plain socket."""

    def __init__(self, reader: Any = None, protocol: Any = None) -> None:
        loop = asyncio.get_running_loop()
        self.ours, self.peer = socket.socketpair()
        self.reader: Any = reader or asyncio.StreamReader(limit=1000, loop=loop)
        self.protocol = (protocol or asyncio.StreamReaderProtocol)(self.reader, loop=loop)

    async def __aenter__(self) -> Opened:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self.protocol, sock=self.ours)
        self.writer = asyncio.StreamWriter(transport, self.protocol, self.reader, loop)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.peer.close()
        await end(self.writer)


def test_it_is_taken() -> None:
    async def main() -> None:
        async with Opened() as opened:
            opened.peer.send(DATA)
            assert await opened.reader.readexactly(len(DATA)) == DATA
            opened.peer.send(b"a line\n")
            assert await opened.reader.readline() == b"a line\n"

    called = frames_of(main)
    assert "readexactly" in called
    assert not called & {"data_received", "feed_data"}


@pytest.mark.parametrize("which", ["protocol", "reader"])
def test_a_class_that_is_derived_sees_everything(which: str) -> None:
    async def main() -> None:
        reader: Any = OwnReader(limit=1000, loop=asyncio.get_running_loop()) if which == "reader" else None
        async with Opened(reader, OwnProtocol if which == "protocol" else None) as opened:
            opened.peer.send(DATA)
            assert await opened.reader.readexactly(len(DATA)) == DATA
            assert getattr(opened, which).seen == DATA

    weft.run(main())


@pytest.mark.parametrize("where", ["protocol", "reader", "protocol class", "reader class", "waking"])
def test_a_method_that_is_replaced_is_called(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        calls: list[str] = []

        def noting(function: Any) -> Any:
            def call(*arguments: Any) -> Any:
                calls.append(function.__name__)
                return function(*arguments)

            return call

        opened = Opened()
        if where == "protocol":
            monkeypatch.setattr(opened.protocol, "data_received", noting(opened.protocol.data_received))
        elif where == "reader":
            monkeypatch.setattr(opened.reader, "feed_data", noting(opened.reader.feed_data))
        elif where == "protocol class":
            cls = asyncio.StreamReaderProtocol
            monkeypatch.setattr(cls, "data_received", noting(cls.data_received))
        elif where == "reader class":
            monkeypatch.setattr(asyncio.StreamReader, "feed_data", noting(asyncio.StreamReader.feed_data))
        else:
            waking = asyncio.StreamReader._wakeup_waiter  # type: ignore[attr-defined]
            monkeypatch.setattr(asyncio.StreamReader, "_wakeup_waiter", noting(waking))
        async with opened:
            task = asyncio.create_task(opened.reader.read(100))
            await asyncio.sleep(0)
            opened.peer.send(b"abc")
            assert await task == b"abc"
        assert calls != []

    weft.run(main())


def test_the_reader_is_stopped_at_twice_its_limit() -> None:
    async def main() -> None:
        async with Opened() as opened:
            transport: Any = opened.writer.transport
            opened.peer.send(DATA[:2000])
            await until(lambda: opened.reader._buffer)
            assert transport.is_reading()
            opened.peer.send(DATA[2000:2001])
            await until(lambda: not transport.is_reading())
            assert opened.reader._paused
            assert await opened.reader.readexactly(1001) == DATA[:1001]
            assert transport.is_reading()

    weft.run(main())


def test_a_reader_that_is_dropped_gets_nothing() -> None:
    async def main() -> None:
        opened = Opened()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: opened.protocol, sock=opened.ours)
        del opened.reader
        opened.peer.send(b"abc")
        await until(lambda: not opened.peer.send(b"") and transport.is_reading())
        await asyncio.sleep(0)
        assert not transport.is_closing()
        opened.peer.close()
        transport.close()
        await asyncio.sleep(0)

    weft.run(main())


def test_a_buffer_that_is_looked_at_fails_as_asyncio_s_does() -> None:
    async def main() -> None:
        found: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
        async with Opened() as opened:
            opened.peer.send(b"abc")
            await until(lambda: opened.reader._buffer)
            with memoryview(opened.reader._buffer):
                opened.peer.send(b"def")
                await until(lambda: found)
            assert isinstance(found[0]["exception"], BufferError)
            assert found[0]["message"] == "Fatal error: protocol.data_received() call failed."
            await until(opened.reader.exception)
            assert isinstance(opened.reader.exception(), BufferError)

    weft.run(main())


def test_the_end_and_a_reset() -> None:
    async def main() -> None:
        async with Opened() as opened:
            opened.peer.send(b"abc")
            opened.peer.shutdown(socket.SHUT_WR)
            assert await opened.reader.read() == b"abc"
        server = await asyncio.start_server(lambda *ends: accepted.append(ends), "127.0.0.1", 0)
        accepted: list[Any] = []
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            await until(lambda: accepted)
            reader, writer = accepted.pop()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.send(b"abc")
            await until(lambda: reader._buffer)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(10)
        await end(writer)
        await shut(server)

    weft.run(main())
