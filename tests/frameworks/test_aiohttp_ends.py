"""How things end in aiohttp: a client that leaves or gives up, a server that stops, an application run to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="weft[race] is not installed: no aiohttp")

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from tests.conftest import LoopFactory
from tests.frameworks.kit import BODY, Run, digest, pieces, within
from tests.frameworks.test_aiohttp import TLS, app_of, client, echo, serving


class Stuck:
    """A handler that never answers; tells when it was entered and how it was left."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left.set_result("cancelled")
            raise
        raise AssertionError


class TestClientsThatLeave:
    @TLS
    @pytest.mark.parametrize("how", ["the task is cancelled", "time is up"])
    def test_before_the_answer(self, run: Run, tls: bool, how: str) -> None:
        async def main() -> None:
            stuck = Stuck()
            async with serving(app_of(stuck=stuck.handle, echo=echo), tls, handler_cancellation=True) as url:
                async with client() as session:
                    timeout = aiohttp.ClientTimeout(total=0.2 if how == "time is up" else None)
                    request = asyncio.ensure_future(session.get(f"{url}/stuck", timeout=timeout))
                    if how == "time is up":
                        with pytest.raises(asyncio.TimeoutError):
                            await within(request)
                    else:
                        await within(stuck.entered.wait())
                        request.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await request
                    if stuck.entered.is_set():
                        assert await within(stuck.left) == "cancelled"
                    # Neither side is the worse for it.
                    async with session.post(f"{url}/echo", data=b"x") as response:
                        assert await response.read() == b"x"

        run(main())

    @TLS
    def test_in_the_middle_of_the_answer(self, run: Run, tls: bool) -> None:
        ended: asyncio.Queue[str] = asyncio.Queue()

        async def endless(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(bytes(50_000))
                    await asyncio.sleep(0)
            except ConnectionResetError:
                await ended.put("reset")
            return response

        async def main() -> None:
            async with serving(app_of(endless=endless), tls) as url, client() as session:
                async with session.get(f"{url}/endless") as response:
                    assert len(await response.content.readexactly(200_000)) == 200_000
                assert await within(ended.get()) == "reset"

        run(main())

    def test_in_the_middle_of_the_request(self, run: Run) -> None:
        ended: asyncio.Queue[str] = asyncio.Queue()

        async def reading(request: web.Request) -> web.Response:
            try:
                await request.read()
            except ConnectionError as error:
                await ended.put(type(error).__name__)
                raise
            return web.Response()

        async def main() -> None:
            async with serving(app_of(reading=reading)) as url:
                reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                writer.write(b"POST /reading HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nsome")
                await writer.drain()
                await asyncio.sleep(0)
                writer.transport.abort()
                assert "Connection" in await within(ended.get())

        run(main())


HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"


class TestServersThatLeave:
    @pytest.mark.parametrize("said", [b"", HALF_AN_ANSWER], ids=["before the answer", "in its middle"])
    def test_the_client_is_told(self, run: Run, said: bytes) -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with server, client() as session:
                with pytest.raises(aiohttp.ClientPayloadError if said else aiohttp.ServerDisconnectedError):
                    async with session.get(f"http://127.0.0.1:{port}/") as response:
                        await response.read()

        run(main())

    def test_nobody_listens(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                async with client() as session:
                    with pytest.raises(aiohttp.ClientConnectorError) as caught:
                        await session.get(f"http://127.0.0.1:{bound.getsockname()[1]}/")
                    assert isinstance(caught.value.os_error, ConnectionRefusedError)

        run(main())


class TestGracefulShutdown:
    @TLS
    def test_a_request_in_flight_is_answered(self, run: Run, tls: bool) -> None:
        """And nobody is let in any more, from the moment on that the application hears of it."""

        async def main() -> None:
            entered, go_on = asyncio.Event(), asyncio.Event()

            async def slow(request: web.Request) -> web.StreamResponse:
                entered.set()
                await go_on.wait()
                response = web.StreamResponse()
                await response.prepare(request)
                async for piece in pieces(BODY):
                    await response.write(piece)
                return response

            async def on_shutdown(app: web.Application) -> None:
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get(f"{url}/slow")
                go_on.set()

            async def get() -> str:
                async with session.get(f"{url}/slow") as response:
                    return digest(await response.read())

            app = app_of(slow=slow)
            app.on_shutdown.append(on_shutdown)
            async with client() as session:
                async with serving(app, tls) as url:
                    request = asyncio.ensure_future(get())
                    await within(entered.wait())
                assert go_on.is_set()
                assert await within(request) == digest(BODY)

        run(main())

    def test_a_request_that_takes_too_long_is_cancelled(self, run: Run) -> None:
        async def main() -> None:
            stuck = Stuck()
            async with client() as session:
                async with serving(app_of(stuck=stuck.handle), shutdown_timeout=0.05) as url:
                    request = asyncio.ensure_future(session.post(f"{url}/stuck"))
                    await within(stuck.entered.wait())
                assert await within(stuck.left) == "cancelled"
                with pytest.raises(aiohttp.ServerDisconnectedError):
                    await within(request)

        run(main())

    def test_idle_connections_are_closed(self, run: Run) -> None:
        async def main() -> None:
            async with client() as session:
                async with serving(app_of(echo=echo)) as url:
                    async with session.get(f"{url}/echo"):
                        pass
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get(f"{url}/echo")

        run(main())

    def test_websockets_are_told(self, run: Run) -> None:
        async def main() -> None:
            sockets: set[web.WebSocketResponse] = set()

            async def listening(request: web.Request) -> web.WebSocketResponse:
                ws = web.WebSocketResponse()
                await ws.prepare(request)
                sockets.add(ws)
                async for _ in ws:
                    pass
                return ws

            async def on_shutdown(app: web.Application) -> None:
                for ws in list(sockets):
                    await ws.close(code=WSCloseCode.GOING_AWAY, message=b"bye")

            app = app_of(ws=listening)
            app.on_shutdown.append(on_shutdown)
            async with client() as session:
                async with serving(app) as url:
                    ws = await session.ws_connect(f"{url}/ws")
                    hearing = asyncio.ensure_future(ws.receive())
                message = await within(hearing)
                assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "bye")

        run(main())


class TestRunApp:
    """``web.run_app``: starts the loop it is given, and stops with a signal."""

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_from_start_to_signal(self, new_loop: LoopFactory, signum: signal.Signals) -> None:
        events: list[Any] = []
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        async def visit() -> None:
            async with client() as session:
                async with session.get(f"http://127.0.0.1:{port}/echo") as response:
                    events.append(response.status)
            os.kill(os.getpid(), signum)

        async def background(app: web.Application) -> Any:
            events.append("started")
            visitor = asyncio.ensure_future(visit())
            yield
            await visitor
            events.append("cleaned up")

        app = app_of(echo=echo)
        app.cleanup_ctx.append(background)
        loop = new_loop()
        web.run_app(app, sock=listener, loop=loop, print=None, access_log=None)
        assert events == ["started", 200, "cleaned up"]
        assert loop.is_closed()
