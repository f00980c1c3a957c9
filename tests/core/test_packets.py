"""Datagrams by the batch: order, addresses, errors and interruptions in the middle of one, and what leaves when."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.core.kit import turns
from tests.core.streams import until
from tests.core.test_datagram import Datagrams, connected, drain

TOO_LARGE = bytes(70_000)  # EMSGSIZE over UDP


class Addressed(Datagrams):
    """Notes who has sent what as well."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[Any] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.addresses.append(addr)


@contextlib.contextmanager
def udp(
    loop: asyncio.AbstractEventLoop, host: str = "127.0.0.1", sock: socket.socket | None = None, **options: Any
) -> Iterator[tuple[Any, Any]]:
    """An unconnected endpoint on a port of its own, unless told otherwise."""
    if sock is not None:
        options["sock"] = sock
    elif not options:
        options["local_addr"] = (host, 0)
    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(Addressed, **options))
    try:
        yield transport, protocol
    finally:
        transport.abort()
        turns(loop, 3)


def in_one_turn(loop: asyncio.AbstractEventLoop, transport: Any, *packets: tuple[bytes, Any]) -> None:
    """Send all of them in one callback, and run to the end of that turn."""

    def send() -> None:
        for data, address in packets:
            transport.sendto(data, address)

    loop.call_soon(send)
    turns(loop)


def address_of(transport: Any) -> Any:
    return transport.get_extra_info("sockname")


class TestOrder:
    @settings(max_examples=40)
    @given(
        bursts=st.lists(
            st.lists(st.sampled_from(["empty", "small", "large", "named", "refused by the kernel"]), max_size=20),
            max_size=6,
        ),
        kind=st.sampled_from(["127.0.0.1", "::1"]),
    )
    def test_whatever_is_sent_comes_in_order_and_errors_cost_one(self, bursts: list[list[str]], kind: str) -> None:
        loop = weft.new_event_loop()
        with contextlib.closing(loop), udp(loop, kind) as (sender, told), udp(loop, kind) as (receiver, got):
            port = address_of(receiver)[1]
            expected: list[bytes] = []
            failed = 0
            for number, burst in enumerate(bursts):
                packets = []
                for place, what in enumerate(burst):
                    data = b"%d %d " % (number, place)
                    data = {"empty": b"", "large": data * 300, "refused by the kernel": TOO_LARGE}.get(what, data)
                    # A name is looked up by the socket module, so it goes by itself between the others.
                    host = "localhost" if what == "named" and kind == "127.0.0.1" else kind
                    packets.append((data, (host, port)))
                    failed += what == "refused by the kernel"
                    expected += [] if what == "refused by the kernel" else [data]
                in_one_turn(loop, sender, *packets)
                until(loop, lambda: len(got.data) == len(expected))  # noqa: B023  one list for all bursts
            assert got.data == expected
            assert set(got.addresses) <= {address_of(sender)}
            assert len(told.errors) == failed
            assert sender.get_write_buffer_size() == 0

    def test_the_largest(self, loop: asyncio.AbstractEventLoop) -> None:
        with udp(loop) as (sender, _), udp(loop) as (receiver, got):
            sent = [bytes([number]) * 65_507 for number in range(3)]
            in_one_turn(loop, sender, *[(data, address_of(receiver)) for data in sent])
            until(loop, lambda: len(got.data) == len(sent))
            assert got.data == sent

    @pytest.mark.parametrize("size", [65_536, 65_537, 200_000])
    def test_unix_datagrams_may_be_larger(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        with connected(loop) as (_, protocol, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * size)
            for number in range(3):
                peer.send(bytes([number]) * size)
                until(loop, lambda: len(protocol.data) > number)  # noqa: B023  run before the next
            assert protocol.data == [bytes([number]) * size for number in range(3)]

    def test_a_socket_of_another_class(self, loop: asyncio.AbstractEventLoop) -> None:
        """What derives from socket.socket may have methods of its own: they are called."""

        class Shouting(socket.socket):
            def sendto(self, data: bytes, address: Any) -> int:  # type: ignore[override]
                return super().sendto(data.upper(), address)

        with Shouting(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            with udp(loop, sock=sock) as (sender, _), udp(loop) as (receiver, got):
                in_one_turn(loop, sender, *[(b"%d word" % number, address_of(receiver)) for number in range(5)])
                until(loop, lambda: len(got.data) == 5)
                assert got.data == [b"%d WORD" % number for number in range(5)]
                in_one_turn(loop, receiver, (b"back", address_of(sender)))


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "error"),
        [
            (("127.0.0.1", 70_000), OverflowError),
            (("127.0.0.1", -1), OverflowError),
            (("127.0.0.1", "1"), TypeError),
            (("127.0.0.1",), TypeError),
            (("127.0.0.1", 1, 0), TypeError),
            ("127.0.0.1", TypeError),
            (None, TypeError),
        ],
    )
    def test_no_address_at_all_ends_the_endpoint(
        self, loop: asyncio.AbstractEventLoop, address: Any, error: type[Exception]
    ) -> None:
        reports: list[Any] = []
        loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
        with udp(loop) as (sender, told):
            in_one_turn(loop, sender, (b"data", address))
            until(loop, lambda: told.is_lost)
            assert told.events == [f"lost {error.__name__}"]
            assert [type(report) for report in reports] == [error]

    @pytest.mark.parametrize("spelt", [("::1",), ("::1", 0), ("::1", 0, 0), ("0:0:0:0:0:0:0:1",)])
    def test_all_spellings_of_one(self, loop: asyncio.AbstractEventLoop, spelt: tuple[Any, ...]) -> None:
        with udp(loop, "::1") as (sender, _), udp(loop, "::1") as (receiver, got):
            address = (spelt[0], address_of(receiver)[1], *spelt[1:])
            in_one_turn(loop, sender, (b"one", address), (b"two", address), (b"three", address))
            until(loop, lambda: len(got.data) == 3)
            assert got.data == [b"one", b"two", b"three"]
            assert got.addresses == [address_of(sender)] * 3

    @pytest.mark.parametrize("name", ["\0weft tests abstract", "path", None])
    def test_unix_senders(self, loop: asyncio.AbstractEventLoop, name: str | None, tmp_path: Path) -> None:
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.bind("")
        with udp(loop, sock=ours) as (receiver, got), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            if name is not None:
                peer.bind(name if name != "path" else str(tmp_path / name))
            peer.sendto(b"hello", address_of(receiver))
            until(loop, lambda: got.data)
            assert got.addresses == [None if name is None else peer.getsockname()]

    @pytest.mark.weft_only
    def test_a_peer_has_one_address(self, loop: asyncio.AbstractEventLoop) -> None:
        with udp(loop) as (sender, _), udp(loop) as (receiver, got):
            for _ in range(2):
                in_one_turn(loop, sender, *[(b"x", address_of(receiver))] * 3)
            until(loop, lambda: len(got.data) == 6)
            assert len({id(address) for address in got.addresses}) == 1

    def test_more_peers_than_are_remembered(self, loop: asyncio.AbstractEventLoop) -> None:
        with udp(loop) as (receiver, got), contextlib.ExitStack() as stack:
            peers = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(300)]
            for number, peer in enumerate(peers * 2, 1):
                peer.sendto(b"x", address_of(receiver))
                if number % 50 == 0:
                    until(loop, lambda: len(got.data) == number)  # noqa: B023  run before the next
            assert got.addresses == [("127.0.0.1", peer.getsockname()[1]) for peer in peers] * 2


