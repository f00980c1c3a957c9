"""aiohttp, client and server, on one loop: requests, bodies, WebSockets, TLS, files, Unix sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="weft[race] is not installed: no aiohttp")

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from tests.frameworks.kit import BODY, Run, digest, pieces, until_held_back, within
from tests.loop.kit import client_context, server_context

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
LARGE = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


@asynccontextmanager
async def serving(app: web.Application, tls: bool = False, **options: Any) -> AsyncIterator[str]:
    """The application's address while it is served; every request is over when the block has ended."""
    runner = web.AppRunner(app, access_log=None, **options)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context() if tls else None)
        await site.start()
        yield f"{'https://localhost' if tls else 'http://127.0.0.1'}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def client(**options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context(), **options))


def app_of(**handlers: Any) -> web.Application:
    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.route("*", f"/{name}", handler) for name, handler in handlers.items()])
    return app


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), headers={"X-Method": request.method})


async def hashed(request: web.Request) -> web.Response:
    """Reads the body as it comes."""
    body = b"".join([piece async for piece in request.content.iter_any()])
    return web.Response(text=digest(body))


async def download(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in pieces(BODY):
        await response.write(piece)
    await response.write_eof()
    return response


class TestRequests:
    @TLS
    def test_methods_and_bodies(self, run: Run, tls: bool) -> None:
        async def main() -> None:
            async with serving(app_of(echo=echo), tls) as url, client() as session:
                for method in ("GET", "POST", "PUT", "DELETE"):
                    async with session.request(method, f"{url}/echo", data=method.lower().encode()) as response:
                        assert (response.status, response.headers["X-Method"]) == (200, method)
                        assert await response.text() == method.lower()
                async with session.post(f"{url}/echo", json={"a": [1, "ä"]}) as response:
                    assert await response.json(content_type=None) == {"a": [1, "ä"]}
                async with session.get(f"{url}/nowhere") as response:
                    assert response.status == 404

        run(main())

    @TLS
    def test_bodies_are_streamed_both_ways(self, run: Run, tls: bool) -> None:
        async def main() -> None:
            async with serving(app_of(hashed=hashed, download=download), tls) as url, client() as session:
                async with session.post(f"{url}/hashed", data=pieces(BODY)) as response:
                    assert await response.text() == digest(BODY)
                async with session.get(f"{url}/download") as response:
                    body = b"".join([piece async for piece in response.content.iter_chunked(10_000)])
                    assert digest(body) == digest(BODY)

        run(main())

    @LARGE
    @TLS
    def test_large_bodies_in_one_piece(self, run: Run, tls: bool) -> None:
        async def main() -> None:
            async with serving(app_of(echo=echo), tls) as url, client() as session:
                async with session.post(f"{url}/echo", data=BODY) as response:
                    assert digest(await response.read()) == digest(BODY)

        run(main())

    @TLS
    def test_a_slow_reader_holds_the_writer_back(self, run: Run, tls: bool) -> None:
        held_back = asyncio.Event()

        async def endless(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            assert isinstance(request.transport, asyncio.Transport)
            count, waiting = await until_held_back(lambda: response.write(bytes(100_000)), request.transport)
            held_back.set()
            await waiting
            await response.write(str(count).encode())
            return response

        async def main() -> None:
            async with serving(app_of(endless=endless), tls) as url, client() as session:
                async with session.get(f"{url}/endless") as response:
                    await within(held_back.wait())
                    zeros, count = (body := await within(response.read())).rstrip(b"0123456789"), body.lstrip(b"\0")
                    assert len(zeros) == int(count) * 100_000

        run(main())

    def test_keep_alive_uses_one_connection(self, run: Run) -> None:
        async def who(request: web.Request) -> web.Response:
            assert request.transport is not None
            return web.Response(text=str(request.transport.get_extra_info("peername")))

        async def main() -> None:
            async with serving(app_of(who=who)) as url, client() as session:
                seen = {await (await session.get(f"{url}/who")).text() for _ in range(20)}
                assert len(seen) == 1
                async with session.get(f"{url}/who", headers={"Connection": "close"}) as response:
                    assert {await response.text()} == seen
                assert await (await session.get(f"{url}/who")).text() not in seen

        run(main())

    @TLS
    def test_many_at_once(self, run: Run, tls: bool) -> None:
        """Each waits in its handler for all the others, so there are as many connections as requests."""
        count, here = 40, 0
        all_here = asyncio.Event()

        async def meet(request: web.Request) -> web.Response:
            nonlocal here
            here += 1
            if here == count:
                all_here.set()
            await all_here.wait()
            return web.Response(text=request.query["n"])

        async def main() -> None:
            async with serving(app_of(meet=meet), tls) as url, client(limit=count) as session:

                async def one(n: int) -> str:
                    async with session.get(f"{url}/meet?n={n}") as response:
                        return await response.text()

                assert await within(asyncio.gather(*map(one, range(count)))) == [str(n) for n in range(count)]

        run(main())

    def test_redirects_and_cookies(self, run: Run) -> None:
        async def start(request: web.Request) -> web.Response:
            answer = web.HTTPFound("/end")
            answer.set_cookie("seen", "yes")
            raise answer

        async def end(request: web.Request) -> web.Response:
            return web.Response(text=request.cookies.get("seen", "no"))

        async def main() -> None:
            jar = aiohttp.CookieJar(unsafe=True)
            async with serving(app_of(start=start, end=end)) as url, aiohttp.ClientSession(cookie_jar=jar) as session:
                async with session.get(f"{url}/start") as response:
                    assert [step.status for step in response.history] == [302]
                    assert await response.text() == "yes"

        run(main())

    def test_a_name_is_resolved(self, run: Run) -> None:
        async def main() -> None:
            async with serving(app_of(echo=echo)) as url, client() as session:
                async with session.post(url.replace("127.0.0.1", "localhost") + "/echo", data=b"x") as response:
                    assert await response.read() == b"x"

        run(main())


class TestFiles:
    """``FileResponse`` uses ``loop.sendfile``, and its fallback over TLS."""

    @TLS
    def test_a_file_and_a_part_of_it(self, run: Run, tls: bool, tmp_path: Path) -> None:
        path = tmp_path / "body"
        path.write_bytes(BODY)

        async def file(request: web.Request) -> web.FileResponse:
            return web.FileResponse(path)

        async def main() -> None:
            async with serving(app_of(file=file), tls) as url, client() as session:
                async with session.get(f"{url}/file") as response:
                    assert digest(await response.read()) == digest(BODY)
                async with session.get(f"{url}/file", headers={"Range": "bytes=100000-199999"}) as response:
                    assert response.status == 206
                    assert digest(await response.read()) == digest(BODY[100_000:200_000])
                # Its own end is the body's end, so the connection can be used again.
                async with session.get(f"{url}/file", headers={"Range": "bytes=-10"}) as response:
                    assert await response.read() == BODY[-10:]

        run(main())

    def test_upload_of_a_form_with_a_file(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "body"
        path.write_bytes(BODY)

        async def form(request: web.Request) -> web.Response:
            fields = await request.post()
            file = fields["file"]
            assert isinstance(file, web.FileField)
            with file.file:
                return web.Response(text=f"{fields['name']!s} {digest(file.file.read())}")

        async def main() -> None:
            async with serving(app_of(form=form)) as url, client() as session:
                with path.open("rb") as file:
                    async with session.post(f"{url}/form", data={"name": "n", "file": file}) as response:
                        assert await response.text() == f"n {digest(BODY)}"

        run(main())


class TestUnixSockets:
    @LARGE
    def test_a_request(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")

        async def main() -> None:
            runner = web.AppRunner(app_of(echo=echo))
            await runner.setup()
            try:
                await web.UnixSite(runner, path).start()
                async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
                    async with session.post("http://any/echo", data=BODY) as response:
                        assert digest(await response.read()) == digest(BODY)
            finally:
                await runner.cleanup()

        run(main())


class TestTls:
    def test_a_certificate_that_is_not_trusted(self, run: Run) -> None:
        async def main() -> None:
            async with serving(app_of(echo=echo), tls=True) as url, aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(f"{url}/echo")
                async with session.get(f"{url}/echo", ssl=client_context()) as response:
                    assert response.status == 200

        run(main())

    def test_what_the_transports_say(self, run: Run) -> None:
        """aiohttp's own tests ask for this class; its users ask for the rest."""

        async def about(request: web.Request) -> web.Response:
            transport = request.transport
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject) is request.secure
            assert transport.get_extra_info("socket").getsockname() == transport.get_extra_info("sockname")
            return web.Response(text=request.scheme)

        async def main() -> None:
            for scheme in ("http", "https"):
                async with serving(app_of(about=about), tls=scheme == "https") as url, client() as session:
                    async with session.get(f"{url}/about") as response:
                        assert response.connection is None or isinstance(
                            response.connection.transport, asyncio.Transport
                        )
                        assert (response.status, await response.text()) == (200, scheme)

        run(main())


async def ws_echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


class TestWebSockets:
    @TLS
    @pytest.mark.parametrize("compress", [0, 15], ids=["as is", "deflate"])
    def test_messages(self, run: Run, tls: bool, compress: int) -> None:
        async def main() -> None:
            async with serving(app_of(ws=ws_echo), tls) as url, client() as session:
                async with session.ws_connect(f"{url}/ws", compress=compress, max_msg_size=0) as ws:
                    await ws.send_str("hällo")
                    assert await ws.receive_str() == "hällo"
                    await ws.send_json({"n": 1})
                    assert await ws.receive_json() == {"n": 1}
                    await ws.send_bytes(BODY)
                    assert digest(await ws.receive_bytes()) == digest(BODY)
                    for n in range(100):
                        await ws.send_str(str(n))
                    assert [await ws.receive_str() for _ in range(100)] == [str(n) for n in range(100)]
                assert ws.close_code == WSCloseCode.OK

        run(main())

    def test_ping_and_pong(self, run: Run) -> None:
        async def main() -> None:
            async with serving(app_of(ws=ws_echo)) as url, client() as session:
                async with session.ws_connect(f"{url}/ws", autoping=False) as ws:
                    await ws.ping(b"are you there?")
                    message = await within(ws.receive())
                    assert (message.type, message.data) == (WSMsgType.PONG, b"are you there?")

        run(main())

    def test_the_server_closes_with_a_code(self, run: Run) -> None:
        async def closing(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            await ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"later")
            return ws

        async def main() -> None:
            async with serving(app_of(ws=closing)) as url, client() as session:
                async with session.ws_connect(f"{url}/ws") as ws:
                    message = await within(ws.receive())
                    assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1013, "later")

        run(main())

    def test_the_client_goes_without_a_word(self, run: Run) -> None:
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def listening(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            await heard.put((await ws.receive()).type)
            return ws

        async def main() -> None:
            async with serving(app_of(ws=listening)) as url, client() as session:
                ws = await session.ws_connect(f"{url}/ws")
                assert ws._conn is not None
                assert ws._conn.transport is not None
                ws._conn.transport.abort()
                assert await within(heard.get()) in {WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSING}
                await ws.close()

        run(main())
