"""One HTTP/1.1 connection: what comes back goes to who asked, and to nobody else; what is in doubt is closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.http.wirekit import FREE, GONE, FakeRequest, ManualLoop, Wire, body_of, error_of
from weft.http._wire.connection import H1Connection
from weft.http._wire.incoming import Incoming
from weft.http.errors import IncompleteBodyError, PeerClosedError, PeerProtocolError, SendError

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
LONG = OK + b"Content-Length: 1000000\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class TestKeepAlive:
    def test_many_responses(self) -> None:
        wire = Wire()
        for number in range(5):
            incoming = wire.ask()
            assert not wire.is_idle
            wire.come(HELLO.replace(b"hello", b"%05d" % number))
            assert (incoming.is_complete, body_of(incoming)) == (True, b"%05d" % number)
        assert wire.changes == [FREE] * 5 and wire.is_idle
        assert wire.transport.written == [FakeRequest().wire] * 5
        assert wire.ends == ["first_byte", "end"] * 5
        assert wire.transport.calls == []

    def test_byte_by_byte(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        for byte in HELLO[:-1]:
            wire.come(bytes([byte]))
            assert not incoming.is_ended and not wire.is_idle
        wire.come(HELLO[-1:])
        assert (incoming.is_complete, body_of(incoming), wire.is_idle) == (True, b"hello", True)

    def test_takes_one_at_a_time(self) -> None:
        wire = Wire()
        first = wire.ask()
        with pytest.raises(RuntimeError, match="takes no request"):
            wire.ask()
        wire.come(HELLO)
        assert first.is_complete and wire.is_idle

    @pytest.mark.parametrize("field", [b"Connection: close\r\n", b""])
    def test_server_wants_to_close(self, field: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        version = b"1.1" if field else b"1.0"
        wire.come(HELLO.replace(b"1.1", version).replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n"))
        assert incoming.is_complete
        assert wire.transport.calls == ["close"]
        wire.check_gone()
        assert body_of(incoming) == b"hello"

    def test_not_yet_connected(self) -> None:
        connection = H1Connection(ManualLoop())  # type: ignore[arg-type]
        assert (connection.room, connection.is_open) == (0, False)
        connection.close()
        connection.abort()
        assert "closed" in repr(connection)

    def test_repr(self) -> None:
        wire = Wire()
        assert "idle uses=0" in repr(wire.connection)
        wire.ask()
        assert "busy uses=1" in repr(wire.connection)


class TestUnasked:
    """Bytes that nobody asked for never become an answer."""

    @pytest.mark.parametrize("surplus", [b"\r\n", b"x", HELLO.replace(b"hello", b"WRONG"), b"\x00"])
    def test_behind_a_response(self, surplus: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO + surplus)
        assert incoming.is_complete and body_of(incoming) == b"hello"
        wire.check_gone()

    @pytest.mark.parametrize("end", [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n"])
    def test_behind_chunks(self, end: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(CHUNKED + b"5\r\nhel", b"lo\r\n" + end + HELLO)
        assert incoming.is_complete and body_of(incoming) == b"hello"
        wire.check_gone()

    @pytest.mark.parametrize("head", [b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 304 N\r\n\r\n"])
    def test_behind_what_has_no_body(self, head: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(head + b"hello")
        assert incoming.is_complete and body_of(incoming) == b""
        wire.check_gone()

    def test_behind_the_answer_to_a_head(self) -> None:
        wire = Wire()
        incoming = wire.ask("HEAD")
        wire.come(HELLO)
        assert incoming.is_complete and body_of(incoming) == b""
        wire.check_gone()

    def test_while_idle(self) -> None:
        wire = Wire()
        wire.ask()
        wire.come(HELLO)
        wire.come(b"HTTP/1.1 408 Timeout\r\n\r\n")
        assert wire.changes == [FREE, GONE], "the pool must not hand it out any more, from this moment on"
        wire.check_gone()

    def test_before_the_first_request(self) -> None:
        wire = Wire()
        wire.come(HELLO)
        wire.check_gone()
        assert wire.transport.calls == ["abort"]

    def test_after_it_was_closed(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO + b"x", HELLO, b"\x00")
        assert body_of(incoming) == b"hello"
        wire.check_gone()


class TestIdle:
    def test_eof(self) -> None:
        wire = Wire()
        wire.ask()
        wire.come(HELLO)
        assert not wire.connection.eof_received()
        assert wire.changes == [FREE, GONE], "it is known to be dead before the transport says so"
        wire.check_gone()

    @pytest.mark.parametrize("error", [None, ConnectionResetError(), OSError("gone")])
    def test_lost(self, error: Exception | None) -> None:
        wire = Wire()
        wire.transport.lose(error)
        wire.check_gone()

    @pytest.mark.parametrize("how", ["close", "abort"])
    def test_closed_by_the_pool(self, how: str) -> None:
        wire = Wire()
        getattr(wire.connection, how)()
        assert wire.transport.calls == [how]
        wire.check_gone()


ENDS: list[Callable[[Wire], None]] = [
    lambda wire: wire.eof(),
    lambda wire: wire.transport.lose(),
    lambda wire: wire.transport.lose(ConnectionResetError("reset")),
    lambda wire: wire.transport.lose(BrokenPipeError("pipe")),
    lambda wire: wire.abort(),
]


class TestEndOfConnection:
    @pytest.mark.parametrize("end", ENDS)
    @pytest.mark.parametrize(
        "message", [HELLO, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n" + HELLO]
    )
    def test_at_every_byte(self, message: bytes, end: Callable[[Wire], None]) -> None:
        for size in range(len(message)):
            wire = Wire()
            incoming = wire.ask()
            if size:
                wire.come(message[:size])
            end(wire)
            wire.check_gone()
            error = error_of(incoming)
            assert isinstance(error, IncompleteBodyError if size else PeerClosedError | SendError), size
            assert incoming.was_answered == (b"\r\n\r\n" in message[:size].removeprefix(b"HTTP/1.1 100 C\r\n\r\n"))
            assert wire.ends == (["first_byte"] if incoming.was_answered else []) + ["end"]
            assert str(incoming.request.url) in str(error)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [(None, PeerClosedError), (ConnectionResetError("x"), PeerClosedError), (BrokenPipeError("x"), SendError)],
    )
    @pytest.mark.parametrize("is_reused", [False, True])
    def test_without_an_answer(self, error: Exception | None, kind: type[Exception], is_reused: bool) -> None:
        wire = Wire()
        if is_reused:
            wire.ask()
            wire.come(HELLO)
        incoming = wire.ask()
        wire.transport.lose(error)
        found = error_of(incoming)
        assert type(found) is kind and found.__cause__ is error
        assert vars(found)["was_reused"] == is_reused, "only what died while it was idle is asked again"

    @pytest.mark.parametrize("end", ENDS[:2])
    def test_is_the_end_of_a_body_without_framing(self, end: Callable[[Wire], None]) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(OK + b"\r\nhel", b"lo")
        assert not incoming.is_ended
        end(wire)
        assert incoming.is_complete and body_of(incoming) == b"hello"
        wire.check_gone()

    @pytest.mark.parametrize("end", [*ENDS[2:], lambda wire: wire.connection.close()])
    def test_is_no_end_if_it_broke_or_this_side_closed(self, end: Callable[[Wire], None]) -> None:
        """What came is not all, and whoever reads it must not be told so."""
        wire = Wire()
        incoming = wire.ask()
        wire.come(OK + b"\r\nhello")
        end(wire)
        wire.loop.turn()
        assert incoming.take() == b"hello"
        assert isinstance(error_of(incoming), IncompleteBodyError)
        wire.check_gone()


class TestInvalid:
    @pytest.mark.parametrize(
        "data",
        [b"nonsense", OK + b"X : y\r\n\r\n", b"HTTP/1.1 101 S\r\n\r\n", CHUNKED + b"x", CHUNKED + b"5\r\nhello!",
         OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"],
    )  # fmt: skip
    def test_fails_and_closes(self, data: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(data)
        assert wire.transport.calls == ["abort"]
        wire.come(HELLO)  # on its way already
        wire.check_gone()
        assert isinstance(error_of(incoming), PeerProtocolError)

    def test_what_came_before_can_be_read(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(CHUNKED + b"5\r\nhello\r\nx")
        assert incoming.take() == b"hello"
        assert isinstance(error_of(incoming), PeerProtocolError)


class TestInterim:
    @pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: <x>\r\n\r\n"])
    def test_nobody_is_told(self, interim: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        waiter = incoming.changed()
        wire.come(interim)
        assert not waiter.done() and not incoming.was_answered
        wire.come(interim + HELLO)
        assert waiter.done() and (incoming.status, body_of(incoming)) == (200, b"hello")
        assert wire.is_idle and wire.ends == ["first_byte", "end"]


class TestReader:
    def test_slow(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(LONG)
        while "pause" not in wire.transport.calls:
            wire.come(b"x" * 65536)
        assert wire.transport.calls == ["pause"]
        wire.come(b"x" * 65536)  # on its way already
        assert wire.transport.calls == ["pause"]
        while "resume" not in wire.transport.calls:
            assert incoming.take_some(50_000)
        assert incoming.take(), "it reads on before all is taken, so that the reader need not wait"
        assert wire.transport.calls == ["pause", "resume"]

    def test_complete_while_paused(self) -> None:
        """The next response would never come."""
        wire = Wire()
        incoming = wire.ask()
        wire.come(LONG + b"x" * 600_000)
        assert wire.transport.calls == ["pause"]
        wire.come(b"x" * 400_000)
        assert incoming.is_complete and wire.transport.calls == ["pause", "resume"]
        assert len(body_of(incoming)) == 1_000_000
        second = wire.ask()
        wire.come(HELLO)
        assert body_of(second) == b"hello"

    def test_wants_all(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(LONG + b"x" * 600_000)
        incoming.want_all()
        wire.come(b"x" * 399_999)
        assert wire.transport.calls == ["pause", "resume"]

    def test_lost_while_paused(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(LONG + b"x" * 600_000)
        wire.transport.lose()
        assert len(incoming.take() or b"") == 600_000
        assert isinstance(error_of(incoming), IncompleteBodyError)
        wire.check_gone()


class TestAbandoned:
    def test_before_the_answer(self) -> None:
        wire = Wire()
        wire.ask().release()
        assert wire.transport.calls == ["abort"]
        wire.check_gone()

    @pytest.mark.parametrize("start", [LONG, CHUNKED + b"5\r\nhe", OK + b"\r\nhel", OK])
    def test_too_much_is_left(self, start: bytes) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(start)
        incoming.release()
        assert wire.transport.calls == ["abort"]
        wire.check_gone()

    def test_little_is_left(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO[:-2])
        incoming.release()
        assert wire.transport.calls == [] and not wire.is_idle
        wire.come(HELLO[-2:])
        assert wire.is_idle and wire.changes == [FREE] and wire.loop.due() == []
        second = wire.ask()
        wire.come(HELLO)
        assert second.is_complete and body_of(second) == b"hello"

    def test_little_is_left_and_paused(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(LONG + b"x" * 990_000)
        assert wire.transport.calls == ["pause"]
        incoming.release()
        assert wire.transport.calls == ["pause", "resume"]
        wire.come(b"x" * 10_000)
        assert wire.is_idle

    def test_the_rest_does_not_come(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO[:-2])
        incoming.release()
        wire.loop.advance(5)
        assert wire.transport.calls == ["abort"]
        wire.check_gone()

    def test_lost_while_the_rest_comes(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO[:-2])
        incoming.release()
        wire.transport.lose()
        assert wire.loop.due() == []
        wire.check_gone()

    def test_the_rest_is_followed_by_more(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO[:-2])
        incoming.release()
        wire.come(HELLO[-2:] + b"x")
        wire.check_gone()

    def test_would_be_closed_anyway(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")[:-2])
        incoming.release()
        assert wire.transport.calls == ["abort"]

    def test_twice_and_after_the_end(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        wire.come(HELLO)
        incoming.release()
        incoming.release()
        assert wire.is_idle and body_of(incoming) == b"hello" and wire.ends == ["first_byte", "end"]


class TestIncoming:
    def test_waiting_for_what_has_ended(self) -> None:
        """An exchange may fail before its maker comes to wait for it."""
        wire = Wire()
        incoming = Incoming(FakeRequest(), wire.loop)  # type: ignore[arg-type]
        incoming.fail(PeerClosedError())
        assert incoming.changed().done()

    def test_one_reader(self) -> None:
        incoming = Wire().ask()
        incoming.changed()
        with pytest.raises(RuntimeError, match="another task"):
            incoming.changed()

    def test_reader_that_went_away_makes_room_for_another(self) -> None:
        wire = Wire()
        incoming = wire.ask()
        incoming.changed().cancel()
        waiter = incoming.changed()
        wire.come(HELLO)
        assert waiter.done()