class TestWhen:
    def test_the_first_of_a_turn_leaves_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        with udp(loop) as (sender, _), socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.setblocking(False)
            seen: list[bytes] = []

            def send() -> None:
                sender.sendto(b"first", peer.getsockname())
                seen.append(peer.recv(10))
                sender.sendto(b"second", peer.getsockname())

            for _ in range(2):
                loop.call_soon(send)
                turns(loop)
                assert drain(peer) == [b"second"]
            assert seen == [b"first", b"first"]

    def test_closing_lets_go_what_waits_for_the_end_of_the_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        for how in ("close", "abort"):
            with connected(loop) as (transport, protocol, peer):

                def send(transport: Any = transport, how: str = how) -> None:
                    for number in range(4):
                        transport.sendto(b"%d" % number)
                    getattr(transport, how)()

                loop.call_soon(send)
                until(loop, lambda: protocol.is_lost)
                assert drain(peer) == [b"0", b"1", b"2", b"3"]

    def test_a_peer_that_refuses_is_told_of(self, loop: asyncio.AbstractEventLoop) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            address = gone.getsockname()
        with udp(loop, remote_addr=address) as (sender, told):
            in_one_turn(loop, sender, *[(b"nobody hears", None)] * 5)
            until(loop, lambda: told.errors)
            turns(loop, 2)
            assert {type(error) for error in told.errors} == {ConnectionRefusedError}
            assert not told.is_lost

    @pytest.mark.weft_only
    def test_who_sends_again_upon_each_error_leaves_the_loop_to_others(self, loop: asyncio.AbstractEventLoop) -> None:
        class Stubborn(Addressed):
            def error_received(self, exc: Exception) -> None:
                super().error_received(exc)
                self.transport.sendto(TOO_LARGE, ("127.0.0.1", 9))

        with udp(loop) as (sender, _):
            sender.set_protocol(stubborn := Stubborn())
            stubborn.transport = sender
            in_one_turn(loop, sender, (TOO_LARGE, ("127.0.0.1", 9)))
            turns(loop, 3)
            assert 2 <= len(stubborn.errors) <= 10


class TestInterruption:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_what_leaves_the_loop_takes_no_datagram_with_it(
        self, loop: asyncio.AbstractEventLoop, error: type[BaseException]
    ) -> None:
        class Interrupted(Addressed):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                if data == b"2":
                    raise error

        with udp(loop) as (receiver, _), socket.socket(type=socket.SOCK_DGRAM) as peer:
            receiver.set_protocol(got := Interrupted())
            for number in range(6):
                peer.sendto(b"%d" % number, address_of(receiver))
            with pytest.raises(error):
                until(loop, lambda: len(got.data) == 6)
            assert got.data == [b"0", b"1", b"2"]
            peer.sendto(b"6", address_of(receiver))
            until(loop, lambda: len(got.data) == 7)
            assert got.data == [b"%d" % number for number in range(7)]
            assert got.addresses == [("127.0.0.1", peer.getsockname()[1])] * 7

    @pytest.mark.weft_only
    def test_a_fork_in_the_middle_leaves_the_rest_to_the_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        class Forking(Addressed):
            child: int | None = None

            def datagram_received(self, data: bytes, addr: Any) -> None:
                if self.child == 0:
                    os._exit(1)  # delivered to both
                super().datagram_received(data, addr)
                if self.child is None:
                    self.child = os.fork()
                    if self.child == 0:
                        loop.call_soon(os._exit, 0)

        with udp(loop) as (receiver, _), socket.socket(type=socket.SOCK_DGRAM) as peer:
            receiver.set_protocol(got := Forking())
            for number in range(6):
                peer.sendto(b"%d" % number, address_of(receiver))
            until(loop, lambda: len(got.data) == 6)
            assert got.child is not None
            _, status = os.waitpid(got.child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert got.data == [b"%d" % number for number in range(6)]
