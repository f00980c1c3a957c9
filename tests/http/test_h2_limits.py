"""How much HTTP/2 takes: streams at once, and peers that flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest
from h2.events import RequestReceived
from h2.settings import SettingCodes

from tests.http.h2_kit import FakeIncoming, Pair, frame, make
from weft.http import h2_framing
from weft.http.errors import PeerClosedError, PeerProtocolError

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


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

    def test_what_was_under_way_for_abandoned_streams_is_no_flood(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            for n in range(40):
                exchange = pair.get()
                await pair.turn()
                pair.answer(2 * n + 1)
                await pair.turn()
                for _ in range(200):
                    pair.server.send_data(2 * n + 1, bytes(1000))
                exchange.source.abandon()
                await pair.turn()
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
