"""Datagram transports where something is in the way: full buffers, errors, protocols that raise, closing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.kit import reports_of, turns
from tests.core.streams import until

SIZE = 1000


class Datagrams(asyncio.DatagramProtocol):
    """Notes what its transport tells it."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.errors: list[Exception] = []
        self.events: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.data.append(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {type(exc).__name__}")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    @property
    def is_lost(self) -> bool:
        return any(event.startswith("lost") for event in self.events)


@contextlib.contextmanager
def connected(loop: asyncio.AbstractEventLoop, protocol: Any = None) -> Iterator[tuple[Any, Any, socket.socket]]:
    """A transport over a pair of Unix datagram sockets, whose queue is short: a few datagrams fill it."""
    ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    peer.bind("")  # the kernel chooses a name
    ours.connect(peer.getsockname())
    ours.bind("")
    peer.connect(ours.getsockname())
    peer.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    protocol = Datagrams() if protocol is None else protocol
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(lambda: protocol, sock=ours))
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        if not transport.is_closing():
            transport.abort()
        turns(loop, 3)


def drain(peer: socket.socket) -> list[bytes]:
    got: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(peer.recv(100_000))
    return got


def numbered(count: int) -> list[bytes]:
    return [b"%06d" % index + bytes(SIZE) for index in range(count)]


class TestSending:
    def test_a_full_queue_keeps_the_order(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            sent = numbered(300)
            for data in sent:
                transport.sendto(data)
            assert transport.get_write_buffer_size() > 0
            got: list[bytes] = []

            def all_there() -> bool:
                got.extend(drain(peer))
                return len(got) == len(sent)

            until(loop, all_there)
            turns(loop, 2)
            assert got == sent
            assert protocol.events == ["pause", "resume"]

    def test_close_lets_everything_go_first(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            for data in numbered(50):
                transport.sendto(data)
            transport.close()
            got: list[bytes] = []

            def lost() -> bool:
                got.extend(drain(peer))
                return bool(protocol.is_lost)

            until(loop, lost)
            assert got + drain(peer) == numbered(50)

    def test_abort_drops_what_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            for data in numbered(50):
                transport.sendto(data)
            transport.abort()
            until(loop, lambda: protocol.is_lost)
            got = drain(peer)
            assert got == numbered(50)[: len(got)]
            assert len(got) < 50

    def test_what_is_changed_after_sendto_is_sent_as_it_was(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, _, peer):
            data = bytearray(b"x" * SIZE)
            for _ in range(50):
                transport.sendto(data)
            data[:] = b"y" * SIZE
            got: list[bytes] = []

            def all_there() -> bool:
                got.extend(drain(peer))
                return len(got) == 50

            until(loop, all_there)
            assert got == [b"x" * SIZE] * 50

    @pytest.mark.parametrize("thing", ["text", 1, None])
    def test_anything_else_is_refused(self, loop: asyncio.AbstractEventLoop, thing: Any) -> None:
        with connected(loop) as (transport, _, peer):
            with pytest.raises(TypeError):
                transport.sendto(thing)
            transport.sendto(b"fine")
            assert drain(peer) == [b"fine"]


class TestErrors:
    def test_of_one_datagram_end_nothing(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            transport.sendto(bytes(10_000_000))  # EMSGSIZE
            turns(loop)
            assert [type(error) for error in protocol.errors] == [OSError]
            transport.sendto(b"fine")
            assert drain(peer) == [b"fine"]
            assert not protocol.is_lost

    def test_a_peer_that_is_gone(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            peer.close()
            for _ in range(3):
                transport.sendto(b"nobody hears")
            turns(loop, 2)
            assert protocol.errors
            assert all(isinstance(error, (ConnectionError, OSError)) for error in protocol.errors)
            assert not protocol.is_lost

    @pytest.mark.parametrize("how", ["abort", "close", "sendto"])
    def test_ending_in_error_received(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        """The protocol acts on the error of one datagram while others wait behind it."""

        class Acting(Datagrams):
            def error_received(self, exc: Exception) -> None:
                super().error_received(exc)
                if len(self.errors) < 5:
                    getattr(self.transport, how)(*([b"more"] if how == "sendto" else []))

        with connected(loop, Acting()) as (transport, protocol, peer):
            for data in numbered(50):
                transport.sendto(data)
            peer.close()
            until(loop, lambda: protocol.errors)
            if how == "sendto":
                until(loop, lambda: len(protocol.errors) >= 5)
                assert not protocol.is_lost
            else:
                until(loop, lambda: protocol.is_lost)
            if how == "abort":
                assert len(protocol.errors) == 1

    @pytest.mark.parametrize("method", ["datagram_received", "error_received", "connection_lost"])
    def test_protocols_that_raise(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        reports = reports_of(loop)

        def fail(self: Any, *args: Any) -> None:
            getattr(Datagrams, method)(self, *args)
            raise LookupError(method)

        with connected(loop, type("Failing", (Datagrams,), {method: fail})()) as (transport, protocol, peer):
            for _ in range(2):
                peer.send(b"data")
            until(loop, lambda: len(protocol.data) == 2)
            assert not protocol.is_lost  # one bad datagram is not the end
            if method == "error_received":
                loop.call_soon(transport.sendto, bytes(10_000_000))
                until(loop, lambda: protocol.errors)
                turns(loop, 2)
                assert not protocol.is_lost
            transport.close()
            until(loop, lambda: protocol.is_lost)
            turns(loop)
            expected = 2 if method == "datagram_received" else 1
            assert [type(report["exception"]) for report in reports] == [LookupError] * expected
            reports.clear()


class TestReceiving:
    def test_more_than_one_event_brings(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (_, protocol, peer):
            sent: list[bytes] = []
            for data in numbered(200):
                while True:
                    try:
                        peer.send(data)
                        break
                    except BlockingIOError:
                        turns(loop)
                sent.append(data)
            until(loop, lambda: len(protocol.data) == 200)
            assert protocol.data == sent

    def test_empty_ones_count(self, loop: asyncio.AbstractEventLoop) -> None:
        with connected(loop) as (transport, protocol, peer):
            peer.send(b"")
            peer.send(b"after")
            until(loop, lambda: len(protocol.data) == 2)
            assert protocol.data == [b"", b"after"]
            assert not protocol.is_lost

    def test_closing_in_datagram_received(self, loop: asyncio.AbstractEventLoop) -> None:
        class Once(Datagrams):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                self.transport.close()

        with connected(loop, Once()) as (_, protocol, peer):
            for _ in range(5):
                peer.send(b"data")
            until(loop, lambda: protocol.is_lost)
            assert protocol.data == [b"data"]
