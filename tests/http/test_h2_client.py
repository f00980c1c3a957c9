"""The client over HTTP/2: pool, repetition and closing, against nginx and a server that goes away at the wrong time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection as Framing
from h2.errors import ErrorCodes
from h2.events import StreamEnded

from tests.http.test_h2_nginx import FILE, NGINX, nginx
from tests.loop.kit import client_context, server_context
from weft.http import Client, Limits

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
__all__ = ["nginx"]

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def client_to(path: Path, **options: Any) -> Client:
    return Client("https://localhost", unix_socket=path, tls=client_context(), **options)


@needs_nginx
class TestNginx:
    def test_one_connection_does(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with client_to(nginx / "main") as client:
                responses = await asyncio.gather(*(client.get("/hello") for _ in range(60)))
                assert {response.http_version for response in responses} == {"HTTP/2.0"}
                assert {await response.text() for response in responses} == {"hello  GET "}
                assert len(client.transport.pool.connections) == 1  # type: ignore[attr-defined]  # of the network's

        run(main())

    def test_bodies(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with client_to(nginx / "main") as client:
                assert await (await client.get("/file")).read() == FILE
                async with client.get("/file") as response:
                    assert sum([len(piece) async for piece in response]) == len(FILE)
                async with client.get("/file") as response:
                    await response.chunk()  # and leave
                assert (await client.get("/hello")).status == 200

        run(main())

    def test_the_server_goes_away_every_three_requests(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with client_to(nginx / "brief") as client:

                async def get(n: int) -> str:
                    return await (await client.get(f"/{n}")).text()

                assert [await get(n) for n in range(10)] == [f"/{n}" for n in range(10)]

        run(main())

    def test_more_requests_than_streams(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with client_to(nginx / "narrow", limits=Limits(per_host=2)) as client:
                responses = await asyncio.gather(*(client.get("/hello") for _ in range(40)))
                assert [response.status for response in responses] == [200] * 40

        run(main())

    def test_closing_with_a_download_under_way(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with client_to(nginx / "main") as client:
                response = await client.get("/file")
            with pytest.raises(ConnectionError):
                await response.read()

        run(main())


class Server(asyncio.Protocol):
    """A server of ``h2`` that answers each request as ``answer(server, stream)`` says."""

    def __init__(self, answer: Callable[[Server, int], None]) -> None:
        self._answer = answer
        self.framing = Framing(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.transport: Any = None
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.framing.initiate_connection()
        self.transport.write(self.framing.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.framing.receive_data(data):
            if isinstance(event, StreamEnded):
                self._answer(self, event.stream_id)
        self.transport.write(self.framing.data_to_send())

    def reply(self, stream: int, body: bytes) -> None:
        self.framing.send_headers(stream, [(":status", "200")])
        self.framing.send_data(stream, body, end_stream=True)


class TestRepetition:
    @pytest.mark.parametrize("how", ["refused", "goaway"])
    def test_what_was_not_processed_is_sent_again(self, run: Run, how: str, tmp_path: Path) -> None:
        servers: list[Server] = []

        def answer(server: Server, stream: int) -> None:
            if server is not servers[0] or stream == 1:
                server.reply(stream, b"%d" % servers.index(server))
            elif how == "refused":
                server.framing.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                server.framing.close_connection(last_stream_id=1)
            else:
                server.framing.close_connection(last_stream_id=1)

        def make() -> Server:
            servers.append(Server(answer))
            return servers[-1]

        async def main() -> None:
            context = server_context()
            context.set_alpn_protocols(["h2"])
            loop = asyncio.get_running_loop()
            listening = await loop.create_unix_server(make, str(tmp_path / "h2"), ssl=context)
            async with client_to(tmp_path / "h2") as client:
                assert await (await client.get("/")).read() == b"0"
                # POST: sent again only as the server has said that it did nothing.
                assert await (await client.post("/", content=b"x")).read() == b"1"
            assert len(servers) == 2
            listening.close()
            await listening.wait_closed()
            for server in servers:
                await server.lost.wait()

        run(main())
