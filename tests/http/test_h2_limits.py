"""How much at once over HTTP/2: streams, windows both ways, going away, and peers that flood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.h2_kit import FakeBody, FakeIncoming, Pair, frame, make, whole
from weft.http import h2_framing
from weft.http.errors import BodyError, PeerClosedError, PeerProtocolError

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]

STREAM = h2_framing.STREAM_WINDOW
CONNECTION = h2_framing.CONNECTION_WINDOW


def sent_on(pair: Pair, stream: int) -> bytes:
    """What the server received of a request's body."""
    return b"".join(event.data for event in pair.seen(DataReceived) if event.stream_id == stream)


def ended(pair: Pair) -> list[int]:
    """The streams whose requests the server has whole."""
    return [event.stream_id for event in pair.seen(StreamEnded)]


class TestRoom:
    def test_before_the_server_has_said_its_limit(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair(silent=True)
            assert pair.connection.room == 100
            for _ in range(100):
                pair.get()
            assert pair.connection.room == 0
            with pytest.raises(RuntimeError):
                pair.get()
            await pair.end()

        run(main())

    def test_the_limit_comes_grows_and_shrinks(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair({SettingCodes.MAX_CONCURRENT_STREAMS: 3})
            first = pair.get()
            await pair.turn()
            assert pair.connection.room == 2
            assert pair.changes == [(2, True)]
            for limit, room in [(5, 4), (0, 0), (1, 0), (2, 1)]:
                pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
                await pair.turn()
                assert pair.connection.room == room
            assert pair.connection.is_open
            pair.answer(1, end_stream=True)
            await pair.turn()
            assert first.is_complete
            assert pair.connection.room == 2
            assert pair.changes[-1] == (2, True)
            await pair.end()

        run(main())

    def test_a_server_without_a_limit(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair(silent=True)
            pair.connection.data_received(frame(4, 0, 0, b""))
            assert pair.connection.room == 256
            await pair.end()

        run(main())

    def test_every_end_gives_its_room_back(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair({SettingCodes.MAX_CONCURRENT_STREAMS: 4})
            await pair.turn()
            exchanges = [pair.get() for _ in range(4)]
            await pair.turn()
            assert pair.connection.room == 0
            pair.answer(1, end_stream=True)
            pair.server.reset_stream(3)
            pair.answer(5, "bad")
            await pair.turn()
            exchanges[3].source.abandon()
            assert pair.connection.room == 4
            assert pair.connection.active == 0
            # The server counts as we do.
            for _ in range(4):
                pair.get()
            await pair.turn()
            assert len(pair.seen(RequestReceived)) == 8
            await pair.end()

        run(main())

    def test_the_streams_are_used_up(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.connection._framing.highest_outbound_stream_id = 2**31 - 5
            first = pair.get()
            assert pair.connection.room == 99
            last = pair.get()
            assert pair.connection.room == 0
            await pair.turn()
            pair.answer(2**31 - 3, end_stream=True)
            pair.answer(2**31 - 1, end_stream=True)
            await pair.turn()
            assert first.is_complete
            assert last.is_complete
            assert pair.transport.is_lost

        run(main())


class TestGoingAway:
    def test_what_was_not_taken_can_be_repeated_and_the_rest_ends(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            kept, refused, late = pair.get("PUT", body=whole(b"x" * 70_000)), pair.get("POST"), pair.get()
            await pair.turn()
            pair.inject(frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4) + b"maintenance"))
            for exchange in (refused, late):
                assert isinstance(exchange.error, PeerClosedError)
                assert exchange.error.unprocessed
                assert "maintenance" in str(exchange.error)
            assert pair.connection.room == 0
            assert pair.changes[-1] == (0, True)
            assert not kept.ended.is_set()
            # Both directions of what was kept go on: more window for its body, and its answer.
            pair.server.acknowledge_received_data(65_535, 1)
            await pair.turn()
            assert sent_on(pair, 1) == b"x" * 70_000
            assert not pair.transport.is_closing()
            pair.answer(1)
            pair.server.send_data(1, b"done", end_stream=True)
            await pair.turn()
            assert kept.is_complete
            assert kept.body == b"done"
            assert pair.transport.is_lost
            assert pair.changes[-1] == (0, False)

        run(main())

    def test_a_warning_and_then_the_word(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            one, two = pair.get(), pair.get()
            await pair.turn()
            pair.inject(frame(7, 0, 0, (2**31 - 1).to_bytes(4, "big") + bytes(4)))
            assert pair.connection.room == 0
            assert not two.ended.is_set()
            pair.inject(frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4)))
            assert isinstance(two.error, PeerClosedError)
            assert not one.ended.is_set()
            # What it kept it may still fail to answer: then nobody knows what it did.
            pair.transport.lose(None)
            await asyncio.sleep(0)
            assert isinstance(one.error, PeerClosedError)
            assert not one.error.unprocessed
            assert "GOAWAY (NO_ERROR)" in str(one.error)

        run(main())

    def test_an_idle_connection_closes_at_once(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.inject(frame(7, 0, 0, bytes(8)))
            await pair.turn()
            assert pair.transport.is_lost

        run(main())

    def test_what_was_to_be_sent_is_not_dropped(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.get()
            # In the same packet, and the request above not written yet: the answer to the PING has to leave, too.
            pair.connection.data_received(
                frame(6, 0, 0, b"12345678") + frame(7, 0, 0, b"\x7f" + b"\xff" * 3 + bytes(4))
            )
            await asyncio.sleep(0)
            assert frame(6, 1, 0, b"12345678") in pair.transport.written
            assert b"\1\5\0\0\0\1" in pair.transport.written  # HEADERS of stream 1
            await pair.end()

        run(main())

    def test_a_connection_that_died_while_idle_is_told_from_one_that_did_not(self, run: Run) -> None:
        async def main() -> None:
            for packets, died_idle in [(0, True), (1, False)]:
                pair = Pair()
                pair.get()
                await pair.turn()
                pair.answer(1, end_stream=True)
                await pair.turn()
                second = pair.get()
                await pair.turn()
                if packets:
                    pair.inject(frame(6, 0, 0, bytes(8)))
                pair.transport.lose(None)
                await asyncio.sleep(0)
                assert isinstance(second.error, PeerClosedError)
                assert second.error.was_reused is died_idle

        run(main())


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
            body = FakeBody(None, None, iter(lambda: b"x" * 50_000, b"")) if chunked else whole(b"x" * 500_000)
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
            assert not chunked or body.closed
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


class TestFloods:
    def flood(self, run: Run, flood: Callable[[Pair, int], bytes], count: int = 20_000) -> FakeIncoming:
        async def main() -> FakeIncoming:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            for n in range(count):
                if pair.transport.is_closing():
                    break
                pair.connection.data_received(flood(pair, n))
            else:
                pytest.fail("the connection bears it")
            await pair.end()
            return exchange

        return run(main())  # type: ignore[no-any-return]

    @pytest.mark.parametrize(
        "one",
        [
            frame(6, 0, 0, bytes(8)),  # PING
            frame(4, 0, 0, b""),  # SETTINGS
            frame(4, 0, 0, b"\0\4\0\0\1\0"),  # windows that change
            frame(8, 0, 0, (1).to_bytes(4, "big")),  # WINDOW_UPDATE
            frame(2, 0, 1, (0).to_bytes(4, "big") + b"\1"),  # PRIORITY
            frame(0xFA, 0, 1, b""),  # of a kind that nobody knows
            frame(1, 4, 1, b"\x08\x03103"),  # 103
        ],
        ids=["ping", "settings", "window-settings", "window", "priority", "unknown", "early-hints"],
    )
    def test_frames_that_bring_nothing(self, run: Run, one: bytes) -> None:
        error = self.flood(run, lambda pair, n: one).error
        assert isinstance(error, PeerProtocolError)
        assert "bring nothing" in str(error)

    def test_empty_data(self, run: Run) -> None:
        error = self.flood(run, lambda pair, n: (b"" if n else frame(1, 4, 1, b"\x88")) + frame(0, 0, 1, b"")).error
        assert "bring nothing" in str(error)

    def test_resets_of_what_is_over(self, run: Run) -> None:
        def flood(pair: Pair, n: int) -> bytes:
            return frame(3, 0, 1, bytes(4))

        assert isinstance(self.flood(run, flood).error, PeerClosedError)

    def test_a_head_that_does_not_end(self, run: Run) -> None:
        def flood(pair: Pair, n: int) -> bytes:
            return frame(9, 0, 1, bytes(10)) if n else frame(1, 0, 1, b"\x88")

        assert isinstance(self.flood(run, flood, 100).error, PeerProtocolError)

    def test_a_pause_makes_up_for_idle_frames(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            now = 0.0
            monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now, raising=False)
            framing = h2_framing.Framing(lambda: now)
            framing.start()
            framing.receive(frame(4, 0, 0, b""))
            for n in range(20_000):
                now = n * 0.02
                _, broken = framing.receive(frame(6, 0, 0, bytes(8)))
                assert broken is None

        run(main())

    def test_a_useful_exchange_makes_up_for_its_updates(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            update = frame(8, 0, 0, (1000).to_bytes(4, "big"))
            pair.get()
            await pair.turn()
            pair.inject(frame(1, 4, 1, b"\x88"))
            for _ in range(10_000):
                pair.connection.data_received(frame(0, 0, 1, b"x") + update * 3)
            assert pair.connection.is_open
            await pair.end()

        run(main())

    def test_a_peer_that_does_not_read_what_it_makes_us_say(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            pair.connection.pause_writing()
            # Useful frames, so that only their answers are too much.
            pair.inject(frame(1, 4, 1, b"\x88"))
            ping = frame(6, 0, 0, bytes(8)) * 3 + frame(0, 0, 1, b"x")
            for _ in range(20_000):
                if not pair.transport.is_closing():
                    pair.connection.data_received(ping)
            assert isinstance(exchange.error, PeerProtocolError)
            assert "does not read" in str(exchange.error)
            await pair.end()

        run(main())


class TestHeldBack:
    def test_requests_wait_while_the_transport_is_full(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.connection.pause_writing()
            incoming = FakeIncoming()
            pair.connection.exchange(make(), incoming)
            await pair.turn()
            assert not pair.seen(RequestReceived)
            pair.connection.resume_writing()
            await pair.turn()
            assert len(pair.seen(RequestReceived)) == 1
            await pair.end()

        run(main())
