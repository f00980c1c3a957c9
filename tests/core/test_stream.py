"""Stream transports: bytes both ways, whole and in order, and every way in which a connection can end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from typing import Any

import pytest

import weft
from tests.core.kit import reports_of, turns
from tests.core.streams import NOISE, BufferedLog, Log, connected, received, until


class TestReceive:
    def test_much_in_order(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (_, protocol, peer):
            sent = 0

            def feed() -> bool:
                nonlocal sent
                if sent < len(NOISE):
                    with contextlib.suppress(BlockingIOError):
                        sent += peer.send(NOISE[sent : sent + 300_000])
                return len(protocol.data) == len(NOISE)

            until(loop, feed)
            assert protocol.data == NOISE

    def test_paused_and_resumed_loses_nothing(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            peer.send(NOISE[:1000])
            transport.pause_reading()
            assert not transport.is_reading()
            turns(loop, 5)
            assert not protocol.data
            peer.send(NOISE[1000:2000])
            transport.resume_reading()
            assert transport.is_reading()
            until(loop, lambda: len(protocol.data) == 2000)
            assert protocol.data == NOISE[:2000]

    def test_pausing_twice_and_resuming_twice(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            for _ in range(3):
                transport.pause_reading()
            transport.resume_reading()
            transport.resume_reading()
            peer.send(b"once")
            until(loop, lambda: protocol.data)
            assert protocol.data == b"once"

    def test_pausing_in_every_call(self, loop: asyncio.AbstractEventLoop) -> None:
        """The protocol asks for one delivery at a time: it gets one at a time."""

        class Careful(Log):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                assert self.transport.is_reading()
                self.transport.pause_reading()
                loop.call_soon(self.transport.resume_reading)

        with connected(loop, Careful()) as (_, protocol, peer):
            for start in range(0, 10_000, 1000):
                peer.send(NOISE[start : start + 1000])
                turns(loop, 3)
            until(loop, lambda: len(protocol.data) == 10_000)
            assert protocol.data == NOISE[:10_000]

    def test_pausing_in_connection_made(self, loop: asyncio.AbstractEventLoop) -> None:
        class Paused(Log):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()

        with connected(loop, Paused()) as (transport, protocol, peer):
            peer.send(b"waiting")
            turns(loop, 5)
            assert not protocol.data
            transport.resume_reading()
            until(loop, lambda: protocol.data)
            assert protocol.data == b"waiting"

    def test_closing_in_data_received(self, loop: asyncio.AbstractEventLoop) -> None:
        class Once(Log):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.close()

        with connected(loop, Once()) as (_, protocol, peer):
            peer.send(b"first")
            until(loop, lambda: protocol.is_lost)
            assert protocol.data == b"first"
            assert protocol.events == [("made",), ("lost", "NoneType")]


class TestSetProtocol:
    def test_in_the_middle(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, first, peer):
            second = Log()
            peer.send(b"first")
            until(loop, lambda: first.data)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            peer.send(b"second")
            until(loop, lambda: second.data)
            peer.close()
            until(loop, lambda: second.is_lost)
            assert (first.data, first.events) == (b"first", [("made",)])
            assert (second.data, second.events) == (b"second", [("eof",), ("lost", "NoneType")])

    def test_from_one_kind_to_the_other_and_back(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, plain, peer):
            buffered = BufferedLog(100)
            for protocol, data in ((plain, b"plain"), (buffered, b"buffered"), (plain, b" again")):
                transport.set_protocol(protocol)
                before = len(protocol.data)
                peer.send(data)
                until(loop, lambda: len(protocol.data) > before)  # noqa: B023  # called before the next round
            assert plain.data == b"plain again"
            assert buffered.data == b"buffered"

    def test_in_data_received(self, loop: asyncio.AbstractEventLoop) -> None:
        """As STARTTLS and upgrades of HTTP do: what comes after the switch is for the new protocol alone."""
        second = BufferedLog(4)

        class Switch(Log):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.set_protocol(second)

        with connected(loop, Switch()) as (_, first, peer):
            peer.send(b"one")
            until(loop, lambda: first.data)
            peer.send(b"and the rest")
            until(loop, lambda: len(second.data) == 12)
            assert [first.data, second.data] == [b"one", b"and the rest"]

    def test_in_get_buffer_and_buffer_updated(self, loop: asyncio.AbstractEventLoop) -> None:
        plain = Log()

        class Switch(BufferedLog):
            def buffer_updated(self, nbytes: int) -> None:
                super().buffer_updated(nbytes)
                self.transport.set_protocol(plain)

        with connected(loop, Switch(3)) as (_, first, peer):
            peer.send(b"abcdef")
            until(loop, lambda: len(plain.data) == 3)
            assert [first.data, plain.data] == [b"abc", b"def"]


class TestBuffered:
    @pytest.mark.parametrize("size", [1, 7, 4096, 300_000])
    def test_fills_the_protocols_buffer(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        count = min(20_000, size * 500)
        with connected(loop, BufferedLog(size)) as (_, protocol, peer):
            peer.send(NOISE[:count])
            until(loop, lambda: len(protocol.data) == count)
            assert protocol.data == NOISE[:count]

    @pytest.mark.parametrize(
        "buffer", [b"", bytearray(), b"read only", None, 42, memoryview(b"read only")], ids=lambda thing: repr(thing)
    )
    def test_a_bad_buffer_ends_the_connection(self, loop: asyncio.AbstractEventLoop, buffer: Any) -> None:
        class Bad(BufferedLog):
            def get_buffer(self, sizehint: int) -> Any:
                return buffer

        reports = reports_of(loop)
        with connected(loop, Bad(1)) as (transport, protocol, peer):
            peer.send(b"data")
            until(loop, lambda: protocol.lost)
            (report,) = reports
            assert protocol.lost == [type(report["exception"]).__name__]
            assert report["message"] in (
                "Fatal error: protocol.get_buffer() call failed.",
                "Fatal read error on socket transport",
            )
            assert transport.is_closing()

    @pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
    def test_get_buffer_may_end_it(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        class Ending(BufferedLog):
            calls = 0

            def get_buffer(self, sizehint: int) -> bytearray:
                self.calls += 1
                getattr(self.transport, how)()
                return self.buffer

        with connected(loop, Ending(10)) as (transport, protocol, peer):
            peer.send(b"data")
            until(loop, lambda: protocol.calls)
            turns(loop, 5)
            if how == "pause_reading":
                transport.resume_reading()
                until(loop, lambda: protocol.data)
            else:
                assert protocol.lost == ["NoneType"]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with 3.12 (PEP 688)")
    def test_the_buffer_is_held_until_it_is_filled(self, loop: asyncio.AbstractEventLoop) -> None:
        """An exporter may free its memory when it is released, so the data must be in it by then."""
        at_release: list[bytes] = []

        class Exporter:
            def __init__(self) -> None:
                self.memory = bytearray(8)

            def __len__(self) -> int:
                return len(self.memory)

            def __buffer__(self, flags: int) -> memoryview:
                return memoryview(self.memory)

            def __release_buffer__(self, view: memoryview) -> None:
                at_release.append(bytes(self.memory))

        class Exporting(BufferedLog):
            def get_buffer(self, sizehint: int) -> Any:
                self.exporter = Exporter()
                return self.exporter

            def buffer_updated(self, nbytes: int) -> None:
                self.data += self.exporter.memory[:nbytes]

        with connected(loop, Exporting(1)) as (_, protocol, peer):
            peer.send(b"abc")
            until(loop, lambda: protocol.data)
            assert protocol.data == b"abc"
            assert at_release[0].startswith(b"abc")


class TestEndOfStream:
    def test_closes_unless_kept_open(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            peer.send(b"last")
            peer.shutdown(socket.SHUT_WR)
            until(loop, lambda: protocol.is_lost)
            assert protocol.data == b"last"
            assert protocol.events == [("made",), ("eof",), ("lost", "NoneType")]
            assert transport.is_closing()

    def test_kept_open_can_still_be_written_to(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, Log(keep_open=True)) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            until(loop, lambda: ("eof",) in protocol.events)
            turns(loop, 3)
            assert protocol.events == [("made",), ("eof",)]
            assert not transport.is_closing()
            transport.write(NOISE)
            assert received(loop, peer, len(NOISE)) == NOISE
            transport.close()
            assert received(loop, peer, 1) == b""
            assert protocol.events[-1] == ("lost", "NoneType")
            assert protocol.events.count(("eof",)) == 1

    def test_write_eof_lets_data_go_first(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, buffers=4096) as (transport, protocol, peer):
            assert transport.can_write_eof()
            transport.write(NOISE[:100_000])
            transport.write_eof()
            transport.write_eof()
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                transport.write(b"more")
            assert received(loop, peer, 100_001) == NOISE[:100_000]
            peer.send(b"answer")
            until(loop, lambda: protocol.data)
            assert protocol.data == b"answer"
            peer.close()
            until(loop, lambda: protocol.is_lost)
            assert protocol.events[-2:] == [("eof",), ("lost", "NoneType")]

    def test_write_eof_of_an_idle_connection(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            transport.write_eof()
            assert received(loop, peer, 1) == b""
            assert not protocol.is_lost

    def test_a_half_closed_pair_of_transports(self, loop: asyncio.AbstractEventLoop) -> None:
        """Each side says all it has to say, ends, and hears all the other says."""
        ours, theirs = socket.socketpair()
        logs = Log(keep_open=True), Log(keep_open=True)
        transports: list[Any] = []
        for sock, log in zip((ours, theirs), logs, strict=True):
            sock.setblocking(False)
            made, _ = loop.run_until_complete(loop.create_connection(lambda log=log: log, sock=sock))  # type: ignore[misc]
            transports.append(made)
        transports[0].write(NOISE[:500_000])
        transports[0].write_eof()
        until(loop, lambda: ("eof",) in logs[1].events)
        transports[1].write(NOISE[500_000:])
        transports[1].write_eof()
        until(loop, lambda: ("eof",) in logs[0].events)
        assert logs[1].data == NOISE[:500_000]
        assert logs[0].data == NOISE[500_000:]
        for transport in transports:
            transport.close()
        until(loop, lambda: all(log.is_lost for log in logs))


class TestClose:
    def test_lets_everything_go_first(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, buffers=4096) as (transport, protocol, peer):
            transport.write(NOISE)
            transport.close()
            transport.close()
            assert transport.is_closing()
            assert not transport.is_reading()
            assert received(loop, peer, len(NOISE) + 1) == NOISE
            until(loop, lambda: protocol.is_lost)
            assert [event for event in protocol.events if event[0] == "lost"] == [("lost", "NoneType")]

    def test_connection_lost_comes_in_a_later_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, _):
            transport.close()
            assert not protocol.is_lost
            turns(loop, 2)
            assert protocol.is_lost

    def test_abort_drops_what_the_kernel_does_not_take(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, buffers=4096) as (transport, protocol, peer):
            transport.write(NOISE)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            until(loop, lambda: protocol.is_lost)
            assert protocol.events[-1] == ("lost", "NoneType")
            got = received(loop, peer, len(NOISE))
            assert NOISE.startswith(got)
            assert 0 < len(got) < len(NOISE)

    def test_abort_after_close(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop, buffers=4096) as (transport, protocol, _):
            transport.write(NOISE)
            transport.close()
            turns(loop, 3)
            assert not protocol.is_lost
            transport.abort()
            transport.abort()
            until(loop, lambda: protocol.is_lost)
            turns(loop, 3)
            assert [event for event in protocol.events if event[0] == "lost"] == [("lost", "NoneType")]

    def test_reset_by_the_peer(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        with connected(loop) as (transport, protocol, peer):
            transport.write(b"never read")
            turns(loop, 2)
            peer.close()
            until(loop, lambda: protocol.is_lost)
            assert protocol.events == [("made",), ("lost", "ConnectionResetError")]
        assert not reports

    def test_reset_while_writing(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        with connected(loop, buffers=4096) as (transport, protocol, peer):
            transport.pause_reading()
            transport.write(NOISE)
            turns(loop, 2)
            peer.close()
            until(loop, lambda: protocol.is_lost)
            assert protocol.events[-1][1] in ("BrokenPipeError", "ConnectionResetError")
            assert transport.get_write_buffer_size() == 0
        assert not reports

    def test_writes_after_the_end_go_nowhere(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        with connected(loop) as (transport, protocol, peer):
            transport.write(b"last")
            transport.close()
            transport.write(b"after close()")
            assert received(loop, peer, 100) == b"last"
            until(loop, lambda: protocol.is_lost)
            for _ in range(10):
                transport.write(b"after the end")
                if isinstance(loop, weft.EventLoop):  # CPython 3.12's own cannot
                    transport.writelines([b"after", b"the end"])
            assert transport.get_write_buffer_size() == 0
        assert {record.getMessage() for record in caplog.records} == {"socket.send() raised exception."}
        caplog.clear()

    def test_everything_after_the_end(self, loop: asyncio.AbstractEventLoop) -> None:
        """No method of a closed transport crashes, revives it, or touches a descriptor."""
        with connected(loop) as (transport, protocol, _):
            transport.close()
            until(loop, lambda: protocol.is_lost)
            for call in (
                transport.close,
                transport.abort,
                transport.pause_reading,
                transport.resume_reading,
                transport.write_eof,
                transport.is_reading,
                transport.get_write_buffer_limits,
                lambda: transport.set_write_buffer_limits(0),
                lambda: transport.get_extra_info("socket"),
                lambda: repr(transport),
            ):
                call()
            turns(loop, 3)
            assert protocol.events == [("made",), ("lost", "NoneType")]
            assert transport.is_closing()
            assert not transport.is_reading()

    def test_of_the_loop_before(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = loop.run_until_complete(loop.create_connection(Log, sock=ours))
        peer.close()
        loop.close()
        with pytest.warns(ResourceWarning, match="unclosed"):
            del transport, ours
            protocol.transport = None
            gc.collect()
        assert protocol.events == [("made",)]

    @pytest.mark.weft_only
    def test_dropped_unclosed(self, loop: asyncio.AbstractEventLoop) -> None:
        """A paused transport that nobody holds any more warns, and closes its socket."""
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = loop.run_until_complete(loop.create_connection(Log, sock=ours))
        transport.pause_reading()
        protocol.transport = None
        with pytest.warns(ResourceWarning, match="unclosed transport <weft.StreamTransport open"):
            del transport, ours
            gc.collect()
        assert peer.recv(1) == b""
        peer.close()
