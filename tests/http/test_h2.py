"""Exchanges over HTTP/2, against a server in memory: what is sent, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import pytest
from h2.errors import ErrorCodes
from h2.events import RequestReceived
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.h2_kit import FakeBody, FakeIncoming, Pair, frame, make, whole
from weft.http.errors import IncompleteBodyError, InvalidHeaderError, PeerClosedError, PeerProtocolError
from weft.http.outgoing import Request

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


def fields_of(event: RequestReceived) -> list[tuple[Any, Any]]:
    return [(name, value) for name, value in event.headers]


class TestRequests:
    def sent(self, run: Run, request: Request) -> list[tuple[str, str]]:
        async def main() -> list[tuple[str, str]]:
            pair = Pair()
            pair.connection.exchange(request, FakeIncoming())
            await pair.turn()
            (received,) = pair.seen(RequestReceived)
            await pair.end()
            return fields_of(received)

        return run(main())  # type: ignore[no-any-return]

    def test_pseudo_headers_come_first(self, run: Run) -> None:
        fields = self.sent(run, make(target="/a%2fb?x=|", headers=[("X-One", "1")]))
        assert fields[:4] == [
            (":method", "GET"),
            (":authority", "example.com"),
            (":scheme", "https"),
            (":path", "/a%2fb?x=|"),
        ]
        assert fields[4:] == [("x-one", "1")]

    def test_the_host_header_is_the_authority(self, run: Run) -> None:
        fields = self.sent(run, make(headers=[("Host", "other.example:8443")]))
        assert dict(fields)[":authority"] == "other.example:8443"
        assert "host" not in dict(fields)

    def test_what_is_about_the_hop_is_left_out(self, run: Run) -> None:
        headers = [
            ("Connection", "close, X-Mine"),
            ("X-Mine", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "close"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ("TE", "gzip"),
            ("X-Stays", " v "),
        ]
        assert self.sent(run, make(headers=headers))[4:] == [("x-stays", "v")]

    def test_te_may_say_trailers(self, run: Run) -> None:
        assert self.sent(run, make(headers=[("TE", "trailers")]))[4:] == [("te", "trailers")]

    def test_cookies_and_credentials(self, run: Run) -> None:
        headers = [("Cookie", "a=1; b=2"), ("Authorization", "Basic eHg=")]
        fields = self.sent(run, make(headers=headers))[4:]
        # Cookie crumbs are joined again by the server (RFC 9113, 8.2.3).
        assert sorted(fields) == [("authorization", "Basic eHg="), ("cookie", "a=1; b=2")]

    @pytest.mark.parametrize(
        ("method", "body", "length"),
        [
            ("GET", None, None),
            ("POST", None, "0"),
            ("POST", whole(b""), "0"),
            ("POST", whole(b"abc"), "3"),
            ("PUT", FakeBody(None, 3, [b"ab", b"c"]), "3"),
            ("PUT", FakeBody(None, None, [b"ab", b"c"]), None),
        ],
    )
    def test_the_length_is_said(self, run: Run, method: str, body: Any, length: str | None) -> None:
        assert dict(self.sent(run, make(method, body=body))).get("content-length") == length

    def test_a_length_that_was_given_is_not_said_twice(self, run: Run) -> None:
        headers = [("Content-Length", "3")]
        fields = self.sent(run, make("POST", headers=headers, body=whole(b"abc")))
        assert fields.count(("content-length", "3")) == 1

    @pytest.mark.parametrize(
        ("name", "value"),
        [("x y", "1"), ("x:", "1"), ("", "1"), ("x", "1\r\ny: 2"), ("x", "\0"), ("x\n", "1"), ("é", "")],
    )
    def test_a_header_that_cannot_be_sent_fails_its_exchange_alone(self, run: Run, name: str, value: str) -> None:
        async def main() -> None:
            pair = Pair()
            with pytest.raises(InvalidHeaderError):
                pair.get(headers=[(name, value)])
            assert pair.connection.active == 0
            good = pair.get()
            await pair.turn()
            pair.answer(1, end_stream=True)
            await pair.turn()
            assert good.result[0] == 200
            assert good.is_complete
            await pair.end()

        run(main())

    def test_a_value_beyond_latin_1_is_utf_8(self, run: Run) -> None:
        fields = self.sent(run, make(headers=[("x", "é"), ("y", "€")]))
        assert dict(fields)["x"] == "é"
        assert dict(fields)["y"].encode("latin-1").decode() == "€"

    def test_a_turn_is_one_write(self, run: Run) -> None:
        async def main() -> None:
            pair = Pair()
            for _ in range(10):
                pair.get("POST", body=whole(b"x" * 100))
            await pair.turn()
            # The preface and all requests left together; the second is the acknowledgement of the settings.
            assert pair.transport.writes == 2
            assert len(pair.seen(RequestReceived)) == 10
            await pair.end()

        run(main())


class TestResponses:
    def came(self, run: Run, respond: Callable[[Pair], None], method: str = "GET") -> FakeIncoming:
        async def main() -> FakeIncoming:
            pair = Pair()
            other = pair.get()
            incoming = pair.get(method)
            await pair.turn()
            respond(pair)
            await pair.turn()
            # Whatever became of it, the other exchange goes on.
            pair.answer(1, end_stream=True)
            await pair.turn()
            assert other.is_complete
            assert pair.connection.is_open
            assert pair.connection.room == 100
            await pair.end()
            return incoming

        return run(main())  # type: ignore[no-any-return]

    def test_head_body_and_end(self, run: Run) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3, "201", [("x-a", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "5")])
            pair.server.send_data(3, b"hel")
            pair.server.send_data(3, b"lo", end_stream=True)

        incoming = self.came(run, respond)
        assert incoming.status == 201
        assert incoming.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
        assert incoming.headers["X-A"] == "1"
        assert incoming.body == b"hello"
        assert incoming.is_complete
        assert incoming.is_streamed

    def test_a_head_that_is_all(self, run: Run) -> None:
        incoming = self.came(run, lambda pair: pair.answer(3, "200", end_stream=True))
        assert incoming.is_complete
        assert not incoming.is_streamed

    def test_trailers(self, run: Run) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3, "200", [("content-length", "2")])
            pair.server.send_data(3, b"ab")
            pair.server.send_headers(3, [("x-sum", "1"), ("x-more", "2")], end_stream=True)

        incoming = self.came(run, respond)
        assert incoming.body == b"ab"
        assert incoming.trailer == b"x-sum: 1\r\nx-more: 2\r\n\r\n"
        assert incoming.is_complete

    def test_informational_responses_are_passed_over(self, run: Run) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3, "100")
            pair.answer(3, "103", [("link", "</a>; rel=preload")])
            pair.answer(3, "200", end_stream=True)

        incoming = self.came(run, respond)
        assert incoming.status == 200
        assert incoming.headers.get("link") is None

    @pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "304"), ("GET", "204")])
    @pytest.mark.parametrize("late", [False, True])
    def test_responses_without_content(self, run: Run, method: str, status: str, late: bool) -> None:
        def respond(pair: Pair) -> None:
            length = [("content-length", "1000")] if not late or method == "HEAD" else []
            pair.answer(3, status, length, end_stream=not late)
            if late:
                pair.server.send_data(3, b"", end_stream=True)

        incoming = self.came(run, respond, method)
        assert incoming.status == int(status)
        assert incoming.is_complete
        assert incoming.body == b""

    @pytest.mark.parametrize("status", ["204", "304"])
    def test_content_where_none_can_be(self, run: Run, status: str) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3, status)
            pair.server.send_data(3, b"smuggled", end_stream=True)

        incoming = self.came(run, respond)
        assert isinstance(incoming.error, PeerProtocolError)
        assert incoming.body == b""

    @pytest.mark.parametrize("trailers", [False, True])
    def test_less_than_was_announced(self, run: Run, trailers: bool) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3, "200", [("content-length", "3")], end_stream=not trailers)
            if trailers:
                pair.server.send_data(3, b"ab")
                pair.server.send_headers(3, [("x", "y")], end_stream=True)

        incoming = self.came(run, respond)
        assert isinstance(incoming.error, PeerProtocolError)
        assert "of 3" in str(incoming.error)
        assert "https://example.com/" in str(incoming.error)

    @pytest.mark.parametrize("status", ["20", "2000", "abc", "2x0", "", "+20", "٢٠٠"])
    def test_a_status_that_is_none(self, run: Run, status: str) -> None:
        def respond(pair: Pair) -> None:
            pair.server.send_headers(3, [(b":status", status.encode())])

        assert isinstance(self.came(run, respond).error, PeerProtocolError)

    def test_101_has_no_meaning(self, run: Run) -> None:
        incoming = self.came(run, lambda pair: pair.answer(3, "101"))
        assert isinstance(incoming.error, PeerProtocolError)

    @pytest.mark.parametrize(
        ("code", "unprocessed"),
        [
            (ErrorCodes.REFUSED_STREAM, True),
            (ErrorCodes.INTERNAL_ERROR, False),
            (ErrorCodes.NO_ERROR, False),
            (77, False),
        ],
    )
    def test_a_reset_instead_of_an_answer(self, run: Run, code: int, unprocessed: bool) -> None:
        incoming = self.came(run, lambda pair: pair.server.reset_stream(3, code))
        assert isinstance(incoming.error, PeerClosedError)
        assert incoming.error.unprocessed is unprocessed
        assert getattr(code, "name", "77") in str(incoming.error)

    def test_a_server_that_wants_http_1(self, run: Run) -> None:
        incoming = self.came(run, lambda pair: pair.server.reset_stream(3, ErrorCodes.HTTP_1_1_REQUIRED))
        assert isinstance(incoming.error, PeerClosedError)
        assert "http2=False" in incoming.error.__notes__[0]

    def test_a_reset_in_the_middle_of_the_body(self, run: Run) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3)
            pair.server.send_data(3, b"half")
            pair.server.reset_stream(3, ErrorCodes.REFUSED_STREAM)

        incoming = self.came(run, respond)
        assert isinstance(incoming.error, IncompleteBodyError)
        assert incoming.body == b"half"

    def test_a_reset_behind_the_end_takes_nothing_away(self, run: Run) -> None:
        def respond(pair: Pair) -> None:
            pair.answer(3)
            pair.server.send_data(3, b"all", end_stream=True)
            pair.inject(frame(3, 0, 3, bytes(4)))

        incoming = self.came(run, respond)
        assert incoming.is_complete
        assert incoming.body == b"all"


# -- cut anywhere ------------------------------------------------------------------------------------------------------


def cutter(draw: Callable[[Any], Any]) -> Callable[[bytes], Iterator[bytes]]:
    def cut(data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = draw(st.integers(1, min(len(data) - at, 40)))
            yield data[at : at + size]
            at += size

    return cut


def respond_to_three(pair: Pair) -> None:
    server = pair.server
    pair.answer(3, "103", [("link", "x")])
    pair.answer(5, "404", [("x-b", "2"), ("content-length", "6")])
    server.ping(b"12345678")
    server.send_data(5, b"miss", pad_length=7)
    pair.answer(1, "200", [("x-a", "é" * 20)])
    server.send_data(1, b"abc" * 50)
    pair.answer(3, "204", end_stream=True)
    server.send_data(5, b"ed", end_stream=True)
    server.send_headers(1, [("x-t", "t")], end_stream=True)


def break_protocol(pair: Pair) -> bytes:
    return frame(0, 0, 99, b"DATA of a stream that nobody opened")


def go_away(pair: Pair) -> bytes:
    return frame(7, 0, 0, (5).to_bytes(4, "big") + bytes(4))


class TestCutAnywhere:
    @pytest.mark.parametrize("ending", [None, break_protocol, go_away])
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_the_responses_do_not_depend_on_the_packets(
        self, run: Run, ending: Callable[[Pair], bytes] | None, data: st.DataObject
    ) -> None:
        async def main(cut: Callable[[bytes], Iterator[bytes]] | None) -> list[Any]:
            pair = Pair()
            exchanges = [pair.get() for _ in range(4)]
            await pair.turn()
            respond_to_three(pair)
            stream = pair.server.data_to_send()
            if ending is not None:
                stream += ending(pair)
            # What comes after a GOAWAY, for a stream that it kept, counts as well.
            for piece in [stream] if cut is None else cut(stream):
                pair.connection.data_received(piece)
            await pair.turn()
            await pair.end()
            return [exchange.result for exchange in exchanges]

        whole_results = run(main(None))
        assert [result[0] for result in whole_results] == [200, 204, 404, 0]
        assert [result[4] for result in whole_results] == [True, True, True, False]
        assert whole_results[3][5] is (PeerProtocolError if ending is break_protocol else PeerClosedError)
        assert run(main(cutter(data.draw))) == whole_results

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_rubbish_ends_every_exchange_once(self, run: Run, data: st.DataObject) -> None:
        kinds = st.builds(
            frame,
            st.integers(0, 12),
            st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
            st.sampled_from([0, 1, 2, 3, 5, 7, 2**31 - 1]),
            st.binary(max_size=20) | st.sampled_from([bytes(4), bytes(5), bytes(8), b"\x88", b"\x88\x5c\x011"]),
        )

        async def main() -> None:
            pair = Pair()
            exchanges = [pair.get(), pair.get("POST", body=whole(b"x" * 100_000)), pair.get("HEAD")]
            await pair.turn()
            for rubbish in data.draw(st.lists(kinds | st.binary(max_size=30), max_size=8)):
                if not pair.transport.is_closing():
                    pair.connection.data_received(rubbish)
                if data.draw(st.booleans()):
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            await pair.end()
            # FakeIncoming sees to it that none was told twice.
            assert all(exchange.ended.is_set() for exchange in exchanges)

        run(main())
