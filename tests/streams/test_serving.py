"""Servers of streams: their callbacks, what they raise, and who holds what."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import pytest

from tests.streams.conftest import Kind
from tests.streams.kit import connected, end, reports, serving, until

pytestmark = pytest.mark.time_limit(30)


def needs(kind: Kind, *version: int) -> None:
    """Skip where asyncio does not behave like that yet; ours does on all versions."""
    if not kind.ours and sys.version_info < version:
        pytest.skip(f"asyncio does so from {'.'.join(map(str, version))} on")


class TestCallbacks:
    def test_a_coroutine_function(self, kind: Kind) -> None:
        async def main() -> None:
            async def serve(reader: Any, writer: Any) -> None:
                writer.write(await reader.readline())
                await end(writer)

            async with serving(kind, serve) as port, connected(kind, port) as (reader, writer):
                writer.write(b"hello\n")
                assert await reader.read() == b"hello\n"

        kind.run(main())

    def test_a_plain_function(self, kind: Kind) -> None:
        async def main() -> None:
            ends: list[Any] = []
            async with serving(kind, lambda *given: ends.append(given)) as port, connected(kind, port) as (_, writer):
                await until(lambda: ends)
                reader, other = ends.pop()
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
                await end(other)

        kind.run(main())

    def test_an_error_in_a_coroutine(self, kind: Kind) -> None:
        async def main() -> None:
            found = reports()
            error = LookupError("no such thing")

            async def serve(reader: Any, writer: Any) -> None:
                await reader.readline()
                raise error

            async with serving(kind, serve) as port, connected(kind, port) as (reader, writer):
                writer.write(b"hello\n")
                assert await reader.read() == b""
            (report,) = found
            assert report["message"] == "Unhandled exception in client_connected_cb"
            assert report["exception"] is error
            assert isinstance(report["transport"], asyncio.Transport)

        kind.run(main())

    def test_an_error_in_a_plain_function(self, kind: Kind) -> None:
        needs(kind, 3, 14)
        if not kind.ours and sys.version_info[:3] == (3, 15, 0):
            pytest.skip("3.15.0 came out before it")

        async def main() -> None:
            found = reports()
            error = LookupError("no such thing")

            def serve(reader: Any, writer: Any) -> None:
                raise error

            async with serving(kind, serve) as port, connected(kind, port) as (reader, _):
                assert await reader.read() == b""
            (report,) = found
            assert report["message"] == "Unhandled exception in client_connected_cb"
            assert report["exception"] is error
            error.__traceback__ = None

        kind.run(main())

    def test_a_coroutine_that_is_cancelled_closes_its_connection(self, kind: Kind) -> None:
        needs(kind, 3, 12, 5)

        async def main() -> None:
            found = reports()
            tasks: list[asyncio.Task[Any] | None] = []

            async def serve(reader: Any, writer: Any) -> None:
                tasks.append(asyncio.current_task())
                await reader.readline()

            async with serving(kind, serve) as port, connected(kind, port) as (reader, _):
                await until(lambda: tasks)
                task = tasks.pop()
                assert task is not None
                task.cancel()
                assert await reader.read() == b""
            assert found == []

        kind.run(main())


class TestWhoHoldsWhat:
    def test_the_task_of_a_connection_is_held(self, kind: Kind) -> None:
        async def main() -> None:
            refs: list[weakref.ref[Any]] = []

            async def serve(reader: Any, writer: Any) -> None:
                refs.append(weakref.ref(asyncio.current_task()))
                writer.write(await reader.readline())
                await end(writer)

            async with serving(kind, serve) as port, connected(kind, port) as (reader, writer):
                await until(lambda: refs)
                gc.collect()
                writer.write(b"still there\n")
                assert await reader.read() == b"still there\n"

        kind.run(main())

    def test_a_server_does_not_hold_the_writer_that_its_callback_drops(self, kind: Kind) -> None:
        needs(kind, 3, 13)

        async def main() -> None:
            refs: list[weakref.ref[Any]] = []

            def serve(reader: Any, writer: Any) -> None:
                refs.append(weakref.ref(writer))

            with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
                async with serving(kind, serve) as port, connected(kind, port) as (reader, _):
                    assert await reader.read() == b""
                    gc.collect()
            assert [ref() for ref in refs] == [None]

        kind.run(main())

    def test_nothing_is_left_of_a_connection(self, kind: Kind) -> None:
        async def main() -> None:
            refs: list[weakref.ref[Any]] = []

            async def serve(reader: Any, writer: Any) -> None:
                refs.extend(weakref.ref(thing) for thing in (reader, writer, writer.transport.get_protocol()))
                async for line in reader:
                    writer.write(line)
                    await writer.drain()
                await end(writer)

            async with serving(kind, serve) as port:
                async with connected(kind, port) as (reader, writer):
                    refs.extend(weakref.ref(thing) for thing in (reader, writer, writer.transport.get_protocol()))
                    writer.write(b"hello\n")
                    await reader.readline()
                del reader, writer
                await until(lambda: gc.collect() is not None and not any(ref() for ref in refs))

        kind.run(main())


def test_a_limit_is_each_connection_s(kind: Kind) -> None:
    async def main() -> None:
        failed: list[str] = []

        async def serve(reader: Any, writer: Any) -> None:
            try:
                await reader.readline()
            except ValueError as error:
                failed.append(str(error))
            await end(writer)

        async with serving(kind, serve, limit=10) as port, connected(kind, port, limit=5) as (reader, writer):
            writer.write(b"x" * 11)
            assert await reader.read() == b""
            assert reader._limit == 5
        assert failed == ["Separator is not found, and chunk exceed the limit"]

    kind.run(main())
