"""Frames, however they are cut; the pace; the board."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.parallel.board import Board
from weft.parallel.pace import MOST, Pace
from weft.parallel.wire import Frame, Kind, Wire


class Buffer(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def writelines(self, list_of_data: Any) -> None:
        self.data += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return False


frames = st.lists(
    st.builds(
        Frame,
        st.sampled_from(Kind),
        st.floats(0, 1e6),
        st.lists(st.integers(0, 2**62), max_size=5),
        st.binary(max_size=200),
    ),
    max_size=8,
)


class TestWire:
    @given(frames=frames, sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20))
    def test_what_is_sent_arrives(self, frames: list[Frame], sizes: list[int]) -> None:
        buffer = Buffer()
        got: list[Frame] = []
        sender = Wire(got.append, lambda: None, lambda: None)
        sender.connection_made(buffer)
        for frame in frames:
            sender.send(frame.kind, frame.payload, frame.indices, frame.seconds)
        receiver = Wire(got.append, lambda: None, lambda: None)
        position, turn = 0, 0
        while position < len(buffer.data):
            size = sizes[turn % len(sizes)]
            receiver.data_received(buffer.data[position : position + size])
            position, turn = position + size, turn + 1
        assert got == frames

    def test_the_end_is_told(self) -> None:
        told: list[str] = []
        wire = Wire(lambda frame: None, lambda: told.append("end"), lambda: told.append("writable"))
        wire.connection_made(Buffer())
        wire.pause_writing()
        assert wire.paused
        wire.resume_writing()
        assert not wire.paused
        wire.connection_lost(None)
        wire.send(Kind.JOBS, b"lost")
        assert told == ["writable", "end"]


class TestPace:
    def test_short_items_are_sent_by_the_thousand_after_a_while(self) -> None:
        pace, sizes = Pace(ahead=0.02), []
        for _ in range(20):
            pace.report(100, 100 * 1e-6)
            sizes.append(pace.items)
        assert sizes[:4] == [1, 3, 7, 15]
        assert sizes[-1] == MOST

    @pytest.mark.parametrize(("seconds", "items"), [(1.0, 0), (0.019, 1), (0.001, 20)])
    def test_long_ones_one_by_one(self, seconds: float, items: int) -> None:
        pace = Pace(ahead=0.02)
        for _ in range(20):
            pace.report(1, seconds)
        assert pace.items == pytest.approx(items, abs=1)

    def test_large_ones_are_few(self) -> None:
        pace = Pace(ahead=0.02)
        for _ in range(20):
            pace.weigh(10, 10 << 20)
            pace.report(10, 10 * 1e-6)
        assert pace.items == 4

    def test_it_slows_down_at_once(self) -> None:
        pace = Pace(ahead=0.02)
        for _ in range(20):
            pace.report(1000, 0.001)
        for _ in range(30):
            pace.report(1, 1.0)
        assert pace.items == 0


def test_the_board_is_shared() -> None:
    board, fd = Board.new(3)
    other = Board(fd)
    os.close(fd)
    assert board.started() == set()
    other.places[1] = 17
    other.places[2] = 0
    assert board.started() == {17, 0}
    board.close()
    other.close()
