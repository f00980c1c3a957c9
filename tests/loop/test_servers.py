"""Servers: what they listen on, how they begin, how connections reach protocols, and how both end."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.loop.kit import Peers, Recorder, Run, address_of, finish, open_sockets, server_context
from weft.versions import SERVE_FOREVER_CLOSES_CONNECTIONS, SERVER_WAITS_FOR_CONNECTIONS


@contextmanager
def taken() -> Iterator[tuple[str, int]]:
    """An address on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()


class TestCreateServer:
    def test_is_an_asyncio_server(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Peers(), "127.0.0.1", 0)
            assert isinstance(server, asyncio.Server)
            assert server.get_loop() is loop
            assert server.is_serving()
            assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket fd=")
            (view,) = server.sockets
            assert not hasattr(view, "close")
            assert view.family == socket.AF_INET
            await finish(server)
            assert server.sockets == ()
            assert not server.is_serving()
            assert repr(server) == "<Server sockets=()>"

        run(main())

    @pytest.mark.parametrize("host", ["", None, ["127.0.0.1", "::1"]])
    def test_listens_on_every_family(self, run: Run, host: Any) -> None:
        async def main() -> None:
            server = await asyncio.get_running_loop().create_server(Peers(), host, 0)
            views = {view.family: view for view in server.sockets}
            assert set(views) == {socket.AF_INET, socket.AF_INET6}
            assert views[socket.AF_INET6].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            await finish(server)

        run(main())

    def test_binds_an_address_once(self, run: Run) -> None:
        async def main() -> None:
            server = await asyncio.get_running_loop().create_server(Peers(), ["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0)
            assert sorted(view.getsockname()[0] for view in server.sockets) == ["127.0.0.1", "127.0.0.2"]
            await finish(server)

        run(main())

    def test_takes_a_socket(self, run: Run) -> None:
        async def main() -> None:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            server = await asyncio.get_running_loop().create_server(peers := Peers(), sock=sock)
            with socket.create_connection(address_of(server)):
                peer = await peers.next()
            await peer.lost
            await finish(server)
            assert sock.fileno() == -1

        run(main())

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({}, ValueError, "Neither host/port nor sock were specified"),
            ({"port": 0, "ssl": True}, TypeError, "ssl argument must be an SSLContext or None"),
            ({"port": 0, "ssl_handshake_timeout": 1}, ValueError, "only meaningful with ssl"),
            ({"port": 0, "ssl_shutdown_timeout": 1}, ValueError, "only meaningful with ssl"),
        ],
    )
    def test_refuses_wrong_arguments(
        self, run: Run, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        async def main() -> None:
            with pytest.raises(error, match=message):
                await asyncio.get_running_loop().create_server(Peers(), **arguments)

        run(main())

    def test_refuses_sockets_of_another_kind(self, run: Run) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                with pytest.raises(ValueError, match="A Stream Socket was expected"):
                    await loop.create_server(Peers(), sock=sock)
                with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                    await loop.create_server(Peers(), "127.0.0.1", 0, sock=sock)
            with socket.create_server(("127.0.0.1", 0)) as plain:
                with server_context().wrap_socket(plain, server_side=True) as tls:
                    with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                        await loop.create_server(Peers(), sock=tls)

        run(main())

    def test_an_address_in_use_leaves_no_socket(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with taken() as address:
                before = open_sockets()
                with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
                    await loop.create_server(Peers(), ["127.0.0.2", "127.0.0.1"], address[1])
                assert caught.value.errno == errno.EADDRINUSE
                assert open_sockets() == before

        run(main())

    @pytest.mark.weft_only  # asyncio leaves the sockets to the garbage collector
    def test_a_socket_that_cannot_listen_is_closed(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket() as first:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                first.bind(("127.0.0.1", 0))
                server = await loop.create_server(Peers(), *first.getsockname(), start_serving=False)
                first.listen()
                before = open_sockets()
                with pytest.raises(OSError, match="in use"):
                    await server.start_serving()
                assert not server.is_serving()
                await finish(server)
                with pytest.raises(OSError, match="in use"):
                    await loop.create_server(Peers(), *first.getsockname())
                assert open_sockets() == before - 1

        run(main())

    @pytest.mark.weft_only  # asyncio: from 3.13 on, without errno
    def test_says_when_no_address_is_there(self, run: Run) -> None:
        async def main() -> None:
            # TEST-NET-1 (RFC 5737): nobody's address.
            with pytest.raises(OSError, match="could not bind on any address out of") as caught:
                await asyncio.get_running_loop().create_server(Peers(), "192.0.2.1", 0)
            assert caught.value.errno == errno.EADDRNOTAVAIL

        run(main())

    def test_shares_a_port(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            one = await loop.create_server(Peers(), "127.0.0.1", 0, reuse_port=True)
            two = await loop.create_server(Peers(), *address_of(one), reuse_port=True)
            assert address_of(one) == address_of(two)
            await finish(one)
            await finish(two)

        run(main())

    def test_reuses_addresses_unless_told_otherwise(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            for asked, expected in ((None, True), (True, True), (False, False)):
                server = await loop.create_server(Peers(), "127.0.0.1", 0, reuse_address=asked)
                assert bool(server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) is expected
                await finish(server)

        run(main())

    @pytest.mark.weft_only  # asyncio: from 3.13 on
    def test_keeps_connections_alive(self, run: Run) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            server = await loop.create_server(Peers(), "127.0.0.1", 0, keep_alive=True)
            assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            await finish(server)

        run(main())

    @pytest.mark.weft_only  # asyncio leaves a server behind that nobody holds
    def test_cancellation_closes_the_server(self, run: Run) -> None:
        async def main() -> None:
            before = open_sockets()
            making = asyncio.ensure_future(asyncio.get_running_loop().create_server(Peers(), "127.0.0.1", 0))
            while open_sockets() == before:
                await asyncio.sleep(0)
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
            assert open_sockets() == before

        run(main())


class TestServing:
    def test_begins_when_told(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0, start_serving=False)
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await loop.create_connection(Recorder, *address_of(server))
            await server.start_serving()
            await server.start_serving()
            assert server.is_serving()
            transport, _ = await loop.create_connection(Recorder, *address_of(server))
            peer = await peers.next()
            transport.close()
            await peer.lost
            await finish(server)

        run(main())

    @pytest.mark.parametrize("start", [True, False])
    def test_serves_until_cancelled(self, run: Run, start: bool) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0, start_serving=start)
            forever = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            transport, _ = await loop.create_connection(Recorder, *address_of(server))
            peer = await peers.next()
            transport.close()
            await peer.lost
            assert not forever.done()
            forever.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forever
            assert not server.is_serving()
            with pytest.raises(RuntimeError, match="is closed"):
                await server.serve_forever()

        run(main())

    @pytest.mark.skipif(not SERVE_FOREVER_CLOSES_CONNECTIONS, reason="up to 3.13 it would wait for ever")
    def test_cancelled_serve_forever_closes_the_connections(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            forever = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            _, idle = await loop.create_connection(Recorder, *address_of(server))
            peer = await peers.next()
            forever.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forever
            assert await peer.lost is None
            assert await idle.lost is None

        run(main())

    def test_what_a_factory_sets_is_its_own_connections(self, run: Run) -> None:
        variable = contextvars.ContextVar("variable", default="server")

        async def main() -> None:
            loop = asyncio.get_running_loop()
            found: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

            class Peer(asyncio.Protocol):
                def __init__(self) -> None:
                    self.seen = variable.get()
                    variable.set("connection")

                def connection_made(self, transport: Any) -> None:
                    found.put_nowait((self.seen, variable.get()))
                    transport.close()

            server = await loop.create_server(Peer, "127.0.0.1", 0)
            for _ in range(2):
                transport, client = await loop.create_connection(Recorder, *address_of(server))
                assert await found.get() == ("server", "connection")
                await client.lost
                transport.close()
            await finish(server)
            assert variable.get() == "server"

        run(main())

    def test_close_ends_serve_forever(self, run: Run) -> None:
        async def main() -> None:
            server = await asyncio.get_running_loop().create_server(Peers(), "127.0.0.1", 0)
            forever = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="is already being awaited"):
                await server.serve_forever()
            server.close()
            with pytest.raises(asyncio.CancelledError):
                await forever

        run(main())

    def test_closes_at_the_end_of_a_block(self, run: Run) -> None:
        async def main() -> None:
            async with await asyncio.get_running_loop().create_server(Peers(), "127.0.0.1", 0) as server:
                assert server.is_serving()
            assert not server.is_serving()
            server.close()

        run(main())

    def test_accepts_many_at_once(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            clients = await asyncio.gather(*(loop.create_connection(Recorder, *address_of(server)) for _ in range(50)))
            for _ in clients:
                await peers.next()
            for transport, _ in clients:
                transport.close()
            for peer in peers:
                await peer.lost
            await finish(server)

        run(main())

    def test_streams(self, run: Run) -> None:
        async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            server = await asyncio.start_server(upper, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*address_of(server))
            writer.write(b"hello\n")
            assert await reader.read() == b"HELLO\n"
            writer.close()
            await writer.wait_closed()
            await finish(server)

        run(main())

    @pytest.mark.weft_only  # asyncio reports it in debug mode alone
    def test_reports_a_failing_factory_and_goes_on(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            reports: list[dict[str, Any]] = []
            loop.set_exception_handler(lambda loop, context: reports.append(context))
            peers = Peers()
            failures = iter([True, False])

            def factory() -> Recorder:
                if next(failures):
                    raise ZeroDivisionError
                return peers()

            server = await loop.create_server(factory, "127.0.0.1", 0)
            _, unlucky = await loop.create_connection(Recorder, *address_of(server))
            await unlucky.lost
            (report,) = reports
            assert report["message"] == "Error on transport creation for incoming connection"
            assert isinstance(report["exception"], ZeroDivisionError)
            transport, _ = await loop.create_connection(Recorder, *address_of(server))
            peer = await peers.next()
            transport.close()
            await peer.lost
            await finish(server)

        run(main())


class TestClosing:
    def test_waits_for_connections(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            transport, protocol = await loop.create_connection(Recorder, *address_of(server))
            peer = await peers.next()
            before = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0)
            assert not before.done()
            server.close()
            after = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0)
            assert not before.done()
            assert after.done() is not SERVER_WAITS_FOR_CONNECTIONS
            transport.write(b"still there")
            assert await peer.receive(11) == b"still there"
            transport.close()
            await asyncio.gather(before, after)
            assert peer.lost.done()
            await server.wait_closed()
            await protocol.lost

        run(main())

    def test_a_cancelled_waiter_does_no_harm(self, run: Run) -> None:
        async def main() -> None:
            server = await asyncio.get_running_loop().create_server(Peers(), "127.0.0.1", 0)
            waiter = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            await finish(server)

        run(main())

    @pytest.mark.weft_only  # asyncio: from 3.13 on
    def test_closes_clients(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server: Any = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            transport, protocol = await loop.create_connection(Recorder, *address_of(server))
            peer = await peers.next()
            peer.transport.write(b"goodbye")
            server.close()
            server.close_clients()
            await server.wait_closed()
            assert await peer.lost is None
            await protocol.lost
            assert protocol.data == b"goodbye"
            transport.close()

        run(main())

    @pytest.mark.weft_only  # asyncio: from 3.13 on
    def test_aborts_clients(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server: Any = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            transport, protocol = await loop.create_connection(Recorder, *address_of(server))
            transport.pause_reading()
            peer = await peers.next()
            while not peer.transport.get_write_buffer_size():
                peer.transport.write(bytes(1 << 20))
            server.close()
            server.close_clients()
            await asyncio.sleep(0)
            assert not peer.lost.done()
            server.abort_clients()
            await server.wait_closed()
            await peer.lost
            transport.abort()
            await protocol.lost

        run(main())
