"""Readers without a connection: what each read waits for, and how that ends; when the transport is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.streams.conftest import Kind
from tests.streams.kit import Transport, settle

pytestmark = pytest.mark.time_limit(20)

READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "read": lambda reader: reader.read(10),
    "read to the end": lambda reader: reader.read(),
    "readexactly": lambda reader: reader.readexactly(10),
    "readuntil": lambda reader: reader.readuntil(b"--"),
    "readline": lambda reader: reader.readline(),
    "anext": lambda reader: reader.__anext__(),
}


@pytest.fixture(params=list(READS))
def read(request: pytest.FixtureRequest) -> Callable[[Any], Awaitable[Any]]:
    """One way to read."""
    return READS[request.param]


class Unstoppable(asyncio.Transport):
    """Cannot be told to stop."""

    asked = 0

    def pause_reading(self) -> None:
        self.asked += 1
        raise NotImplementedError


class TestWaiting:
    def test_two_readers_at_once(self, kind: Kind, read: Callable[[Any], Awaitable[Any]]) -> None:
        async def main() -> None:
            reader = kind.reader()
            first = asyncio.ensure_future(reader.readexactly(3))
            await settle()
            with pytest.raises(RuntimeError, match=r"^(read|readexactly|readuntil)\(\) called while another coroutine"):
                await read(reader)
            reader.feed_data(b"abc")
            assert await first == b"abc"

        kind.run(main())

    def test_cancelling_takes_no_byte(self, kind: Kind, read: Callable[[Any], Awaitable[Any]]) -> None:
        async def main() -> None:
            reader = kind.reader()
            task = asyncio.ensure_future(read(reader))
            await settle()
            task.cancel()
            await settle()
            assert task.cancelled()
            reader.feed_data(b"all of it\n")
            reader.feed_eof()
            assert await reader.read() == b"all of it\n"

        kind.run(main())

    def test_cancelling_after_the_bytes_have_come_takes_none(
        self, kind: Kind, read: Callable[[Any], Awaitable[Any]]
    ) -> None:
        async def main() -> None:
            reader = kind.reader()
            task = asyncio.ensure_future(read(reader))
            await settle()
            reader.feed_data(b"all of--it\n")
            task.cancel()
            await settle()
            assert task.cancelled()
            reader.feed_eof()
            assert await reader.read() == b"all of--it\n"

        kind.run(main())

    def test_cancelling_between_pieces_takes_none(self, kind: Kind, read: Callable[[Any], Awaitable[Any]]) -> None:
        if not kind.ours and read is READS["read to the end"]:
            pytest.skip("asyncio loses what it has collected for read(-1)")

        async def main() -> None:
            reader = kind.reader()
            task = asyncio.ensure_future(read(reader))
            await settle()
            reader.feed_data(b"some")
            await settle()
            task.cancel()
            await settle()
            got = b"" if task.cancelled() else task.result()
            reader.feed_data(b"more")
            reader.feed_eof()
            assert got + await reader.read() == b"somemore"

        kind.run(main())

    def test_an_error_reaches_who_waits_and_who_comes_later(
        self, kind: Kind, read: Callable[[Any], Awaitable[Any]]
    ) -> None:
        async def main() -> None:
            reader = kind.reader()
            task = asyncio.ensure_future(read(reader))
            await settle()
            error = ConnectionResetError("gone")
            reader.set_exception(error)
            with pytest.raises(ConnectionResetError, match="gone"):
                await task
            assert reader.exception() is error
            with pytest.raises(ConnectionResetError, match="gone"):
                await read(reader)

        kind.run(main())

    def test_the_end_reaches_who_waits(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            task = asyncio.create_task(reader.read(5))
            await settle()
            reader.feed_eof()
            assert await task == b""
            with pytest.raises(StopAsyncIteration):
                await reader.__anext__()

        kind.run(main())

    def test_time_limits(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await reader.readline()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readexactly(3), 0)
            reader.feed_data(b"abc\n")
            assert await asyncio.wait_for(reader.readline(), 60) == b"abc\n"

        kind.run(main())


class TestStoppingTheTransport:
    def test_it_stops_at_twice_the_limit_and_goes_on_at_the_limit(self, kind: Kind) -> None:
        async def main() -> None:
            reader, transport = kind.reader(limit=4), Transport()
            reader.set_transport(transport)
            reader.feed_data(b"12345678")
            assert transport.calls == []
            reader.feed_data(b"9")
            reader.feed_data(b"0")
            assert transport.calls == ["pause"]
            await reader.read(5)
            assert transport.calls == ["pause"]
            await reader.read(1)
            assert transport.calls == ["pause", "resume"]
            reader.feed_data(b"x" * 5)
            assert transport.calls == ["pause", "resume", "pause"]

        kind.run(main())

    def test_who_waits_for_more_lets_it_go_on(self, kind: Kind) -> None:
        async def main() -> None:
            reader, transport = kind.reader(limit=4), Transport()
            reader.set_transport(transport)
            reader.feed_data(b"123456789")
            task = asyncio.create_task(reader.readexactly(20))
            await settle()
            assert transport.calls == ["pause", "resume"]
            reader.feed_data(b"x" * 11)
            assert len(await task) == 20
            assert transport.calls.count("pause") == transport.calls.count("resume")

        kind.run(main())

    def test_one_that_cannot_be_stopped_is_asked_once(self, kind: Kind) -> None:
        async def main() -> None:
            reader, transport = kind.reader(limit=4), Unstoppable()
            reader.set_transport(transport)
            reader.feed_data(b"x" * 9)
            reader.feed_data(b"x" * 9)
            assert transport.asked == 1
            assert await reader.readexactly(18) == b"x" * 18

        kind.run(main())

    def test_it_is_set_once(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.set_transport(Transport())
            with pytest.raises(AssertionError, match="Transport already set"):
                reader.set_transport(Transport())

        kind.run(main())
