"""Pipe transports: both ends, their ends, and protocols that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.kit import reports_of, turns
from tests.core.streams import NOISE, Log, until


class Reading(Log):
    def eof_received(self) -> None:  # type: ignore[override]  # the answer of a pipe's protocol counts for nothing
        self.events.append(("eof",))


@contextlib.contextmanager
def reading(loop: asyncio.AbstractEventLoop, protocol: Any = None) -> Iterator[tuple[Any, Any, int]]:
    """A read pipe transport, its protocol, and the writing end."""
    reader, writer = os.pipe()
    protocol = Reading() if protocol is None else protocol
    end = open(reader, "rb", buffering=0)  # noqa: SIM115 (the transport closes it)
    transport, _ = loop.run_until_complete(loop.connect_read_pipe(lambda: protocol, end))
    try:
        yield transport, protocol, writer
    finally:
        with contextlib.suppress(OSError):
            os.close(writer)
        transport.close()
        turns(loop, 3)


@contextlib.contextmanager
def writing(loop: asyncio.AbstractEventLoop, protocol: Any = None) -> Iterator[tuple[Any, Any, int]]:
    """A write pipe transport, its protocol, and the reading end, which does not block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    protocol = Log() if protocol is None else protocol
    end = open(writer, "wb", buffering=0)  # noqa: SIM115 (the transport closes it)
    transport, _ = loop.run_until_complete(loop.connect_write_pipe(lambda: protocol, end))
    try:
        yield transport, protocol, reader
    finally:
        with contextlib.suppress(OSError):
            os.close(reader)
        if not transport.is_closing():
            transport.abort()
        turns(loop, 3)


def drained(loop: asyncio.AbstractEventLoop, reader: int, count: int) -> bytes:
    data = bytearray()

    def enough() -> bool:
        with contextlib.suppress(BlockingIOError):
            piece = os.read(reader, count - len(data))
            data.extend(piece)
            return not piece or len(data) == count
        return False

    until(loop, enough)
    return bytes(data)


class TestReading:
    def test_data_then_the_end(self, loop: asyncio.AbstractEventLoop) -> None:
        with reading(loop) as (transport, protocol, writer):
            os.write(writer, b"data")
            until(loop, lambda: protocol.data)
            os.write(writer, b" and more")
            os.close(writer)
            until(loop, lambda: protocol.is_lost)
            assert protocol.data == b"data and more"
            assert protocol.events == [("made",), ("eof",), ("lost", "NoneType")]
            assert transport.is_closing()

    def test_pause_and_resume(self, loop: asyncio.AbstractEventLoop) -> None:
        with reading(loop) as (transport, protocol, writer):
            transport.pause_reading()
            os.write(writer, b"data")
            turns(loop, 4)
            assert not protocol.data
            assert not transport.is_reading()
            transport.resume_reading()
            until(loop, lambda: protocol.data)

    @pytest.mark.weft_only
    def test_a_protocol_without_eof_received(self, loop: asyncio.AbstractEventLoop) -> None:
        """Its error is reported; the loop goes on, and the pipe is closed, which asyncio forgets."""
        reports = reports_of(loop)
        lost: list[BaseException | None] = []

        class Bare:
            def connection_made(self, transport: Any) -> None: ...

            def connection_lost(self, exc: BaseException | None) -> None:
                lost.append(exc)

        with reading(loop, Bare()) as (_, _, writer):
            os.close(writer)
            until(loop, lambda: lost)
            assert isinstance(reports[0]["exception"], AttributeError)
            reports.clear()

    @pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost"])
    def test_a_protocol_that_raises(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        reports = reports_of(loop)

        def fail(self: Any, *args: Any) -> None:
            getattr(Reading, method)(self, *args)
            raise LookupError(method)

        with reading(loop, type("Failing", (Reading,), {method: fail})()) as (_, protocol, writer):
            os.write(writer, b"data")
            os.close(writer)
            until(loop, lambda: protocol.is_lost)
            turns(loop)
            assert [type(report["exception"]) for report in reports] == [LookupError]
            reports.clear()

    def test_closing_in_data_received(self, loop: asyncio.AbstractEventLoop) -> None:
        class Once(Reading):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.close()

        with reading(loop, Once()) as (_, protocol, writer):
            os.write(writer, b"data")
            until(loop, lambda: protocol.is_lost)
            assert protocol.events == [("made",), ("lost", "NoneType")]
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"more")


