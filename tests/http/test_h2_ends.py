"""How HTTP/2 ends: orderly, by GOAWAY, by the loss of the connection, by a server that breaks the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    PingAckReceived,
    StreamReset,
)

from tests.http.h2_kit import Pair, frame, sent_on, whole
from weft.http.errors import IncompleteBodyError, PeerClosedError, PeerProtocolError, SendError

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


class TestBrokenProtocol:
    @pytest.mark.parametrize(
        "wrong",
        [
            frame(0, 0, 0, b"data on no stream"),
            frame(1, 4, 2, b"\x88"),  # a stream of the server's
            frame(9, 4, 1, b"\x88"),  # CONTINUATION of nothing
            frame(6, 0, 0, b"short"),  # PING of five bytes
            frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),  # no HPACK
            frame(5, 4, 1, (2).to_bytes(4, "big") + b"\x82"),  # PUSH_PROMISE, which is switched off
            frame(0, 0, 1, b"body before head"),
            frame(8, 0, 0, bytes(4)),  # a window update of nothing
            frame(8, 0, 0, (2**31 - 1).to_bytes(4, "big")),  # a window beyond all bounds
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
            (2**24 - 1).to_bytes(3, "big") + bytes(6) + b"x" * 20_000_000,  # larger than we take
        ],
        ids=range(11),
    )
    def test_everything_on_the_connection_fails(self, run: Run, wrong: bytes) -> None:
        async def main() -> None:
            pair = Pair()
            exchanges = [pair.get(), pair.get(target="/two")]
            await pair.turn()
            pair.inject(wrong)
            for exchange in exchanges:
                assert isinstance(exchange.error, PeerProtocolError)
                assert exchange.error.__cause__ is not None
            assert "/two" in str(exchanges[1].error)
            assert pair.connection.room == 0
            assert pair.changes[-1] == (0, False)
            assert pair.transport.is_closing()
            await pair.turn()
            assert pair.seen(ConnectionTerminated)[0].error_code != ErrorCodes.NO_ERROR
            with pytest.raises(RuntimeError, match="takes no request"):
                pair.get()

        run(main())

    @pytest.mark.parametrize("first", [frame(6, 0, 0, bytes(8)), frame(4, 1, 0, b""), frame(7, 0, 0, bytes(8))])
    def test_the_first_frame_is_the_servers_settings(self, run: Run, first: bytes) -> None:
        async def main() -> None:
            pair = Pair(silent=True)
            exchange = pair.get()
            pair.inject(first)
            assert isinstance(exchange.error, PeerProtocolError)
            assert "SETTINGS" in str(exchange.error)
            await pair.end()

        run(main())

    @pytest.mark.parametrize(
        "fields",
        [
            [(":status", "200"), ("X-Upper", "1")],
            [(":status", "200"), ("x", "a\r\nb: c")],
            [(":status", "200"), ("x", "a\0")],
            [(":status", "200"), ("connection", "close")],
            [(":status", "200"), ("transfer-encoding", "chunked")],
            [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
            [(":status", "200"), ("content-length", "-1")],
            [(":status", "200"), (":status", "200")],
            [("x", "no status")],
            [(":status", "200"), ("x", "y" * 70_000)],
        ],
    )
    def test_fields_that_cannot_be(self, run: Run, fields: list[tuple[str, str]]) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            pair.server.send_headers(1, fields, end_stream=True)
            await pair.turn()
            assert isinstance(exchange.error, PeerProtocolError)
            assert exchange.status == 0
            await pair.end()

        run(main())


class TestEnds:
    def test_the_transport_is_lost_before_the_answer(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            reason = OSError(110, "gone")
            pair.transport.lose(reason)
            await asyncio.sleep(0)
            assert type(exchange.error) is PeerClosedError
            assert exchange.error.__cause__ is reason
            assert not exchange.error.unprocessed
            assert pair.changes[-1] == (0, False)

        run(main())

    def test_the_transport_is_lost_in_the_middle(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            reading, sending = pair.get(), pair.get("PUT", body=whole(b"x" * 1_000_000))
            await pair.turn()
            pair.answer(1)
            await pair.turn()
            pair.transport.lose(OSError(104, "reset"))
            await asyncio.sleep(0)
            assert type(reading.error) is IncompleteBodyError
            assert type(sending.error) is SendError

        run(main())

    def test_close_waits_for_what_is_under_way(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            await pair.turn()
            pair.connection.close()
            assert pair.connection.room == 0
            assert pair.connection.is_open
            assert pair.connection.active == 1
            pair.answer(1, end_stream=True)
            await pair.turn()
            assert exchange.is_complete
            assert pair.changes == [(0, True), (0, False), (0, False)]
            assert pair.transport.is_lost
            assert not pair.transport.is_aborted
            assert pair.seen(ConnectionTerminated)[0].error_code == ErrorCodes.NO_ERROR

        run(main())

    def test_close_of_an_idle_connection(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            await pair.turn()
            pair.connection.close()
            await pair.turn()
            assert pair.transport.is_lost
            assert len(pair.seen(ConnectionTerminated)) == 1

        run(main())

    def test_a_peer_that_reads_nothing_cannot_hold_a_closed_connection(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("weft.http.h2.LINGER", 0.001)

        async def main() -> None:
            pair = Pair()
            await pair.turn()
            aborted = asyncio.Event()
            monkeypatch.setattr(pair.transport, "close", lambda: None)
            monkeypatch.setattr(pair.transport, "abort", aborted.set)
            pair.connection.close()
            await aborted.wait()
            pair.connection.connection_lost(None)

        run(main())

    def test_abort(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            exchange = pair.get()
            pair.connection.abort()
            assert not pair.connection.is_open
            await asyncio.sleep(0)
            assert pair.transport.is_aborted
            assert isinstance(exchange.error, PeerClosedError)

        run(main())

    def test_ping_is_answered(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            pair.server.ping(b"abcdefgh")
            await pair.turn()
            assert [event.ping_data for event in pair.seen(PingAckReceived)] == [b"abcdefgh"]
            await pair.end()

        run(main())

    def test_an_abandoned_exchange_resets_its_stream_alone(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            kept, dropped = pair.get(), pair.get()
            await pair.turn()
            pair.answer(3)
            pair.server.send_data(3, b"x" * 1000)
            await pair.turn()
            pair.changes.clear()
            dropped.source.abandon()
            assert pair.changes == [(99, True)]
            dropped.source.abandon()
            # On its way when the reset left: neither an error nor a word to who went away.
            pair.server.send_data(3, b"x" * 1000)
            pair.inject(b"")
            before = len(dropped.body)
            pair.answer(1)
            pair.server.send_data(1, b"kept", end_stream=True)
            await pair.turn()
            reset = pair.seen(StreamReset)[0]
            assert (reset.stream_id, reset.error_code) == (3, ErrorCodes.CANCEL)
            assert kept.body == b"kept"
            assert len(dropped.body) == before == 1000
            assert not dropped.ended.is_set()
            assert pair.connection.room == 100
            await pair.end()

        run(main())

    def test_a_repr_says_how_it_is(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            pair.get()
            assert "open streams=1" in repr(pair.connection)
            await pair.end()
            assert "lost streams=0" in repr(pair.connection)

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
