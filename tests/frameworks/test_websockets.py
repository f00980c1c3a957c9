"""websockets, client and server: messages of all sizes, pings, the ends of a connection, and of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets", reason="weft[frameworks] is not installed: no websockets")

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import ServerConnection, broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.utils import accept_key

from tests.frameworks.kit import BODY, Run, digest, pieces, until_held_back, within
from tests.loop.kit import client_context, server_context

COMPRESSION = pytest.mark.parametrize("compression", [None, "deflate"], ids=["as is", "deflate"])


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def address(server: Any, scheme: str = "ws") -> str:
    host = "localhost" if scheme == "wss" else "127.0.0.1"
    return f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def connected(handler: Any, **options: Any) -> AsyncIterator[ClientConnection]:
    """A client of a server of its own; the server ends first if it has to end what the handler does."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        async with connect(address(server), max_size=None, proxy=None, **options) as client:
            yield client


class TestMessages:
    @COMPRESSION
    def test_text_and_bytes(self, run: Run, compression: Any) -> None:
        async def main() -> None:
            async with connected(echo, compression=compression) as client:
                for message in ("", "hällo", b"", b"\0\1\2", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536):
                    await client.send(message)
                    assert await within(client.recv()) == message

        run(main())

    @COMPRESSION
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_large_messages(self, run: Run, compression: Any, tls: bool) -> None:
        async def main() -> None:
            there: dict[str, Any] = {"ssl": server_context()} if tls else {}
            here: dict[str, Any] = {"ssl": client_context()} if tls else {}
            options: dict[str, Any] = {"max_size": None, "compression": compression}
            async with serve(echo, "127.0.0.1", 0, **there, **options) as server:
                async with connect(address(server, "wss" if tls else "ws"), proxy=None, **here, **options) as client:
                    for _ in range(2):
                        await client.send(BODY)
                        message = await within(client.recv())
                        assert isinstance(message, bytes)
                        assert digest(message) == digest(BODY)

        run(main())

    @COMPRESSION
    def test_fragments(self, run: Run, compression: Any) -> None:
        async def main() -> None:
            async with connected(echo, compression=compression) as client:
                await client.send(pieces(BODY))
                received = b"".join([fragment async for fragment in client.recv_streaming(decode=False)])
                assert digest(received) == digest(BODY)

        run(main())

    def test_a_slow_reader_holds_the_writer_back(self, run: Run) -> None:
        async def main() -> None:
            held_back: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            async def flood(connection: ServerConnection) -> None:
                count, waiting = await until_held_back(lambda: connection.send(bytes(100_000)), connection.transport)
                held_back.set_result(count)
                await waiting

            async with connected(flood, compression=None) as client:
                count = await within(held_back)
                assert [len(message) async for message in client] == [100_000] * count

        run(main())

    def test_many_clients_and_a_broadcast(self, run: Run) -> None:
        async def main() -> None:
            async with serve(echo, "127.0.0.1", 0) as server:
                clients = [await connect(address(server), proxy=None) for _ in range(50)]
                await asyncio.gather(*[client.send(str(n)) for n, client in enumerate(clients)])
                assert await asyncio.gather(*[client.recv() for client in clients]) == [str(n) for n in range(50)]
                broadcast(server.connections, "all")
                assert set(await within(asyncio.gather(*[client.recv() for client in clients]))) == {"all"}
                await asyncio.gather(*[client.close() for client in clients])

        run(main())

    def test_a_unix_socket(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = str(tmp_path / "socket")
            async with unix_serve(echo, path), unix_connect(path) as client:
                await client.send("hello")
                assert await client.recv() == "hello"

        run(main())


class TestPings:
    def test_ping_and_pong(self, run: Run) -> None:
        async def main() -> None:
            async with connected(echo) as client:
                pongs = [await client.ping(payload) for payload in ("one", "two", "three")]
                assert all(latency >= 0 for latency in await within(asyncio.gather(*pongs)))

        run(main())

    def test_keepalive(self, run: Run) -> None:
        """A peer that answers no ping is given up, by a timer of the loop."""

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = head.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
            writer.write(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()
            )
            await reader.read()
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
                times: dict[str, Any] = {"ping_interval": 0.02, "ping_timeout": 0.02, "close_timeout": 0.02}
                async with connect(address(server), proxy=None, compression=None, **times) as client:
                    with pytest.raises(ConnectionClosedError) as caught:
                        await within(client.recv())
                    assert caught.value.sent is not None
                    assert caught.value.sent.code == 1011

        run(main())


class TestEnds:
    @pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
    def test_the_server_closes_with_a_code(self, run: Run, code: int) -> None:
        async def close(connection: ServerConnection) -> None:
            await connection.close(code, "because")

        async def main() -> None:
            async with connected(close) as client:
                with pytest.raises(ConnectionClosedOK if code in {1000, 1001} else ConnectionClosedError):
                    await within(client.recv())
                assert (client.close_code, client.close_reason) == (code, "because")

        run(main())

    def test_the_client_closes_with_a_code(self, run: Run) -> None:
        async def main() -> None:
            heard: asyncio.Queue[Any] = asyncio.Queue()

            async def listen(connection: ServerConnection) -> None:
                await connection.wait_closed()
                await heard.put((connection.close_code, connection.close_reason))

            async with connected(listen) as client:
                await client.close(4000, "enough")
                assert await within(heard.get()) == (4000, "enough")

        run(main())

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_one_goes_without_a_word(self, run: Run, who: str) -> None:
        async def main() -> None:
            heard: asyncio.Queue[Any] = asyncio.Queue()

            async def listen(connection: ServerConnection) -> None:
                if who == "server":
                    connection.transport.abort()
                await connection.wait_closed()
                await heard.put(connection.close_code)

            async with connected(listen) as client:
                if who == "client":
                    client.transport.abort()
                with pytest.raises(ConnectionClosedError):
                    await within(client.recv())
                assert client.close_code == 1006
                assert await within(heard.get()) == 1006

        run(main())

    def test_a_message_that_is_too_large(self, run: Run) -> None:
        async def main() -> None:
            async with serve(echo, "127.0.0.1", 0, max_size=1000) as server:
                async with connect(address(server), proxy=None) as client:
                    await client.send(bytes(1001))
                    with pytest.raises(ConnectionClosedError):
                        await within(client.recv())
                    assert client.close_code == 1009

        run(main())

    def test_a_handshake_that_is_refused(self, run: Run) -> None:
        async def main() -> None:
            def refuse(connection: ServerConnection, request: Any) -> Any:
                return connection.respond(403, "no\n")

            async with serve(echo, "127.0.0.1", 0, process_request=refuse) as server:
                with pytest.raises(InvalidStatus) as caught:
                    await connect(address(server), proxy=None)
                assert caught.value.response.status_code == 403

        run(main())

    def test_waiting_for_a_message_is_cancelled(self, run: Run) -> None:
        """No message is lost by it."""

        async def main() -> None:
            async with connected(echo) as client:
                for n in range(20):
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(client.recv(), 0)
                    await client.send(str(n))
                    assert await within(client.recv()) == str(n)

        run(main())

    def test_the_server_stops(self, run: Run) -> None:
        async def main() -> None:
            async with serve(echo, "127.0.0.1", 0) as server:
                where = address(server)
                async with connect(where, proxy=None) as client:
                    waiting = asyncio.ensure_future(client.recv())
                    await client.send("x")
                    assert await within(waiting) == "x"
                    server.close()
                    with pytest.raises(ConnectionClosedOK):
                        await within(client.recv())
                    assert client.close_code == 1001
                    await within(server.wait_closed())
                with pytest.raises(ConnectionRefusedError):
                    await connect(where, proxy=None)

        run(main())
