"""Any cuts of any data, read in any way: weft's reader gives and raises what asyncio's does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.conftest import LOOPS
from tests.streams.conftest import KINDS
from tests.streams.kit import settle

# Few different bytes, so that separators come about; sizes around the limit.
data = st.text(alphabet="ab\n", max_size=12).map(str.encode)
separators = st.sampled_from([b"\n", b"a", b"ab", b"ba\n", b"aab"])
several = st.lists(separators, min_size=1, max_size=3).map(tuple)

feeds = st.tuples(st.just("feed"), data)
reads = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 12)),
    st.tuples(st.just("readexactly"), st.integers(0, 30)),
    st.tuples(st.just("readuntil"), st.one_of(separators, several) if sys.version_info >= (3, 13) else separators),
    st.tuples(st.just("readline")),
    st.tuples(st.just("__anext__")),
)
others = st.sampled_from([("eof",), ("cancel",), ("end",)])
programs = st.lists(st.one_of(feeds, feeds, reads, reads, others), max_size=40)


class Transport(asyncio.Transport):
    """Knows whether it was told to stop."""

    stopped = False

    def pause_reading(self) -> None:
        assert not self.stopped
        self.stopped = True

    def resume_reading(self) -> None:
        assert self.stopped
        self.stopped = False


def result_of(task: asyncio.Future[Any]) -> Any:
    """What became of a read."""
    if task.cancelled():
        return "cancelled"
    if (error := task.exception()) is not None:
        return type(error), str(error), getattr(error, "partial", None), getattr(error, "consumed", None)
    assert type(task.result()) is bytes
    return task.result()


async def at_once(reading: Any) -> Any:
    """What becomes of a read that is given no time to wait."""
    task = asyncio.ensure_future(reading)
    await settle()
    if not task.done():
        task.cancel()
        await settle()
    return result_of(task)


async def follow(reader: Any, program: list[tuple[Any, ...]]) -> list[Any]:
    """Do what the program says; what became of each read, and what was left."""
    transport = Transport()
    reader.set_transport(transport)
    results: list[Any] = []
    waiting: asyncio.Future[Any] | None = None
    for step, *arguments in program:
        if step == "feed" and not reader._eof:
            reader.feed_data(*arguments)
        elif step == "eof":
            reader.feed_eof()
        elif step == "cancel" and waiting is not None:
            waiting.cancel()
        elif hasattr(reader, step) and waiting is None:
            waiting = asyncio.ensure_future(getattr(reader, step)(*arguments))
        elif hasattr(reader, step) and not reader._buffer:
            # A second one while the first waits. Where it gets something, asyncio's `readuntil` is lost: it goes on as
            # if what it has looked at were still there.
            results.append(await at_once(getattr(reader, step)(*arguments)))
        await settle()
        if waiting is not None and waiting.done():
            results.append(result_of(waiting))
            waiting = None
        # Whether it is stopped is compared where nobody waits: ours does not stop it for who waits for more.
        if waiting is None:
            results.append((reader.at_eof(), bytes(reader._buffer), transport.stopped and not reader._eof))
    if waiting is not None:
        waiting.cancel()
        await settle()
    reader.feed_eof()
    return [*results, await reader.read()]


def outcome(make: Callable[..., Any], loop: str, limit: int, program: list[tuple[Any, ...]]) -> list[Any]:
    """What a program leads to with one reader."""

    async def main() -> list[Any]:
        return await follow(make(limit=limit, loop=asyncio.get_running_loop()), program)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main())


@settings(max_examples=300)
@given(st.integers(1, 12), programs)
def test_any_program_leads_to_the_same(limit: int, program: list[tuple[Any, ...]]) -> None:
    stock = outcome(asyncio.StreamReader, "asyncio", limit, program)
    assert outcome(weft.StreamReader, "weft", limit, program) == stock


@settings(max_examples=100)
@given(st.binary(max_size=2000), st.lists(st.integers(1, 300), max_size=30), st.lists(st.integers(1, 400), max_size=30))
def test_any_cuts_come_out_whole(whole: bytes, cuts: list[int], sizes: list[int]) -> None:
    async def main() -> bytes:
        reader = KINDS["weft"].reader(limit=50)
        rest = whole
        got = bytearray()
        for cut in cuts:
            reader.feed_data(rest[:cut])
            rest = rest[cut:]
            if sizes and len(reader._buffer) >= sizes[0]:
                got += await reader.readexactly(sizes.pop(0))
        reader.feed_data(rest)
        reader.feed_eof()
        return bytes(got + await reader.read())

    assert KINDS["weft"].run(main()) == whole
