"""Writing to a stream transport: everything leaves, whole and in order, however it was handed over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.core.kit import turns
from tests.core.streams import NOISE, connected, received


class TestWrite:
    @given(
        plan=st.lists(
            st.one_of(
                st.tuples(st.just("write"), st.sampled_from((0, 1, 10, 1000, 5000, 66_000, 200_000))),
                st.tuples(st.just("writelines"), st.integers(0, 100)),
                st.tuples(st.just("turn"), st.integers(1, 3)),
                st.tuples(st.just("read"), st.sampled_from((1, 100, 5000, 300_000))),
                st.tuples(st.just("limits"), st.sampled_from((0, 1, 5000, 100_000))),
            ),
            max_size=25,
        )
    )
    @pytest.mark.weft_only
    def test_any_mix_arrives_whole(self, plan: list[tuple[str, int]]) -> None:
        loop = weft.new_event_loop()
        try:
            self.write_and_read(loop, plan)
        finally:
            loop.close()

    def test_a_mix(self, loop: asyncio.AbstractEventLoop) -> None:
        self.write_and_read(
            loop, [("write", 5000), ("turn", 1), ("writelines", 70), ("write", 200_000), ("read", 5000)]
        )

    def write_and_read(self, loop: asyncio.AbstractEventLoop, plan: list[tuple[str, int]]) -> None:
        got = bytearray()
        with connected(loop, buffers=4096) as (transport, protocol, peer):
            written = 0
            for how, number in plan:
                if how == "write":
                    transport.write(bytes(NOISE[written : written + number]))
                    written += len(NOISE[written : written + number])
                elif how == "writelines":
                    parts = [NOISE[written + 7 * place : written + 7 * place + 7] for place in range(number)]
                    transport.writelines(parts)
                    written += sum(map(len, parts))
                elif how == "turn":
                    turns(loop, number)
                elif how == "limits":
                    transport.set_write_buffer_limits(number)
                else:
                    with contextlib.suppress(BlockingIOError):
                        got += peer.recv(number)
            got += received(loop, peer, written - len(got)) if written > len(got) else b""
            turns(loop, 3)
            assert transport.get_write_buffer_size() == 0
            assert got == NOISE[:written]
            flow = [event for event in protocol.events if event[0] in ("pause", "resume")]
            assert flow == [("pause",), ("resume",)] * (len(flow) // 2)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
    def test_bytes_like(self, loop: asyncio.AbstractEventLoop, kind: Any) -> None:
        with connected(loop) as (transport, _, peer):
            transport.write(kind(b"one "))
            transport.writelines([kind(b"two "), b"", kind(b"three")])
            assert received(loop, peer, 13) == b"one two three"

    @pytest.mark.weft_only
    def test_what_is_changed_after_write_is_sent_as_it_was(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, buffers=4096) as (transport, _, peer):
            data = bytearray(NOISE[:100_000])
            transport.write(data)
            data[:] = bytes(len(data))
            small = bytearray(b"small")
            transport.write(small)
            small[:] = b"large"
            assert received(loop, peer, 100_005) == NOISE[:100_000] + b"small"

    @pytest.mark.parametrize("thing", ["text", 1, None, [b"list"]])
    def test_anything_else_is_refused(self, loop: asyncio.AbstractEventLoop, thing: Any) -> None:
        with connected(loop) as (transport, _, peer):
            with pytest.raises(TypeError):
                transport.write(thing)
            transport.write(b"after")
            assert received(loop, peer, 5) == b"after"

    @pytest.mark.weft_only  # asyncio passes over what is false, and from 3.15 on it queues the rest of the list first
    @pytest.mark.parametrize("thing", ["text", 1, None, [b"list"]])
    def test_anything_else_in_a_list_is_refused(self, loop: asyncio.AbstractEventLoop, thing: Any) -> None:
        with connected(loop) as (transport, _, peer):
            with pytest.raises(TypeError):
                transport.writelines([b"fine", thing])
            transport.write(b"after")
            assert received(loop, peer, 5) in (b"after", b"finea")

    def test_outside_of_the_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """A loop that does not run has no end of a turn, so the bytes leave at once, as in asyncio."""
        with connected(loop) as (transport, _, peer):
            transport.write(b"now")
            assert peer.recv(10) == b"now"

    @pytest.mark.weft_only
    def test_what_one_turn_writes_leaves_together(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, _, peer):
            seen: list[bytes] = []

            def write() -> None:
                for _ in range(200):
                    transport.write(b"x")
                with pytest.raises(BlockingIOError):
                    peer.recv(1)

            loop.call_soon(write)
            turns(loop)
            seen.append(peer.recv(1000))
            assert seen == [b"x" * 200]
