"""A connection that is HTTP's no more: nothing that came is lost at the seam, and its end is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.http.wirekit import GONE, FakeTransport, ManualLoop, Wire
from weft.http.tunnel import HIGH_WATER, Tunnel

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"


def begun(wire: Any, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task on the loop that turns when told to, as far as it comes."""
    task: asyncio.Task[Any] = wire.loop.create_task(coroutine)
    wire.loop.turn()
    return task


def switched(*pieces: bytes, method: str = "GET") -> tuple[Wire, Tunnel]:
    wire = Wire()
    incoming = wire.ask(method, may_switch=method == "GET")
    wire.come(*pieces)
    assert incoming.is_complete and isinstance(incoming.tunnel, Tunnel)
    assert wire.transport.protocol is incoming.tunnel
    return wire, incoming.tunnel


class TestSwitch:
    @pytest.mark.parametrize("pieces", [[SWITCH + b"first"], [SWITCH[:30], SWITCH[30:] + b"first"], [SWITCH, b"first"]])
    def test_bytes_behind_the_head(self, pieces: list[bytes]) -> None:
        wire, tunnel = switched(*pieces)
        assert begun(wire, tunnel.read()).result() == b"first"
        wire.come(b"second")
        assert begun(wire, tunnel.read()).result() == b"second"

    def test_connect(self) -> None:
        wire, tunnel = switched(b"HTTP/1.1 200 Established\r\nContent-Length: 3\r\n\r\nabcdef", method="CONNECT")
        assert begun(wire, tunnel.read()).result() == b"abcdef"

    def test_connection_takes_no_request_and_counts_until_the_end(self) -> None:
        wire, tunnel = switched(SWITCH)
        assert (wire.connection.room, wire.connection.is_open) == (0, False)
        assert wire.changes == [], "the pool still counts it"
        wire.transport.lose()
        assert wire.changes == [GONE]
        wire.check_gone()

    def test_pool_can_close_it(self) -> None:
        wire, tunnel = switched(SWITCH)
        wire.connection.abort()
        wire.loop.turn()
        assert wire.changes == [GONE] and begun(wire, tunnel.read()).result() == b""

    def test_refused(self) -> None:
        wire = Wire()
        incoming = wire.ask(may_switch=True)
        wire.come(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
        assert incoming.tunnel is None and wire.is_idle


class Piped:
    """A tunnel by itself."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.transport = FakeTransport(self.loop)
        self.losses: list[BaseException | None] = []
        self.tunnel = Tunnel(self.loop, self.transport, b"", self.losses.append)  # type: ignore[arg-type]
        self.transport.protocol = self.tunnel


class TestRead:
    def test_waits(self) -> None:
        piped = Piped()
        task = begun(piped, piped.tunnel.read())
        assert not task.done()
        piped.tunnel.data_received(b"a")
        piped.loop.turn()
        assert task.result() == b"a"

    def test_cancelled_loses_nothing(self) -> None:
        piped = Piped()
        task = begun(piped, piped.tunnel.read())
        task.cancel()
        piped.tunnel.data_received(b"a")
        piped.loop.turn()
        assert task.cancelled()
        assert begun(piped, piped.tunnel.read()).result() == b"a"

    def test_one_reader(self) -> None:
        piped = Piped()
        first, second = begun(piped, piped.tunnel.read()), begun(piped, piped.tunnel.read())
        with pytest.raises(RuntimeError, match="another task"):
            second.result()
        piped.tunnel.data_received(b"a")
        piped.loop.turn()
        assert first.result() == b"a"

    @pytest.mark.parametrize("end", ["eof", "lost"])
    def test_end(self, end: str) -> None:
        piped = Piped()
        task = begun(piped, piped.tunnel.read())
        piped.tunnel.data_received(b"last")
        if end == "eof":
            assert not piped.tunnel.eof_received()
        else:
            piped.transport.lose()
        piped.loop.turn()
        assert task.result() == b"last"
        assert [begun(piped, piped.tunnel.read()).result() for _ in range(2)] == [b"", b""]

    def test_broken(self) -> None:
        piped = Piped()
        piped.tunnel.data_received(b"last")
        piped.transport.lose(ConnectionResetError("reset"))
        assert piped.losses and isinstance(piped.losses[0], ConnectionResetError)
        assert begun(piped, piped.tunnel.read()).result() == b"last"
        with pytest.raises(ConnectionResetError):
            begun(piped, piped.tunnel.read()).result()

    def test_slow_reader_stops_the_peer(self) -> None:
        piped = Piped()
        for _ in range(3):
            piped.tunnel.data_received(b"x" * (HIGH_WATER // 2 + 1))
        assert piped.transport.calls == ["pause"]
        begun(piped, piped.tunnel.read())
        begun(piped, piped.tunnel.read())
        assert piped.transport.calls == ["pause", "resume"]


class TestWrite:
    def test_goes_to_the_transport(self) -> None:
        piped = Piped()
        piped.tunnel.write(b"a")
        assert piped.transport.written == [b"a"]
        assert piped.tunnel.get_extra_info("peername") == ("192.0.2.1", 80)
        assert piped.tunnel.get_extra_info("nothing", 7) == 7
        piped.tunnel.close()
        piped.tunnel.abort()
        assert piped.transport.calls == ["close", "abort"]
        piped.loop.turn()

    def test_drain(self) -> None:
        piped = Piped()
        assert begun(piped, piped.tunnel.drain()).done()
        piped.tunnel.pause_writing()
        first, second = begun(piped, piped.tunnel.drain()), begun(piped, piped.tunnel.drain())
        first.cancel()
        piped.loop.turn()
        assert first.cancelled() and not second.done(), "one who goes away takes nobody with it"
        piped.tunnel.resume_writing()
        piped.loop.turn()
        assert second.result() is None

    def test_drain_of_what_breaks(self) -> None:
        piped = Piped()
        piped.tunnel.pause_writing()
        task = begun(piped, piped.tunnel.drain())
        piped.transport.lose(ConnectionResetError("reset"))
        piped.loop.turn()
        for one in (task, begun(piped, piped.tunnel.drain())):
            with pytest.raises(ConnectionResetError):
                one.result()

    def test_repr(self) -> None:
        piped = Piped()
        assert "open unread=0" in repr(piped.tunnel)
        piped.transport.lose()
        assert "ended" in repr(piped.tunnel)
