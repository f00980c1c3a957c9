"""Readers without a connection: what each read gives of what is there."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from typing import Any

import pytest

from tests.streams.conftest import Kind
from tests.streams.kit import Transport, settle

pytestmark = pytest.mark.time_limit(20)


class TestWhatIsThere:
    def test_read_gives_what_there_is(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"abcdef")
            assert await reader.read(4) == b"abcd"
            assert await reader.read(4) == b"ef"
            assert await reader.read(0) == b""
            reader.feed_data(b"gh")
            reader.feed_data(b"ij")
            assert await reader.read(100) == b"ghij"

        kind.run(main())

    def test_every_piece_is_bytes(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(bytearray(b"one\ntwo\nthree"))
            reader.feed_data([102, 111])
            reader.feed_data(memoryview(b"ur\n--five"))
            reader.feed_eof()
            pieces = [await reader.readline(), await reader.read(2), await reader.readexactly(2)]
            pieces += [await reader.readuntil(b"--"), await reader.read()]
            assert pieces == [b"one\n", b"tw", b"o\n", b"threefour\n--", b"five"]
            assert {type(piece) for piece in pieces} == {bytes}

        kind.run(main())

    def test_what_a_caller_gets_does_not_change(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            fed = bytearray(b"abc")
            reader.feed_data(fed)
            fed[:] = b"xyz"
            first = await reader.read(2)
            reader.feed_data(b"d" * 5000)
            second = await reader.read(1)
            reader.feed_data(b"e" * 5000)
            assert (first, second) == (b"ab", b"c")
            assert await reader.readexactly(10000) == b"d" * 5000 + b"e" * 5000

        kind.run(main())

    def test_little_that_is_left_of_much_holds_little_memory(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            tracemalloc.start()
            try:
                reader.feed_data(bytes(1 << 20))
                await reader.readexactly((1 << 20) - 10)
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held < 200_000
            assert await reader.read(20) == bytes(10)

        kind.run(main())

    def test_nothing_fed_is_nothing(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"")
            task = asyncio.create_task(reader.read(1))
            await settle()
            reader.feed_data(b"")
            await settle()
            assert not task.done()
            reader.feed_data(b"x")
            assert await task == b"x"

        kind.run(main())

    @pytest.mark.parametrize("bad", [5, "text", None, ["x"]])
    def test_what_is_no_data_is_refused(self, kind: Kind, bad: Any) -> None:
        async def main() -> None:
            reader = kind.reader()
            if bad is not None:  # asyncio takes it for nothing
                with pytest.raises(TypeError):
                    reader.feed_data(bad)
            reader.feed_eof()
            assert await reader.read() == b""

        kind.run(main())

    def test_iteration(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"a\nb\n\nc")
            reader.feed_eof()
            assert [line async for line in reader] == [b"a\n", b"b\n", b"\n", b"c"]
            assert reader.at_eof()

        kind.run(main())

    def test_the_end(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"ab")
            assert not reader.at_eof()
            reader.feed_eof()
            assert not reader.at_eof()
            assert await reader.read(1) == b"a"
            assert await reader.read() == b"b"
            assert reader.at_eof()
            assert [await reader.read(), await reader.read(3), await reader.readline()] == [b""] * 3
            with pytest.raises(AssertionError, match="feed_data after feed_eof"):
                reader.feed_data(b"c")

        kind.run(main())


class TestArguments:
    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_is_positive(self, kind: Kind, limit: int) -> None:
        async def main() -> None:
            with pytest.raises(ValueError, match="Limit cannot be <= 0"):
                kind.reader(limit)

        kind.run(main())

    @pytest.mark.parametrize("limit", [2**62, 2**70, float("inf")])
    def test_a_limit_may_be_out_of_reach(self, kind: Kind, limit: int) -> None:
        async def main() -> None:
            reader = kind.reader(limit)
            reader.feed_data(b"x" * 200_000 + b"\n")
            assert len(await reader.readline()) == 200_001

        kind.run(main())

    def test_numbers_out_of_reach(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"abc")
            assert await reader.read(2**62) == b"abc"
            reader.feed_data(b"def")
            reader.feed_eof()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(2**62)
            assert (caught.value.partial, caught.value.expected) == (b"def", 2**62)

        kind.run(main())

    def test_readexactly_wants_no_less_than_nothing(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
                await reader.readexactly(-1)
            assert await reader.readexactly(0) == b""

        kind.run(main())

    @pytest.mark.parametrize("bad", [None, "1", 1.5])
    def test_a_number_is_a_number(self, kind: Kind, bad: Any) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"abc")
            with pytest.raises(TypeError):
                await reader.read(bad)
            with pytest.raises(TypeError):
                await reader.readexactly(bad)
            assert await reader.read(3) == b"abc"

        kind.run(main())

    def test_a_separator_is_there(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"abc")
            with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
                await reader.readuntil(b"")
            for bad in ("b", 5):
                with pytest.raises(TypeError):
                    await reader.readuntil(bad)
            assert await reader.readuntil(bytearray(b"b")) == b"ab"

        kind.run(main())


class TestLines:
    def test_a_line_in_pieces(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            task = asyncio.create_task(reader.readuntil(b"SEP"))
            for piece in (b"ab", b"cS", b"E", b"XSE", b"P", b"rest"):
                await settle()
                assert not task.done()
                reader.feed_data(piece)
                if piece == b"P":
                    break
            assert await task == b"abcSEXSEP"

        kind.run(main())

    def test_a_line_longer_than_the_limit_is_left_by_readuntil(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader(limit=4)
            reader.feed_data(b"12345--6--")
            with pytest.raises(asyncio.LimitOverrunError, match="Separator is found, but chunk is longer") as caught:
                await reader.readuntil(b"--")
            assert caught.value.consumed == 5
            assert await reader.readexactly(7) == b"12345--"
            assert await reader.readuntil(b"--") == b"6--"

        kind.run(main())

    def test_a_line_without_end_is_left_by_readuntil(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader(limit=4)
            reader.feed_data(b"123456")
            with pytest.raises(asyncio.LimitOverrunError, match="Separator is not found, and chunk exceed") as caught:
                await reader.readuntil(b"--")
            assert caught.value.consumed == 5
            assert await reader.readexactly(6) == b"123456"

        kind.run(main())

    def test_a_line_longer_than_the_limit_is_dropped_by_readline(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader(limit=4)
            reader.feed_data(b"12345\n1234\n")
            with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
                await reader.readline()
            assert await reader.readline() == b"1234\n"
            reader.feed_data(b"12345")
            with pytest.raises(ValueError, match="Separator is not found, and chunk exceed the limit"):
                await reader.readline()
            reader.feed_data(b"67\n")
            assert await reader.readline() == b"67\n"

        kind.run(main())

    def test_the_end_before_the_separator(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            reader.feed_data(b"some-")
            reader.feed_eof()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readuntil(b"--")
            assert (caught.value.partial, caught.value.expected) == (b"some-", None)
            assert reader.at_eof()

        kind.run(main())

    def test_the_end_before_all_of_it(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            task = asyncio.create_task(reader.readexactly(5))
            await settle()
            reader.feed_data(b"abc")
            await settle()
            reader.feed_eof()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await task
            assert (caught.value.partial, caught.value.expected) == (b"abc", 5)

        kind.run(main())


class TestSeparators:
    @pytest.fixture(autouse=True)
    def _only_where_there_are_some(self, kind: Kind) -> None:
        if not kind.ours and sys.version_info < (3, 13):
            pytest.skip("asyncio takes several separators from 3.13 on")

    @pytest.mark.parametrize(
        ("data", "separators", "expected"),
        [
            (b"a\r\nb\n", (b"\r\n", b"\n"), b"a\r\n"),
            (b"a\nb\r\n", (b"\r\n", b"\n"), b"a\n"),
            (b"abcd", (b"bcd", b"c"), b"abc"),
            (b"abcd", (b"abc", b"bc", b"c"), b"abc"),
            (b"xaby", (b"ab",), b"xab"),
        ],
    )
    def test_the_shortest_piece(self, kind: Kind, data: bytes, separators: tuple[bytes, ...], expected: bytes) -> None:
        async def main() -> None:
            whole = kind.reader()
            whole.feed_data(data)
            assert await whole.readuntil(separators) == expected
            slow = kind.reader()
            task = asyncio.create_task(slow.readuntil(separators))
            for number in data:
                await settle()
                slow.feed_data(bytes([number]))
            assert (await task)[-1:] in {separator[-1:] for separator in separators}

        kind.run(main())

    def test_the_limit_counts_up_to_the_shortest_separator_that_matched(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader(limit=3)
            reader.feed_data(b"12345")
            with pytest.raises(asyncio.LimitOverrunError) as caught:
                await reader.readuntil((b"345", b"45", b"5"))
            assert caught.value.consumed == 4

        kind.run(main())

    def test_some_are_needed(self, kind: Kind) -> None:
        async def main() -> None:
            reader = kind.reader()
            with pytest.raises(ValueError, match="Separator should contain at least one element"):
                await reader.readuntil(())
            with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
                await reader.readuntil((b"a", b""))

        kind.run(main())


def test_what_it_looks_like(kind: Kind) -> None:
    async def main() -> None:
        reader = kind.reader()
        assert isinstance(reader, asyncio.StreamReader)
        assert repr(reader) == "<StreamReader>"
        reader.feed_data(b"abc")
        reader.feed_eof()
        reader.set_exception(ValueError("x"))
        assert repr(reader) == "<StreamReader 3 bytes eof exception=ValueError('x')>"
        assert repr(kind.reader(limit=5)) == "<StreamReader limit=5>"
        transport = Transport()
        other = kind.reader(limit=1)
        other.set_transport(transport)
        other.feed_data(b"abc")
        assert repr(other) == f"<StreamReader 3 bytes limit=1 transport={transport!r} paused>"
        task = asyncio.create_task(kind.reader().read(1))
        await settle()
        task.cancel()

    kind.run(main())


def test_who_never_awaits_is_told(kind: Kind) -> None:
    async def main() -> None:
        reader = kind.reader()
        with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamReader\.read' was never awaited"):
            reader.read(5)

    kind.run(main())