class TestWriting:
    def test_much_in_order(self, loop: asyncio.AbstractEventLoop) -> None:
        with writing(loop) as (transport, protocol, reader):
            transport.write(NOISE)
            transport.writelines([b"one", bytearray(b"two"), memoryview(b"three")])
            assert drained(loop, reader, len(NOISE) + 11) == NOISE + b"onetwothree"
            transport.close()
            until(loop, lambda: protocol.is_lost)
            assert protocol.events == [("made",), ("pause",), ("resume",), ("lost", "NoneType")]

    def test_close_lets_everything_go_first(self, loop: asyncio.AbstractEventLoop) -> None:
        with writing(loop) as (transport, protocol, reader):
            assert transport.can_write_eof()
            transport.write(NOISE)
            transport.write_eof()
            assert drained(loop, reader, len(NOISE) + 1) == NOISE
            until(loop, lambda: protocol.is_lost)

    def test_the_kernel_is_asked_first(self, loop: asyncio.AbstractEventLoop) -> None:
        with writing(loop) as (transport, protocol, reader):

            def write() -> None:
                transport.set_write_buffer_limits(high=0)
                for _ in range(3):
                    transport.write(b"x")
                    assert transport.get_write_buffer_size() == 0

            loop.call_soon(write)
            turns(loop, 3)
            assert drained(loop, reader, 3) == b"xxx"
            assert protocol.events == [("made",)]

    @pytest.mark.parametrize("full", [False, True])
    def test_a_reader_that_goes(self, loop: asyncio.AbstractEventLoop, full: bool) -> None:
        reports = reports_of(loop)
        with writing(loop) as (transport, protocol, reader):
            if full:
                transport.write(NOISE)
                turns(loop, 2)
            os.close(reader)
            until(loop, lambda: protocol.is_lost)
            assert protocol.events[-1] == ("lost", "BrokenPipeError" if full else "NoneType")
            transport.write(b"nowhere")
            assert transport.get_write_buffer_size() == 0
        assert not reports

    def test_abort(self, loop: asyncio.AbstractEventLoop) -> None:
        with writing(loop) as (transport, protocol, reader):
            transport.write(NOISE)
            transport.abort()
            until(loop, lambda: protocol.is_lost)
            got = drained(loop, reader, len(NOISE))
            assert NOISE.startswith(got)
            assert len(got) < len(NOISE)
            assert protocol.events[-1] == ("lost", "NoneType")

    def test_of_a_socket(self, loop: asyncio.AbstractEventLoop) -> None:
        """Anything that the other side sends is the end of a write pipe."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        protocol = Log()
        transport, _ = loop.run_until_complete(loop.connect_write_pipe(lambda: protocol, ours))
        transport.write(b"data")
        assert drained(loop, theirs.fileno(), 4) == b"data"
        theirs.send(b"answer")
        until(loop, lambda: protocol.is_lost)
        theirs.close()


class TestKinds:
    def test_a_file_is_refused(self, loop: asyncio.AbstractEventLoop) -> None:
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            with open(os.devnull, "rb") as null, open(__file__, "rb") as file:
                with pytest.raises(ValueError, match="Pipe transport is"):
                    loop.run_until_complete(connect(Log, file))
                assert null.fileno() >= 0

    def test_is_an_asyncio_transport(self, loop: asyncio.AbstractEventLoop) -> None:
        with reading(loop) as (transport, _, _):
            assert isinstance(transport, asyncio.ReadTransport)
            assert transport.get_extra_info("pipe").readable()
        with writing(loop) as (transport, _, _):
            assert isinstance(transport, asyncio.WriteTransport)
            assert transport.get_extra_info("pipe").writable()
