"""Datagram endpoints: how they are opened, and that what fails leaves no socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.loop.kit import Run, open_sockets, refused, resolve_to


class Inbox(asyncio.DatagramProtocol):
    """Keeps what comes in."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.made: asyncio.Future[asyncio.DatagramTransport] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.datagrams: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.made.set_result(transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def close(*ends: tuple[asyncio.DatagramTransport, Inbox]) -> None:
    for transport, inbox in ends:
        transport.close()
        await inbox.lost


class TestInternet:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_asks_and_answers(self, run: Run, host: str) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server, inbox = await loop.create_datagram_endpoint(Inbox, local_addr=(host, 0))
            assert inbox.made.result() is server
            address = server.get_extra_info("sockname")
            client, answers = await loop.create_datagram_endpoint(Inbox, remote_addr=address[:2])
            assert client.get_extra_info("peername") == address
            client.sendto(b"ping")
            data, sender = await inbox.datagrams.get()
            assert (data, sender) == (b"ping", client.get_extra_info("sockname"))
            server.sendto(b"pong", sender)
            assert await answers.datagrams.get() == (b"pong", address)
            await close((server, inbox), (client, answers))

        run(main())

    def test_binds_and_connects(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket(type=socket.SOCK_DGRAM) as peer:
                peer.bind(("127.0.0.1", 0))
                transport, inbox = await loop.create_datagram_endpoint(
                    Inbox, local_addr=("127.0.0.2", 0), remote_addr=peer.getsockname()
                )
                transport.sendto(b"hello")
                assert peer.recvfrom(10) == (b"hello", transport.get_extra_info("sockname"))
                assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
                await close((transport, inbox))

        run(main())

    def test_without_an_address(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket(type=socket.SOCK_DGRAM) as peer:
                peer.bind(("127.0.0.1", 0))
                transport, inbox = await loop.create_datagram_endpoint(Inbox, family=socket.AF_INET)
                transport.sendto(b"hello", peer.getsockname())
                assert peer.recv(10) == b"hello"
                await close((transport, inbox))

        run(main())

    def test_takes_a_socket(self, run: Run) -> None:
        async def main() -> None:
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            transport, inbox = await asyncio.get_running_loop().create_datagram_endpoint(Inbox, sock=sock)
            with socket.socket(type=socket.SOCK_DGRAM) as peer:
                peer.sendto(b"hello", sock.getsockname())
                assert (await inbox.datagrams.get())[0] == b"hello"
            await close((transport, inbox))
            assert sock.fileno() == -1

        run(main())

    def test_broadcast_is_not_connected(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, inbox = await loop.create_datagram_endpoint(
                Inbox, remote_addr=("127.255.255.255", 9), allow_broadcast=True
            )
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert transport.get_extra_info("peername") is None
            with pytest.raises(ValueError, match="Invalid address: must be None or"):
                transport.sendto(b"x", ("127.0.0.1", 9))
            await close((transport, inbox))

        run(main())

    def test_shares_a_port(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            one = await loop.create_datagram_endpoint(Inbox, local_addr=("127.0.0.1", 0), reuse_port=True)
            address = one[0].get_extra_info("sockname")
            two = await loop.create_datagram_endpoint(Inbox, local_addr=address, reuse_port=True)
            assert two[0].get_extra_info("sockname") == address
            await close(one, two)

        run(main())

    def test_goes_on_to_the_next_address(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            resolve_to(loop, ("::ffff:0:0:1", 0, 0, 0), ("127.0.0.1", 0))
            transport, inbox = await loop.create_datagram_endpoint(Inbox, local_addr=("name", 0))
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            await close((transport, inbox))

        run(main())


class TestUnix:
    def test_asks_and_answers(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            one, two = str(tmp_path / "one"), str(tmp_path / "two")
            server, inbox = await loop.create_datagram_endpoint(Inbox, local_addr=one, family=socket.AF_UNIX)
            client, answers = await loop.create_datagram_endpoint(
                Inbox, local_addr=two, remote_addr=one, family=socket.AF_UNIX
            )
            client.sendto(b"ping")
            assert await inbox.datagrams.get() == (b"ping", two)
            server.sendto(b"pong", two)
            assert await answers.datagrams.get() == (b"pong", one)
            await close((server, inbox), (client, answers))

        run(main())

    def test_replaces_a_stale_socket(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(path)

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            await close(await loop.create_datagram_endpoint(Inbox, local_addr=path, family=socket.AF_UNIX))

        run(main())
        assert os.path.exists(path)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({}, ValueError, "unexpected address family"),
            ({"local_addr": "127.0.0.1"}, TypeError, "2-tuple is expected"),
            ({"local_addr": ("::1", 0, 0, 0)}, TypeError, "2-tuple is expected"),
            ({"remote_addr": ["127.0.0.1", 1]}, TypeError, "2-tuple is expected"),
            ({"local_addr": ("127.0.0.1", 0), "family": socket.AF_UNIX}, TypeError, "string is expected"),
            (
                {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)},
                ValueError,
                "can not get address information",
            ),
        ],
    )
    def test_wrong_arguments(self, run: Run, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
        async def main() -> None:
            before = open_sockets()
            with pytest.raises(error, match=message):
                await asyncio.get_running_loop().create_datagram_endpoint(Inbox, **arguments)
            assert open_sockets() == before

        run(main())

    @pytest.mark.parametrize(
        "arguments",
        [
            {"local_addr": ("127.0.0.1", 0)},
            {"remote_addr": ("127.0.0.1", 1)},
            {"family": socket.AF_INET},
            {"proto": 17},
            {"flags": 1},
            {"reuse_port": True},
            {"allow_broadcast": True},
        ],
    )
    def test_modifiers_of_a_given_socket(self, run: Run, arguments: dict[str, Any]) -> None:
        async def main() -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                with pytest.raises(
                    ValueError, match=f"can not be used when sock is specified.*{next(iter(arguments))}="
                ):
                    await asyncio.get_running_loop().create_datagram_endpoint(Inbox, sock=sock, **arguments)

        run(main())

    def test_a_stream_socket(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as sock, pytest.raises(ValueError, match=r"A (UDP|datagram) [sS]ocket was expected"):
                await asyncio.get_running_loop().create_datagram_endpoint(Inbox, sock=sock)

        run(main())

    def test_an_address_in_use_leaves_no_socket(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as taken:
                taken.bind(("127.0.0.1", 0))
                before = open_sockets()
                with pytest.raises(OSError, match="in use") as caught:
                    await asyncio.get_running_loop().create_datagram_endpoint(Inbox, local_addr=taken.getsockname())
                assert caught.value.errno == errno.EADDRINUSE
                assert open_sockets() == before

        run(main())

    @pytest.mark.weft_only  # asyncio leaves the socket to the garbage collector
    def test_a_failing_factory_leaves_no_socket(self, run: Run) -> None:
        def fail() -> asyncio.DatagramProtocol:
            raise ZeroDivisionError

        async def main() -> None:
            before = open_sockets()
            with pytest.raises(ZeroDivisionError):
                await asyncio.get_running_loop().create_datagram_endpoint(fail, local_addr=("127.0.0.1", 0))
            assert open_sockets() == before

        run(main())

    def test_cancellation_closes_the_socket(self, run: Run) -> None:
        async def main() -> None:
            before = open_sockets()
            opening = asyncio.ensure_future(
                asyncio.get_running_loop().create_datagram_endpoint(Inbox, local_addr=("127.0.0.1", 0))
            )
            while open_sockets() == before:
                await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            while open_sockets() > before:
                await asyncio.sleep(0)

        run(main())

    def test_tells_of_a_refused_datagram(self, run: Run) -> None:
        async def main() -> None:
            with refused() as nobody:
                endpoint = await asyncio.get_running_loop().create_datagram_endpoint(Inbox, remote_addr=nobody)
                endpoint[0].sendto(b"anybody there?")
                assert isinstance(await endpoint[1].errors.get(), ConnectionRefusedError)
                await close(endpoint)

        run(main())
