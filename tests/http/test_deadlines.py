"""The one timer of a client's time limits, by a clock that the test turns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.wirekit import URL, FakeRequest, ManualLoop
from weft.http._wire.deadlines import Deadlines
from weft.http._wire.incoming import Incoming
from weft.http.errors import FirstByteTimeoutError, HTTPTimeoutError, IdleTimeoutError, TotalTimeoutError
from weft.http.headers import Headers
from weft.http.settings import Timeout

INFINITY = float("inf")


def as_loop(loop: Any) -> asyncio.AbstractEventLoop:
    """To the type checker: as much of a loop as is needed is there."""
    return loop  # type: ignore[no-any-return]


class Source:
    """A connection, as far as a reader asks something of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def abandon(self) -> None:
        self.calls.append("abandon")


class Clock:
    """A loop whose time the test turns, and the deadlines of one client on it."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.start = self.loop.now
        self.deadlines = Deadlines(as_loop(self.loop))

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return float(self.loop.now - self.start)

    def begin(
        self, *, total: float | None = None, first_byte: float | None = None, idle: float | None = None
    ) -> Incoming:
        timeout = Timeout(total=total, connect=None, pool=None, first_byte=first_byte, idle=idle)
        due = INFINITY if total is None else self.loop.now + total
        incoming = Incoming(FakeRequest("GET", URL, timeout), as_loop(self.loop), self.deadlines, due)
        incoming.source = Source()
        return incoming

    def answer(self, incoming: Incoming) -> None:
        incoming.answer(200, Headers())
        incoming.streams()

    def until_end(self, incoming: Incoming, most: float = 1000) -> float:
        """When ``incoming`` ended, in seconds since the beginning, to a tenth."""
        while not incoming.is_ended and self.now < most:
            self.loop.advance(0.1)
        assert incoming.is_ended, f"it had no end in {most} s"
        return round(self.now, 1)


class TestEachLimit:
    def test_total(self) -> None:
        clock = Clock()
        incoming = clock.begin(total=5)
        assert clock.until_end(incoming) == pytest.approx(5, abs=0.15)
        assert type(incoming.error) is TotalTimeoutError and URL in str(incoming.error)

    def test_total_with_a_body_that_comes(self) -> None:
        clock = Clock()
        incoming = clock.begin(total=5, first_byte=2, idle=2)
        clock.answer(incoming)
        while clock.now < 4.9:
            incoming.feed(b"x")
            clock.loop.advance(0.5)
        assert clock.until_end(incoming) == pytest.approx(5, abs=0.15)
        assert type(incoming.error) is TotalTimeoutError

    def test_first_byte(self) -> None:
        clock = Clock()
        incoming = clock.begin(total=50, first_byte=5, idle=1)
        assert clock.until_end(incoming) == pytest.approx(5, abs=0.15)
        assert type(incoming.error) is FirstByteTimeoutError

    def test_first_byte_is_over_with_the_head(self) -> None:
        clock = Clock()
        incoming = clock.begin(first_byte=5)
        clock.loop.advance(4)
        clock.answer(incoming)
        clock.loop.advance(1000)
        assert not incoming.is_ended

    def test_idle(self) -> None:
        """Between the limit and a quarter more."""
        clock = Clock()
        incoming = clock.begin(first_byte=50, idle=8)
        clock.loop.advance(40)
        clock.answer(incoming)
        assert 48 <= clock.until_end(incoming) <= 50.1
        assert type(incoming.error) is IdleTimeoutError

    @given(pauses=st.lists(st.floats(0.1, 7.9), max_size=20))
    def test_idle_counts_from_the_last_byte(self, pauses: list[float]) -> None:
        clock = Clock()
        incoming = clock.begin(idle=8)
        clock.answer(incoming)
        for pause in pauses:
            clock.loop.advance(pause)
            assert not incoming.is_ended
            incoming.feed(b"x")
        last = clock.now
        assert 8 <= clock.until_end(incoming, last + 20) - last + 0.1 <= 10.3

    def test_none_is_none(self) -> None:
        clock = Clock()
        incoming = clock.begin()
        assert clock.loop.due() == []
        clock.answer(incoming)
        assert clock.loop.due() == []

    @pytest.mark.parametrize("total", [3, 30])
    def test_the_nearest_counts(self, total: float) -> None:
        clock = Clock()
        incoming = clock.begin(total=total, first_byte=10)
        assert clock.until_end(incoming) == pytest.approx(min(total, 10), abs=0.15)
        assert type(incoming.error) is (TotalTimeoutError if total == 3 else FirstByteTimeoutError)


class TestReader:
    def test_slow_reader_is_not_the_peers_fault(self) -> None:
        clock = Clock()
        incoming = clock.begin(total=500, idle=8)
        source = incoming.source
        clock.answer(incoming)
        incoming.feed(b"x" * 600_000)
        assert source.calls == ["pause"]
        clock.loop.advance(300)
        assert not incoming.is_ended
        incoming.take()
        assert source.calls == ["pause", "resume"]
        resumed = clock.now
        assert 8 <= clock.until_end(incoming) - resumed + 0.1 <= 10.3
        assert type(incoming.error) is IdleTimeoutError

    def test_slow_reader_and_the_total(self) -> None:
        clock = Clock()
        incoming = clock.begin(total=50, idle=8)
        clock.answer(incoming)
        incoming.feed(b"x" * 600_000)
        assert clock.until_end(incoming) == pytest.approx(50, abs=0.15)
        assert type(incoming.error) is TotalTimeoutError

    def test_what_came_before_can_be_read(self) -> None:
        clock = Clock()
        incoming = clock.begin(idle=8)
        clock.answer(incoming)
        incoming.feed(b"half")
        clock.loop.advance(20)
        assert incoming.take() == b"half"
        with pytest.raises(IdleTimeoutError):
            incoming.take()

    def test_the_connection_is_told(self) -> None:
        clock = Clock()
        incoming = clock.begin(first_byte=5)
        source = incoming.source
        waiter = incoming.changed()
        clock.loop.advance(6)
        assert source.calls == ["abandon"] and incoming.source is None and waiter.done()


class TestOneTimer:
    def test_ended_exchanges_cost_nothing(self) -> None:
        clock = Clock()
        for _ in range(100):
            incoming = clock.begin(total=300, first_byte=60)
            clock.answer(incoming)
            incoming.finish()
        assert len(clock.deadlines) == 0 and len(clock.loop.due()) == 1
        clock.loop.advance(1000)
        assert clock.loop.due() == []

    def test_nearer_one_comes_later(self) -> None:
        clock = Clock()
        far, near = clock.begin(total=100), clock.begin(total=5)
        assert len(clock.loop.due()) == 1
        assert clock.until_end(near) == pytest.approx(5, abs=0.15)
        assert not far.is_ended
        assert clock.until_end(far) == pytest.approx(100, abs=0.15)

    @pytest.mark.parametrize("end", ["finish", "fail", "release"])
    def test_left_by_every_end(self, end: str) -> None:
        clock = Clock()
        incoming = clock.begin(total=5)
        if end == "fail":
            incoming.fail(OSError())
        else:
            getattr(incoming, end)()
        assert len(clock.deadlines) == 0
        clock.loop.advance(10)
        assert not isinstance(incoming.error, HTTPTimeoutError)

    def test_begun_while_others_expire(self) -> None:
        """Who is told that his time is over may ask again at once."""
        clock = Clock()
        again: list[Incoming] = []
        for _ in range(3):
            incoming = clock.begin(total=5)
            incoming.observer = lambda name: again.append(clock.begin(total=7))
        clock.loop.advance(6)
        assert len(again) == 3 and len(clock.loop.due()) == 1
        clock.loop.advance(6.5)
        assert all(type(one.error) is TotalTimeoutError for one in again)

    def test_close(self) -> None:
        clock = Clock()
        incoming = clock.begin(total=5)
        clock.deadlines.close()
        assert clock.loop.due() == [] and len(clock.deadlines) == 0
        clock.loop.advance(10)
        assert not incoming.is_ended
        later = clock.begin(total=5)
        assert clock.until_end(later, clock.now + 10)

    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from(["begin", "answer", "feed", "finish", "wait"]),
                st.integers(0, 20),
                st.floats(0.5, 30),
            ),
            max_size=40,
        )
    )
    def test_nobody_is_forgotten_and_nobody_ends_early(self, steps: list[tuple[str, int, float]]) -> None:
        clock = Clock()
        # Each with its limits, and when it last moved.
        under_way: list[tuple[Incoming, float, float]] = []
        for what, number, seconds in steps:
            if what == "begin":
                under_way.append((clock.begin(total=seconds * 3, first_byte=seconds, idle=seconds), seconds, clock.now))
            elif what == "wait":
                clock.loop.advance(seconds)
            elif under_way:
                incoming, limit, moved = under_way[number % len(under_way)]
                if incoming.is_ended or incoming.was_answered == (what == "answer"):
                    continue  # one head for each, and no byte before it
                if what == "answer":
                    clock.answer(incoming)
                elif what == "feed":
                    incoming.feed(b"x")
                else:
                    incoming.finish()
                under_way[number % len(under_way)] = (incoming, limit, clock.now)
            for incoming, limit, moved in under_way:
                if not incoming.is_ended:
                    assert clock.now - moved <= limit * 1.25 + 0.01, "past its limit, and nobody said so"
                elif isinstance(incoming.error, FirstByteTimeoutError | IdleTimeoutError):
                    assert clock.now - moved >= limit - 0.01, "it had time left"
