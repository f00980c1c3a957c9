"""Stream transports where something goes wrong or is in the way: protocols that raise, flow control, contexts,
descriptors whose number is used again, and runs that are left in the middle.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
from typing import Any

import pytest

from tests.core.kit import reports_of, turns
from tests.core.streams import NOISE, BufferedLog, Log, connected, received, until
from weft import versions

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class TestProtocolsThatRaise:
    def failing(self, method: str, error: BaseException, base: type[Any] = Log) -> Any:
        """A protocol whose ``method`` does what it does and then, the first time, raises."""
        errors = [error]

        def fail(self: Any, *args: Any) -> Any:
            result = getattr(base, method)(self, *args)
            if errors:
                raise errors.pop()
            return result

        return type("Failing", (base,), {method: fail})

    @pytest.mark.parametrize("method", ["data_received", "eof_received"])
    def test_in_receiving(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        reports = reports_of(loop)
        with connected(loop, self.failing(method, LookupError(method))()) as (transport, protocol, peer):
            peer.send(b"data")
            if method == "eof_received":
                peer.shutdown(socket.SHUT_WR)
            until(loop, lambda: protocol.is_lost)
            assert protocol.events[-1] == ("lost", "LookupError")
            (report,) = reports
            assert report["message"] == f"Fatal error: protocol.{method}() call failed."
            assert report["transport"] is transport
            assert report["protocol"] is protocol
            assert isinstance(report["exception"], LookupError)
            reports.clear()

    @pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
    def test_in_buffered_receiving(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        reports = reports_of(loop)
        with connected(loop, self.failing(method, LookupError(method), BufferedLog)(10)) as (_, protocol, peer):
            peer.send(b"data")
            until(loop, lambda: protocol.lost)
            assert protocol.lost == ["LookupError"]
            (report,) = reports
            assert report["message"] == f"Fatal error: protocol.{method}() call failed."
            reports.clear()

    def test_an_oserror_is_the_networks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Of the protocol's, too: asyncio reports no OSError, as the peer may be to blame."""
        reports = reports_of(loop)
        with connected(loop, self.failing("data_received", TimeoutError())()) as (_, protocol, peer):
            peer.send(b"data")
            until(loop, lambda: protocol.is_lost)
            assert protocol.events[-1] == ("lost", "TimeoutError")
        assert not reports

    def test_in_connection_made(self, loop: asyncio.AbstractEventLoop) -> None:
        """It is reported; the connection stands, as in asyncio."""
        reports = reports_of(loop)
        with connected(loop, self.failing("connection_made", LookupError())()) as (_, protocol, peer):
            assert len(reports) == 1
            peer.send(b"data")
            until(loop, lambda: protocol.data)
            reports.clear()

    def test_in_connection_lost(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        with connected(loop, self.failing("connection_lost", LookupError())()) as (transport, protocol, peer):
            transport.close()
            until(loop, lambda: protocol.is_lost)
            turns(loop)
            assert len(reports) == 1
            assert peer.recv(1) == b""  # closed all the same
            reports.clear()

    @pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
    def test_in_flow_control(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        """It is reported, and the data goes on."""
        reports = reports_of(loop)
        with connected(loop, self.failing(method, LookupError())(), buffers=4096) as (transport, protocol, peer):
            transport.write(NOISE)
            assert received(loop, peer, len(NOISE)) == NOISE
            turns(loop, 2)
            (report,) = reports
            assert report["message"] == f"protocol.{method}() failed"
            assert not protocol.is_lost
            reports.clear()

    @pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost", "connection_made"])
    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_the_two_that_leave_the_loop(
        self, loop: asyncio.AbstractEventLoop, method: str, kind: type[BaseException]
    ) -> None:
        """The run ends, the loop can run again, and the connection can be closed."""
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        protocol = self.failing(method, kind())()

        async def main() -> None:
            transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            if method == "connection_lost":
                transport.close()
            await loop.create_future()

        task = loop.create_task(main())
        with pytest.raises(kind):
            loop.run_until_complete(task)
        task.cancel()
        turns(loop, 2)
        protocol.transport.abort()
        turns(loop, 3)
        assert protocol.is_lost
        peer.close()

    def test_without_the_methods(self, loop: asyncio.AbstractEventLoop) -> None:
        """A protocol that lacks a method fails when that is called, not before."""
        reports = reports_of(loop)

        class Bare:
            transport: Any = None
            lost = False

            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def connection_lost(self, exc: BaseException | None) -> None:
                self.lost = True

        with connected(loop, Bare()) as (_, protocol, peer):
            assert not reports
            peer.send(b"data")
            until(loop, lambda: protocol.lost)
            assert len(reports) == 1
            reports.clear()


class TestFlow:
    def test_the_kernel_is_asked_first(self, loop: asyncio.AbstractEventLoop) -> None:
        """What the kernel takes is no reason to pause, however low the mark."""
        with connected(loop) as (transport, protocol, peer):

            def write() -> None:
                transport.set_write_buffer_limits(high=0)
                for _ in range(3):
                    transport.write(b"x")
                    assert transport.get_write_buffer_size() == 0

            loop.call_soon(write)
            turns(loop, 3)
            assert received(loop, peer, 3) == b"xxx"
            assert protocol.events == [("made",)]

    def test_pauses_above_high_and_resumes_at_low(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, buffers=4096) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=50_000, low=10_000)
            assert transport.get_write_buffer_limits() == (10_000, 50_000)
            written = 0
            while ("pause",) not in protocol.events:
                transport.write(NOISE[written : written + 1000])
                written += 1000
                turns(loop)
            assert 50_000 < transport.get_write_buffer_size() <= 51_000
            got = b""
            while ("resume",) not in protocol.events:
                assert transport.get_write_buffer_size() > 10_000
                got += received(loop, peer, 1000)
                turns(loop)
            assert transport.get_write_buffer_size() <= 10_000
            got += received(loop, peer, written - len(got))
            assert got == NOISE[:written]
            assert protocol.events == [("made",), ("pause",), ("resume",)]

    def test_limits(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, _, _):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits()
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            for high, low in ((1, 2), (-1, None), (5, -1)):
                with pytest.raises(ValueError, match="must be >="):
                    transport.set_write_buffer_limits(high, low)
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)

    def test_writing_in_resume_writing(self, loop: asyncio.AbstractEventLoop) -> None:
        class Eager(Log):
            rounds = 0

            def resume_writing(self) -> None:
                super().resume_writing()
                if self.rounds < 5:
                    self.rounds += 1
                    self.transport.write(NOISE[:200_000])

        with connected(loop, Eager(), buffers=4096) as (transport, protocol, peer):
            transport.write(NOISE[:200_000])
            assert received(loop, peer, 1_200_000) == NOISE[:200_000] * 6
            turns(loop, 2)
            assert protocol.events == [("made",)] + [("pause",), ("resume",)] * 6

    @pytest.mark.parametrize("how", ["close", "abort", "write_eof"])
    def test_ending_in_resume_writing(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        class Ending(Log):
            def resume_writing(self) -> None:
                super().resume_writing()
                getattr(self.transport, how)()

        with connected(loop, Ending(), buffers=4096) as (transport, protocol, peer):
            transport.set_write_buffer_limits(0)
            transport.write(NOISE[:300_000])
            assert received(loop, peer, 300_001) == NOISE[:300_000]
            turns(loop, 3)
            if how != "write_eof":
                assert protocol.events[-1] == ("lost", "NoneType")

    @pytest.mark.parametrize("how", ["close", "abort", "write_eof"])
    def test_ending_in_pause_writing(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        class Ending(Log):
            def pause_writing(self) -> None:
                super().pause_writing()
                getattr(self.transport, how)()

        with connected(loop, Ending(), buffers=4096) as (transport, protocol, peer):
            loop.call_soon(transport.write, NOISE[:300_000])
            got = received(loop, peer, 300_001)
            turns(loop, 3)
            assert NOISE.startswith(got)
            if how != "abort":
                assert len(got) == 300_000
            if how != "write_eof":
                assert protocol.events[-1] == ("lost", "NoneType")


class TestContext:
    """Protocols are called in the contexts in which asyncio calls them: from 3.15 on, all in one."""

    class Look(Log):
        def look(self, where: str, then: str = "") -> None:
            self.events.append((where, variable.get()))
            if then:
                variable.set(then)

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.look("made", "set in made")

        def data_received(self, data: bytes) -> None:
            self.look("data", "set in data")

        def eof_received(self) -> bool:
            self.look("eof", "set in eof")
            return False

        def connection_lost(self, exc: BaseException | None) -> None:
            self.look("lost")

    def play(self, loop: asyncio.AbstractEventLoop, how: str) -> list[Any]:
        async def connect(sock: socket.socket) -> tuple[Any, Any]:
            variable.set("creator")
            return await loop.create_connection(self.Look, sock=sock)

        async def close(transport: Any) -> None:
            variable.set("closer")
            getattr(transport, how)()

        async def main() -> list[Any]:
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            transport, protocol = await asyncio.create_task(connect(ours))
            for _ in range(2):
                peer.send(b"data")
                await self.until_events(protocol, len(protocol.events) + 1)
            if how == "reset":
                transport.write(b"never read")
                await asyncio.sleep(0.001)
                peer.close()
            elif how == "eof":
                peer.close()
            else:
                await asyncio.create_task(close(transport))
            while not protocol.is_lost:
                await asyncio.sleep(0)
            peer.close()
            return list(protocol.events)

        variable.set("unset")
        return loop.run_until_complete(main())

    async def until_events(self, protocol: Log, count: int) -> None:
        while len(protocol.events) < count:
            await asyncio.sleep(0)

    @pytest.mark.parametrize("how", ["eof", "reset", "close", "abort"])
    def test_is_asyncios(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        events = self.play(loop, how)
        first = "set in made" if versions.STREAM_HAS_ONE_CONTEXT else "creator"
        expected = [("made", "creator"), ("data", first), ("data", "set in data")]
        if how == "eof":
            expected += [("eof", "set in data"), ("lost", "set in eof")]
        elif how == "reset" or versions.STREAM_HAS_ONE_CONTEXT:
            expected += [("lost", "set in data")]
        else:
            expected += [("lost", "closer")]
        assert events == expected

    def test_two_connections_do_not_share_one(self, loop: asyncio.AbstractEventLoop) -> None:
        first, second = self.Look(), self.Look()
        then = "set in made" if versions.STREAM_HAS_ONE_CONTEXT else "unset"
        with connected(loop, first) as (_, _, peer), connected(loop, second) as (_, _, other):
            for sock, protocol in ((peer, first), (other, second)):
                sock.send(b"data")
                until(loop, lambda: len(protocol.events) == 2)  # noqa: B023  # called before the next round
            assert first.events == second.events == [("made", "unset"), ("data", then)]
        assert variable.get() == "unset"


class TestDescriptor:
    def test_is_closed_once_although_its_number_is_used_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """The number that a closed transport had belongs to whoever opens the next file: nothing may close that."""
        with connected(loop) as (transport, protocol, _):
            number = transport.get_extra_info("socket").fileno()
            sock = transport.get_extra_info("socket")
            transport.close()
            until(loop, lambda: protocol.is_lost)
            reader, writer = os.pipe()
            try:
                if number not in (reader, writer):
                    os.dup2(reader, number)
                transport.abort()
                transport.close()
                transport.resume_reading()
                transport.write(b"must go nowhere")
                turns(loop, 3)
                assert sock.fileno() == -1
                del transport, sock
                turns(loop)
                os.fstat(number)
                assert os.get_blocking(number)
                os.set_blocking(reader, False)
                with pytest.raises(BlockingIOError):
                    os.read(reader, 1)
            finally:
                for fd in {reader, writer, number}:
                    os.close(fd)

    def test_what_a_dead_connection_wrote_does_not_reach_the_next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connections come and go on the same few numbers, each with data under way when it is aborted."""
        for index in range(20):
            with connected(loop, buffers=4096) as (transport, _, peer):
                mark = f"<{index}>".encode()
                transport.write(mark)
                transport.write(bytes([index]) * 100_000)
                got = received(loop, peer, len(mark) + 10)
                assert got == mark + bytes([index]) * 10
                transport.abort()

    def test_event_for_a_transport_that_another_has_aborted(self, loop: asyncio.AbstractEventLoop) -> None:
        """Both are readable in one batch; whoever is called first ends the other, who must hear of no data."""
        logs: list[Any] = []

        class Rival(Log):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                for log in logs:
                    if log is not self:
                        log.transport.abort()

        logs += [Rival(), Rival()]
        with connected(loop, logs[0]) as (_, _, first), connected(loop, logs[1]) as (_, _, second):
            first.send(b"data")
            second.send(b"data")
            until(loop, lambda: any(log.is_lost for log in logs))
            turns(loop, 3)
            assert sorted(bytes(log.data) for log in logs) == [b"", b"data"]

    def test_extra_info(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, _, peer):
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert transport.get_extra_info("nothing") is None
            assert transport.get_extra_info("nothing", "default") == "default"
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock.type == socket.SOCK_STREAM
            for method in ("close", "recv", "send"):
                assert not hasattr(sock, method)

    def test_users_may_not_watch_it(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, _, _):
            sock = transport.get_extra_info("socket")
            for method in (loop.add_reader, loop.add_writer):
                with pytest.raises(RuntimeError, match=r"File descriptor .* is used by transport"):
                    method(sock, print)
            for remove in (loop.remove_reader, loop.remove_writer):
                with pytest.raises(RuntimeError, match=r"File descriptor .* is used by transport"):
                    remove(sock)

    def test_is_an_asyncio_transport(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, _):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            assert transport.get_protocol() is protocol
            vars(transport)["mark"] = "transports take attributes"
            assert getattr(transport, "mark")  # noqa: B009 (the type has none)


class TestLeaving:
    def test_a_flush_that_is_left(self, loop: asyncio.AbstractEventLoop) -> None:
        """One protocol's KeyboardInterrupt at the end of a turn must not keep what the others wrote."""

        class Leaving(Log):
            def resume_writing(self) -> None:
                raise KeyboardInterrupt

        with (
            connected(loop) as (first, _, first_peer),
            connected(loop, Leaving()) as (leaving, _, peer),
            connected(loop) as (second, _, second_peer),
        ):

            def write() -> None:
                first.write(b"first")
                leaving.write(b"leaving")
                leaving.set_write_buffer_limits(0)  # on weft the data is still there, so this pauses
                second.write(b"second")

            loop.call_soon(write)
            try:
                turns(loop)
            except KeyboardInterrupt:
                turns(loop)
            second.write(b" and third")
            loop.call_soon(second.write, b" and fourth")
            assert received(loop, first_peer, 5) == b"first"
            assert received(loop, peer, 7) == b"leaving"
            assert received(loop, second_peer, 27) == b"second and third and fourth"

    def test_writes_before_the_interrupt_leave(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, _, peer):

            def write_and_leave() -> None:
                transport.write(b"written")
                raise KeyboardInterrupt

            loop.call_soon(write_and_leave)
            with pytest.raises(KeyboardInterrupt):
                loop.run_forever()
            assert peer.recv(100) == b"written"
