"""Connections that this side opens: which arguments, which addresses, which errors, and nothing left of a failure."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.loop.kit import (
    Peers,
    Recorder,
    Run,
    address_of,
    client_context,
    finish,
    open_sockets,
    refused,
    resolve_to,
    server_context,
    unreachable,
)


class TestCreateConnection:
    def test_connects_and_exchanges(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            transport, protocol = await loop.create_connection(Recorder, *address_of(server))
            assert protocol.made.result() is transport
            peer = await peers.next()
            transport.write(b"ping")
            assert await peer.receive(4) == b"ping"
            peer.transport.write(b"pong")
            assert await protocol.receive(4) == b"pong"
            assert transport.get_extra_info("peername") == address_of(server)
            assert peer.transport.get_extra_info("peername") == transport.get_extra_info("sockname")
            transport.close()
            assert await protocol.lost is None
            assert await peer.lost is None
            await finish(server)

        run(main())

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_small_writes_are_not_held_back(self, run: Run, host: str) -> None:
        """With Nagle's algorithm a second small write would wait until the first one is acknowledged, 40 ms."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            try:
                server = await loop.create_server(peers := Peers(), host, 0)
            except OSError as error:
                pytest.skip(f"this machine's loopback has no {host}: {error}")
            transport, _ = await loop.create_connection(Recorder, *address_of(server)[:2])
            for one in (transport, (await peers.next()).transport):
                assert one.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await finish(server, transport)

        run(main())

    def test_resolves_a_name(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Peers(), "localhost", 0, family=socket.AF_INET)
            host, port = address_of(server)
            transport, _ = await loop.create_connection(Recorder, "localhost", port, family=socket.AF_INET)
            assert transport.get_extra_info("peername") == (host, port)
            await finish(server, transport)

        run(main())

    def test_takes_a_connected_socket(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
                theirs.sendall(b"hello")
                assert await protocol.receive(5) == b"hello"
                transport.close()
                await protocol.lost
                assert theirs.recv(1) == b""

        run(main())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "host and port was not specified and no sock specified"),
            ({"host": "127.0.0.1", "port": 1, "server_hostname": "x"}, "server_hostname is only meaningful with ssl"),
            ({"port": 1, "ssl": True}, "You must set server_hostname when using ssl without a host"),
            ({"host": "127.0.0.1", "ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
            ({"host": "127.0.0.1", "ssl_shutdown_timeout": 1}, "ssl_shutdown_timeout is only meaningful with ssl"),
        ],
    )
    def test_refuses_arguments_that_exclude_each_other(self, run: Run, arguments: dict[str, Any], message: str) -> None:
        async def main() -> None:
            with pytest.raises(ValueError, match=message):
                await asyncio.get_running_loop().create_connection(Recorder, **arguments)

        run(main())

    def test_refuses_sock_with_an_address(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as sock:
                with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                    await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", 1, sock=sock)  # type: ignore[call-overload]

        run(main())

    def test_refuses_a_datagram_socket(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                with pytest.raises(ValueError, match="A Stream Socket was expected"):
                    await asyncio.get_running_loop().create_connection(Recorder, sock=sock)

        run(main())

    def test_refuses_a_tls_socket(self, run: Run) -> None:
        async def main() -> None:
            context = server_context()
            with socket.create_server(("127.0.0.1", 0)) as plain:
                with context.wrap_socket(plain, server_side=True) as sock:
                    with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                        await asyncio.get_running_loop().create_connection(Recorder, sock=sock)

        run(main())

    def test_refused_connection_closes_its_socket(self, run: Run) -> None:
        async def main() -> None:
            with refused() as address:
                before = open_sockets()
                with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
                    await asyncio.get_running_loop().create_connection(Recorder, *address)
                assert open_sockets() == before

        run(main())

    def test_goes_on_to_the_next_address(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Peers(), "127.0.0.1", 0)
            with refused() as dead:
                resolve_to(loop, dead, address_of(server))
                transport, _ = await loop.create_connection(Recorder, "name", 1)
            assert transport.get_extra_info("peername") == address_of(server)
            await finish(server, transport)

        run(main())

    def test_says_why_each_address_failed(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with refused() as one, refused() as two:
                resolve_to(loop, one, two)
                with pytest.raises(OSError, match="Multiple exceptions") as caught:
                    await loop.create_connection(Recorder, "name", 1)
                assert str(one[1]) in str(caught.value)
                assert str(two[1]) in str(caught.value)

        run(main())

    @pytest.mark.weft_only
    def test_keeps_the_errno_that_all_errors_share(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with refused() as one, refused() as two:
                resolve_to(loop, one, two)
                with pytest.raises(ConnectionRefusedError, match=r"^Multiple exceptions") as caught:
                    await loop.create_connection(Recorder, "name", 1)
                assert caught.value.errno == errno.ECONNREFUSED

        run(main())

    @pytest.mark.weft_only  # asyncio: from 3.12 on
    def test_raises_all_errors_in_a_group(self, run: Run) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            with refused() as one, refused() as two:
                resolve_to(loop, one, two)
                with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:
                    await loop.create_connection(Recorder, "name", 1, all_errors=True)
                assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2

        run(main())

    def test_binds_to_the_local_address(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            transport, _ = await loop.create_connection(Recorder, *address_of(server), local_addr=("127.0.0.2", 0))
            peer = await peers.next()
            assert peer.transport.get_extra_info("peername")[0] == "127.0.0.2"
            await finish(server, transport)

        run(main())

    def test_says_which_local_address_is_taken(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with refused() as taken, refused() as address:
                before = open_sockets()
                with pytest.raises(OSError, match=f"error while attempting to bind on address.*{taken[1]}") as caught:
                    await loop.create_connection(Recorder, *address, local_addr=taken)
                assert caught.value.errno == errno.EADDRINUSE
                assert open_sockets() == before

        run(main())

    @pytest.mark.weft_only  # asyncio: from 3.12 on
    def test_says_when_no_local_address_fits(self, run: Run) -> None:
        async def main() -> None:
            with refused() as address, pytest.raises(OSError, match="no matching local address with family="):
                await asyncio.get_running_loop().create_connection(Recorder, *address, local_addr=("::1", 0))

        run(main())


class TestHappyEyeballs:
    def test_passes_by_an_address_that_does_not_answer(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Peers(), "127.0.0.1", 0)
            with unreachable() as silent:
                before = open_sockets()
                resolve_to(loop, silent, address_of(server))
                transport, _ = await loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=0.01)
                assert transport.get_extra_info("peername") == address_of(server)
                while open_sockets() > before + 2:  # the connection's two ends; the loser goes with its task
                    await asyncio.sleep(0)
                await finish(server, transport)

        run(main())

    def test_begins_with_the_next_when_one_fails(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Peers(), "127.0.0.1", 0)
            with refused() as dead:
                resolve_to(loop, dead, address_of(server))
                # The delay is far beyond the time limit of the test.
                transport, _ = await loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=3600)
            await finish(server, transport)

        run(main())

    def test_fails_when_all_fail(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with refused() as one, refused() as two:
                before = open_sockets()
                resolve_to(loop, one, two)
                with pytest.raises(OSError, match="Multiple exceptions"):
                    await loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=0.01)
                assert open_sockets() == before

        run(main())

    def test_cancellation_closes_every_socket(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with unreachable() as one, unreachable() as two:
                before = open_sockets()
                resolve_to(loop, one, two)
                attempt = asyncio.ensure_future(loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=0.001))
                while open_sockets() < before + 2:
                    await asyncio.sleep(0.001)
                attempt.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await attempt
                while open_sockets() > before:
                    await asyncio.sleep(0)

        run(main())

    @pytest.mark.weft_only  # asyncio leaves the winner to the garbage collector
    @pytest.mark.parametrize("turns", range(12))
    def test_cancellation_at_the_moment_of_success(self, run: Run, turns: int) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                before = open_sockets()
                resolve_to(loop, listener.getsockname())
                attempt = asyncio.ensure_future(loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=1))
                for _ in range(turns):
                    await asyncio.sleep(0)
                attempt.cancel()
                try:
                    transport, _ = await attempt
                except asyncio.CancelledError:
                    pass
                else:
                    transport.close()  # it was too late
                for _ in range(5):
                    await asyncio.sleep(0)
                assert open_sockets() == before

        run(main())

    def test_alternates_families(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with refused() as one, refused() as two:
                resolve_to(loop, one, two, ("::1", 1, 0, 0))
                with pytest.raises(OSError, match="Multiple exceptions") as caught:
                    await loop.create_connection(Recorder, "name", 1, interleave=1)
                text = str(caught.value)
                assert text.index(str(one)) < text.index("::1") < text.index(str(two))

        run(main())


class TestUnixConnection:
    @pytest.mark.parametrize("kind", [str, Path, os.fsencode])
    def test_connects(self, run: Run, tmp_path: Path, kind: Any) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            path = tmp_path / "s"
            server = await loop.create_unix_server(peers := Peers(), str(path))
            transport, _ = await loop.create_unix_connection(Recorder, kind(str(path)))
            peer = await peers.next()
            transport.write(b"hello")
            assert await peer.receive(5) == b"hello"
            await finish(server, transport)

        run(main())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "no path and sock were specified"),
            ({"path": "x", "ssl": True}, "you have to pass server_hostname when using ssl"),
            ({"path": "x", "server_hostname": "x"}, "server_hostname is only meaningful with ssl"),
            ({"path": "x", "ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        ],
    )
    def test_refuses_arguments_that_exclude_each_other(self, run: Run, arguments: dict[str, Any], message: str) -> None:
        async def main() -> None:
            with pytest.raises(ValueError, match=message):
                await asyncio.get_running_loop().create_unix_connection(Recorder, **arguments)

        run(main())

    def test_refuses_a_socket_of_another_kind(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as sock:
                with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                    await asyncio.get_running_loop().create_unix_connection(Recorder, sock=sock)
                with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                    await asyncio.get_running_loop().create_unix_connection(Recorder, "x", sock=sock)

        run(main())

    def test_a_missing_path_leaves_no_socket(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            before = open_sockets()
            with pytest.raises(FileNotFoundError):
                await asyncio.get_running_loop().create_unix_connection(Recorder, str(tmp_path / "none"))
            assert open_sockets() == before

        run(main())

    @pytest.mark.weft_only  # asyncio takes EAGAIN for "under way" and returns a transport that is not connected
    def test_waits_for_room_in_a_full_backlog(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            path = str(tmp_path / "s")
            with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
                listener.bind(path)
                listener.listen(0)
                first.connect(path)
                attempt = asyncio.ensure_future(loop.create_unix_connection(Recorder, path))
                for _ in range(3):
                    await asyncio.sleep(0.002)
                assert not attempt.done()
                listener.accept()[0].close()
                transport, protocol = await attempt
                with listener.accept()[0] as peer:
                    peer.sendall(b"hello")
                    assert await protocol.receive(5) == b"hello"
                transport.close()
                await protocol.lost

        run(main())


class TestAcceptedSocket:
    def test_serves_it(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with theirs:
                transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
                theirs.sendall(b"hello")
                assert await protocol.receive(5) == b"hello"
                transport.close()
                await protocol.lost

        run(main())

    def test_refuses_what_it_cannot_serve(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                with pytest.raises(ValueError, match="A Stream Socket was expected"):
                    await loop.connect_accepted_socket(Recorder, sock)
            with socket.socket() as sock:
                with pytest.raises(ValueError, match="ssl_shutdown_timeout is only meaningful with ssl"):
                    await loop.connect_accepted_socket(Recorder, sock, ssl_shutdown_timeout=1)

        run(main())

    def test_with_tls(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            (served, server_side), (transport, client_side) = await asyncio.gather(
                loop.connect_accepted_socket(Recorder, ours, ssl=server_context()),
                loop.create_connection(Recorder, sock=theirs, ssl=client_context(), server_hostname="localhost"),
            )
            transport.write(b"hello")
            assert await server_side.receive(5) == b"hello"
            assert isinstance(served.get_extra_info("ssl_object"), ssl.SSLObject)
            transport.close()
            served.close()
            await asyncio.gather(server_side.lost, client_side.lost)

        run(main())
