"""Windows of HTTP/2, both ways: bodies that wait for the server, and servers that wait for a reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RequestReceived,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.h2_kit import FakeBody, Pair, ended, frame, sent_on, whole
from weft.http import h2_framing
from weft.http.errors import BodyError, PeerProtocolError

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]

STREAM = h2_framing.STREAM_WINDOW
CONNECTION = h2_framing.CONNECTION_WINDOW


class TestUploads:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_waits_for_the_window(self, run: Run, chunked: bool) -> None:
        content = bytes(range(256)) * 1000

        async def main() -> None:
            pair = Pair()
            body = FakeBody(None, None, [content[at : at + 999] for at in range(0, len(content), 999)])
            exchange = pair.get("POST", body=body if chunked else whole(content))
            for window in (65_535, 100_000, 156_000, 256_000):
                await pair.turn()
                assert len(sent_on(pair, 1)) == window
                assert (1 in ended(pair)) is (window == len(content))
                for stream in (None, 1):
                    if window < len(content):
                        following = {65_535: 34_465, 100_000: 56_000, 156_000: 1_000_000}[window]
                        pair.server.increment_flow_control_window(following, stream)
            assert sent_on(pair, 1) == content
            pair.answer(1, end_stream=True)
            await pair.turn()
            assert exchange.is_complete
            await pair.end()

        run(main())

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_windows_of_any_size(self, run: Run, data: st.DataObject) -> None:
        sizes = data.draw(st.lists(st.integers(0, 40_000), min_size=1, max_size=4))
        whole_ones = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))

        async def main() -> None:
            pair = Pair({SettingCodes.INITIAL_WINDOW_SIZE: data.draw(st.integers(0, 30_000))})
            await pair.turn()
            contents = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
            for content, is_whole in zip(contents, whole_ones, strict=False):
                pieces = [content[at : at + 7000] for at in range(0, len(content), 7000)]
                pair.get("PUT", body=whole(content) if is_whole else FakeBody(None, None, pieces))
            await pair.turn()
            for turn in range(300):
                missing = [2 * n + 1 for n in range(len(sizes)) if 2 * n + 1 not in ended(pair)]
                if not missing:
                    break
                if turn < 5 and data.draw(st.booleans()):
                    pair.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: data.draw(st.integers(0, 60_000))})
                some = st.integers(1, 20_000)
                step = data.draw(some) if turn < 5 else 10_000
                pair.server.increment_flow_control_window(step)
                pair.server.increment_flow_control_window(step, missing[0])
                await pair.turn()
            assert [sent_on(pair, 2 * n + 1) for n in range(len(sizes))] == contents
            await pair.end()

        run(main())

    def test_a_stream_without_window_does_not_stop_the_others(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.server.increment_flow_control_window(1_000_000)
            pair.get("PUT", body=whole(b"a" * 100_000))
            pair.get("PUT", body=whole(b"b" * 50_000))
            pair.get("PUT", body=FakeBody(None, None, [b"c" * 10, b"d" * 10]))
            await pair.turn()
            assert sorted(ended(pair)) == [3, 5]
            # In turn, not one after the other.
            order = [event.stream_id for event in pair.seen(DataReceived)]
            assert order[:3] == [1, 3, 5] or order[:4] == [1, 3, 1, 3]
            await pair.end()

        run(main())

    def test_whose_turn_it_is(self, run: Run) -> None:
        """Time limits count the peer's silence, not that of who makes the body."""

        async def main() -> None:
            pair = Pair()
            pieces: asyncio.Queue[bytes] = asyncio.Queue()

            async def chunks() -> AsyncIterator[bytes]:
                while piece := await pieces.get():
                    yield piece

            exchange = pair.get("PUT", body=FakeBody(None, None, chunks()))
            await pair.turn()
            assert exchange.is_sending
            pieces.put_nowait(b"x")
            await pair.turn()
            assert exchange.is_sending
            pieces.put_nowait(bytes(100_000))
            await pair.turn()
            assert not exchange.is_sending  # the window is full
            for stream in (None, 1):
                pair.server.increment_flow_control_window(100_000, stream)
            await pair.turn()
            assert exchange.is_sending
            pieces.put_nowait(b"")
            await pair.turn()
            assert ended(pair) == [1]
            assert not exchange.is_sending
            await pair.end()

        run(main())

    def test_a_body_that_moves_is_progress(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get("PUT", body=whole(bytes(200_000)))
            await pair.turn()
            for _ in range(3):
                before = len(exchange.progress)
                await pair.turn()
                assert len(exchange.progress) == before
                for stream in (None, 1):
                    pair.server.increment_flow_control_window(10_000, stream)
                await pair.turn()
                assert len(exchange.progress) > before
            await pair.end()

        run(main())

    def test_more_uploads_than_fit_into_one_write(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.server.increment_flow_control_window(10_000_000)
            await pair.turn()
            for _ in range(10):
                pair.get("PUT", body=whole(b"a" * 60_000))
            await pair.turn()
            order = [event.stream_id for event in pair.seen(DataReceived)]
            assert sorted(order[:10]) == list(range(1, 21, 2))
            await pair.end()

        run(main())

    def test_the_transport_says_when(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            pair.server.increment_flow_control_window(10_000_000)
            await pair.turn()
            pair.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000_000})
            await pair.turn()
            pulled = 0

            async def pieces() -> AsyncIterator[bytes]:
                nonlocal pulled
                for _ in range(100):
                    pulled += 1
                    yield b"x" * 1000

            pair.connection.pause_writing()
            pair.get("PUT", body=FakeBody(None, None, pieces()))
            pair.get("PUT", body=whole(b"y" * 1000))
            await pair.turn()
            assert not pair.seen(RequestReceived)
            assert pulled <= 1
            pair.connection.resume_writing()
            await pair.turn()
            assert pulled == 100
            assert sorted(ended(pair)) == [1, 3]
            await pair.end()

        run(main())

    def test_a_long_upload_lets_the_loop_run(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.server.increment_flow_control_window(50_000_000)
            pair.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 50_000_000})
            await pair.turn()
            pair.get("PUT", body=whole(bytes(20_000_000)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert 0 < len(pair.transport.written) < 2_000_000
            await pair.turn()
            assert len(sent_on(pair, 1)) == 20_000_000
            await pair.end()

        run(main())

    def test_a_body_that_fails_fails_its_request_alone(self, run: Run) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"x"
            raise LookupError("no more")

        async def main() -> None:
            pair = Pair()
            other = pair.get()
            failing = pair.get("PUT", body=FakeBody(None, None, pieces()))
            await pair.turn()
            assert isinstance(failing.error, LookupError)
            assert [(one.stream_id, one.error_code) for one in pair.seen(StreamReset)] == [(3, ErrorCodes.CANCEL)]
            pair.answer(1, end_stream=True)
            await pair.turn()
            assert other.is_complete
            await pair.end()

        run(main())

    @pytest.mark.parametrize(("length", "words"), [(2, "longer than"), (4, "1 bytes before")])
    def test_a_body_of_another_length(self, run: Run, length: int, words: str) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get("PUT", body=FakeBody(None, length, [b"a", b"", b"bc"]))
            await pair.turn()
            assert isinstance(exchange.error, BodyError)
            assert words in str(exchange.error)
            assert 1 not in ended(pair)
            await pair.end()

        run(main())

    @pytest.mark.parametrize("by", ["answer", "abandon", "reset", "loss"])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_nothing_more_is_sent_for_an_exchange_that_is_over(self, run: Run, by: str, chunked: bool) -> None:
        async def main() -> None:
            pair = Pair()
            streamed = FakeBody(None, None, iter(lambda: b"x" * 50_000, b""))
            body = streamed if chunked else whole(b"x" * 500_000)
            exchange = pair.get("POST", body=body)
            await pair.turn()
            if by == "answer":
                pair.answer(1, "413", end_stream=True)
            elif by == "abandon":
                exchange.source.abandon()
            elif by == "reset":
                pair.server.reset_stream(1)
            else:
                pair.transport.lose(None)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if by != "loss":
                await pair.turn()
                pair.server.increment_flow_control_window(500_000)
                await pair.turn()
                assert len(sent_on(pair, 1)) == 65_535
            if by == "answer":
                assert exchange.is_complete
                assert exchange.status == 413
                assert [one.error_code for one in pair.seen(StreamReset)] == [ErrorCodes.NO_ERROR]
            assert streamed.closed is chunked
            assert pair.connection.active == 0
            await pair.end()

        run(main())

    def test_an_answer_may_begin_before_the_body_has_ended(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            questions: asyncio.Queue[bytes] = asyncio.Queue()

            async def pieces() -> AsyncIterator[bytes]:
                while question := await questions.get():
                    yield question

            exchange = pair.get("POST", body=FakeBody(None, None, pieces()))
            await pair.turn()
            pair.answer(1)
            for word in (b"one", b"two"):
                questions.put_nowait(word)
                await pair.turn()
                assert sent_on(pair, 1).endswith(word)
                pair.server.send_data(1, word[::-1])
                await pair.turn()
                assert exchange.body.endswith(word[::-1])
            questions.put_nowait(b"")
            await pair.turn()
            assert ended(pair) == [1]
            pair.server.end_stream(1)
            await pair.turn()
            assert exchange.is_complete
            await pair.end()

        run(main())


def fill(pair: Pair, stream: int, most: int = 10**9) -> int:
    """Let the server send as much as the windows allow."""
    total = 0
    while total < most and (window := pair.server.local_flow_control_window(stream)) > 0:
        size = min(window, pair.server.max_outbound_frame_size, most - total)
        pair.server.send_data(stream, bytes(size))
        total += size
    return total


class TestDownloads:
    def test_a_reader_that_pauses_is_sent_no_more_than_the_window(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get(high_water=300_000)
            await pair.turn()
            pair.answer(1)
            while fill(pair, 1):
                await pair.turn()
            # Up to the mark with the window given back in quarters, and then the rest of one window.
            got = len(exchange.body)
            assert 300_000 <= got <= 300_000 + STREAM + STREAM // 4
            exchange.source.resume()
            await pair.turn()
            assert pair.server.local_flow_control_window(1) > STREAM // 2
            assert fill(pair, 1)
            await pair.turn()
            assert len(exchange.body) > got
            await pair.end()

        run(main())

    def test_sleeping_readers_do_not_stop_the_others(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            sleepers = [pair.get(high_water=0) for _ in range(CONNECTION // STREAM + 2)]
            await pair.turn()
            for n in range(len(sleepers)):
                pair.answer(2 * n + 1)
                while fill(pair, 2 * n + 1):
                    await pair.turn()
            awake = pair.get()
            await pair.turn()
            stream = 2 * len(sleepers) + 1
            pair.answer(stream)
            assert fill(pair, stream, 100_000) == 100_000
            await pair.turn()
            assert len(awake.body) == 100_000
            await pair.end()

        run(main())

    @pytest.mark.parametrize("padding", [None, 200])
    def test_the_windows_last_for_ever(self, run: Run, padding: int | None) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            pair.answer(1)
            await pair.turn()
            sent = 0
            while sent < 40 * 1024 * 1024:
                for _ in range(20):
                    pair.server.send_data(1, bytes(16_000), pad_length=padding)
                    sent += 16_000
                await pair.turn()
            pair.server.end_stream(1)
            await pair.turn()
            assert exchange.is_complete
            assert len(exchange.body) == sent
            updates = pair.seen(WindowUpdated)
            assert len(updates) < 40 * 5 + 40  # worth their bytes: some per MiB, not one per frame
            await pair.end()

        run(main())

    def test_padding_is_given_back_as_well(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(h2_framing, "CONNECTION_WINDOW", 100_000)

        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            pair.answer(1)
            for _ in range(1000):
                pair.server.send_data(1, b"x", pad_length=255)
                if pair.server.outbound_flow_control_window < 1000:
                    await pair.turn()
            pair.server.end_stream(1)
            await pair.turn()
            assert exchange.body == b"x" * 1000
            await pair.end()

        run(main())

    def test_a_long_body_in_one_packet(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            pair.answer(1)
            assert fill(pair, 1, 600_000) == 600_000
            pair.server.end_stream(1)
            await pair.turn()
            assert exchange.is_complete
            assert len(exchange.body) == 600_000
            await pair.end()

        run(main())

    def test_what_comes_for_abandoned_streams_goes_back_to_the_connection(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            for n in range(40):
                exchange = pair.get()
                await pair.turn()
                pair.answer(2 * n + 1)
                await pair.turn()
                assert fill(pair, 2 * n + 1, STREAM) == STREAM
                exchange.source.abandon()
                await pair.turn()
            assert pair.connection.is_open
            await pair.end()

        run(main())

    def test_a_server_that_ignores_the_window(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get(high_water=0)
            await pair.turn()
            pair.answer(1)
            await pair.turn()
            for _ in range(STREAM // 16_384 + 1):
                if not pair.transport.is_closing():
                    pair.connection.data_received(frame(0, 0, 1, bytes(16_384)))
            assert isinstance(exchange.error, PeerProtocolError)
            await pair.end()

        run(main())
