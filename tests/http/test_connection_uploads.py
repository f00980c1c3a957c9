"""Requests whose body goes up in pieces: exactly what was announced is sent, or the exchange fails and closes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http.wirekit import FREE, URL, Body, FakeRequest, FakeTransport, ManualLoop, Wire, body_of, error_of
from weft.http._wire.connection import H1Connection
from weft.http._wire.deadlines import Deadlines
from weft.http._wire.incoming import Incoming
from weft.http.errors import BodyError, FirstByteTimeoutError, PeerClosedError, TotalTimeoutError
from weft.http.settings import Timeout

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEAD = FakeRequest().wire


def sent(wire: Wire) -> bytes:
    """What was written behind the head."""
    written = b"".join(wire.transport.written)
    assert written.startswith(HEAD)
    return written[len(HEAD) :]


class TestWhole:
    @pytest.mark.parametrize(
        ("body", "bytes_sent"),
        [
            (Body([b"ab", b"c"], 3), b"abc"),
            (Body([], 0), b""),
            (Body([b"ab", b"c" * 17]), b"2\r\nab\r\n11\r\n" + b"c" * 17 + b"\r\n0\r\n\r\n"),
            (Body([]), b"0\r\n\r\n"),
        ],
    )
    def test_framing(self, body: Body, bytes_sent: bytes) -> None:
        wire = Wire()
        incoming = wire.ask("POST", body=body)
        assert sent(wire) == bytes_sent and body.was_closed
        wire.come(HELLO)
        assert incoming.is_complete and wire.changes == [FREE]
        assert wire.ask("POST", body=Body([b"x"], 1)) is not None

    def test_waits_for_the_peer(self) -> None:
        wire = Wire()
        body = Body([b"a", b"b", b"c"], 3)
        wire.connection.pause_writing()
        wire.ask("POST", body=body)
        assert (sent(wire), body.taken) == (b"a", 1)
        wire.connection.resume_writing()
        wire.connection.pause_writing()
        wire.loop.turn()
        assert sent(wire) == b"ab"
        wire.connection.resume_writing()
        wire.loop.turn()
        assert sent(wire) == b"abc" and body.was_closed

    def test_with_eager_tasks(self) -> None:
        """A body that is sent before ``create_task`` returns is no reason to close the connection."""

        class EagerLoop(ManualLoop):
            def create_task(self, coroutine: Any) -> asyncio.Task[Any]:
                task = super().create_task(coroutine)
                self.turn()
                return task

        for body, closes in ((Body([b"ab"], 2), False), (Body([b"ab"], 3), True)):
            wire = Wire(EagerLoop())
            incoming = wire.ask("POST", body=body)
            assert incoming.changed().done() == closes, "who comes to wait for what has failed waits for ever"
            if closes:
                assert isinstance(error_of(incoming), BodyError)
                wire.check_gone()
            else:
                wire.come(HELLO)
                assert wire.changes == [FREE]


class TestWrong:
    @pytest.mark.parametrize("pieces", [[b"ab"], [], [b"ab", b"cd"], [b"a", b"bcde"]])
    def test_length(self, pieces: list[bytes]) -> None:
        wire = Wire()
        incoming = wire.ask("POST", body=Body(pieces, 3))
        assert isinstance(error_of(incoming), BodyError)
        assert len(sent(wire)) <= 3, "more than announced would be the next request"
        wire.check_gone()

    @pytest.mark.parametrize("error", [ValueError("mine"), OSError("disk"), BodyError("read twice")])
    @pytest.mark.parametrize("length", [None, 100])
    def test_source_fails(self, error: Exception, length: int | None) -> None:
        wire = Wire()
        incoming = wire.ask("POST", body=Body([b"a", error], length))
        assert incoming.error is error and incoming.is_ended
        assert not sent(wire).endswith(b"0\r\n\r\n"), "the server would take it for whole"
        assert wire.transport.calls == ["abort"]
        wire.check_gone()

    def test_source_fails_after_an_early_answer_began(self) -> None:
        wire = Wire()
        wait = wire.loop.create_future()
        incoming = wire.ask("POST", body=Body([b"a", wait], 2))
        wire.come(HELLO[:-1])
        wait.set_exception(ValueError("mine"))
        wire.loop.turn()
        assert incoming.take() == b"hell" and isinstance(incoming.error, ValueError)
        wire.check_gone()


class TestCutShort:
    def test_early_answer(self) -> None:
        """The server has said what it has to say: the rest is not sent, and the connection is of no more use."""
        wire = Wire()
        body = Body([b"a", wire.loop.create_future(), b"b"])
        incoming = wire.ask("POST", body=body)
        wire.come(HELLO.replace(b"200 OK", b"413 No"))
        assert (incoming.status, body_of(incoming)) == (413, b"hello")
        wire.loop.turn()
        assert body.was_closed and body.taken == 1 and sent(wire) == b"1\r\na\r\n"
        assert wire.transport.calls == ["abort"]
        wire.check_gone()

    def test_answer_that_comes_while_it_is_sent(self) -> None:
        """As long as it is not whole the upload goes on: a server may echo."""
        wire = Wire()
        wait = wire.loop.create_future()
        body = Body([b"a", wait, b"b"], 2)
        incoming = wire.ask("POST", body=body)
        wire.come(HELLO[:-1])
        wait.set_result(None)
        wire.loop.turn()
        assert sent(wire) == b"ab"
        wire.come(HELLO[-1:])
        assert incoming.is_complete and wire.changes == [FREE]

    @pytest.mark.parametrize("is_waiting_for", ["source", "peer"])
    def test_connection_lost(self, is_waiting_for: str) -> None:
        wire = Wire()
        body = Body([b"a", wire.loop.create_future(), b"b"] if is_waiting_for == "source" else [b"a", b"b"], 2)
        if is_waiting_for == "peer":
            wire.connection.pause_writing()
        incoming = wire.ask("POST", body=body)
        wire.transport.lose(ConnectionResetError())
        wire.loop.turn()
        assert isinstance(error_of(incoming), PeerClosedError)
        assert body.was_closed and body.taken == 1
        wire.check_gone()

    def test_abandoned(self) -> None:
        wire = Wire()
        body = Body([b"a", wire.loop.create_future(), b"b"], 2)
        incoming = wire.ask("POST", body=body)
        wire.come(HELLO[:-1])
        incoming.release()
        wire.loop.turn()
        assert body.was_closed and wire.transport.calls == ["abort"]
        wire.check_gone()

    def test_switched(self) -> None:
        wire = Wire()
        body = Body([b"a", wire.loop.create_future(), b"b"], 2)
        incoming = wire.ask("GET", body=body, may_switch=True)
        wire.come(b"HTTP/1.1 101 S\r\n\r\n")
        wire.loop.turn()
        assert incoming.tunnel is not None and body.was_closed and sent(wire) == b"a"


class TestTime:
    """The limit on the first byte begins when the request is sent; what its maker is slow with is not the peer's."""

    TIMEOUT = Timeout(total=1000, first_byte=10, idle=10)

    def ask(
        self, body: Body, loop: Any = None, *, is_paused: bool = False
    ) -> tuple[ManualLoop, H1Connection, Incoming]:
        loop = loop or ManualLoop()
        deadlines = Deadlines(loop)
        connection = H1Connection(loop)
        connection.connection_made(FakeTransport(loop, connection))  # type: ignore[arg-type]
        if is_paused:
            connection.pause_writing()
        request = FakeRequest("POST", URL, self.TIMEOUT, body=body)
        incoming = Incoming(request, loop, deadlines, loop.time() + 1000)
        connection.exchange(request, incoming)
        loop.turn()
        return loop, connection, incoming

    def test_slow_source(self) -> None:
        loop = ManualLoop()
        wait = loop.create_future()
        body = Body([b"a", wait], 1)
        _, _, incoming = self.ask(body, loop)
        loop.advance(500)
        assert not incoming.is_ended
        wait.set_result(None)
        loop.turn()
        loop.advance(9)
        assert not incoming.is_ended and body.was_closed
        loop.advance(2)
        assert isinstance(incoming.error, FirstByteTimeoutError)

    def test_slow_source_and_total(self) -> None:
        loop = ManualLoop()
        body = Body([b"a", loop.create_future()], 1)
        _, _, incoming = self.ask(body, loop)
        loop.advance(1001)
        assert isinstance(incoming.error, TotalTimeoutError) and body.was_closed

    def test_peer_that_does_not_read(self) -> None:
        loop, _, incoming = self.ask(Body([b"a", b"b"], 2), is_paused=True)
        loop.advance(11)
        assert isinstance(incoming.error, FirstByteTimeoutError)

    def test_peer_that_reads_slowly(self) -> None:
        loop, connection, incoming = self.ask(Body([b"a"] * 9, 9), is_paused=True)
        for _ in range(8):
            loop.advance(9)
            connection.resume_writing()
            connection.pause_writing()
            loop.turn()
            assert not incoming.is_ended
        loop.advance(11)
        assert isinstance(incoming.error, FirstByteTimeoutError)
