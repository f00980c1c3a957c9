"""uvicorn and Starlette in the test's own loop, with each of uvicorn's parsers: answers, streams, WebSockets, ends."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

for name in ("uvicorn", "starlette", "httpx", "websockets"):
    pytest.importorskip(name, reason=f"weft[frameworks] is not installed: no {name}")

import httpx
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from tests.frameworks.kit import BODY, Run, digest, pieces, within
from tests.frameworks.serving import serving
from tests.loop.kit import client_context


def parser(name: str, module: str) -> Any:
    """One of uvicorn's ways to parse, skipped where its library has no wheel for this Python."""
    return pytest.param(name, marks=pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed"))


HTTP = pytest.mark.parametrize("http", [parser("h11", "h11"), parser("httptools", "httptools")])
WS = pytest.mark.parametrize(
    "ws", [parser("websockets-sansio", "websockets"), parser("websockets", "websockets"), parser("wsproto", "wsproto")]
)
TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def client(**options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=client_context(), timeout=30, trust_env=False, **options)


async def until_refused(port: int) -> None:
    """Connect until nobody listens any more. Whoever was about to be accepted then is reset."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue


class TestHttp:
    @HTTP
    @TLS
    def test_requests(self, run: Run, http: str, tls: bool) -> None:
        async def main() -> None:
            async with serving(tls, http=http) as here, client() as session:
                response = await session.get(here.url("about"))
                assert response.json() == {"scheme": "https" if tls else "http", "version": "1.1"}
                response = await session.post(here.url("echo?a=1"), content=b"some")
                assert (response.content, response.headers["x-method"]) == (b"some", "POST")
                assert response.headers["x-query"] == "a=1"
                assert (await session.get(here.url("nowhere"))).status_code == 404
                assert (await session.get(here.url("background"))).text == "done"
                await here.heard("in the background")
                response = await session.post(here.url("echo"), content=BODY)
                assert digest(response.content) == digest(BODY)
                # uvicorn closes the connection after this one, so it is the last.
                assert (await session.get(here.url("fail"))).status_code == 500

        run(main())

    @HTTP
    @TLS
    def test_streams(self, run: Run, http: str, tls: bool) -> None:
        async def main() -> None:
            async with serving(tls, http=http) as here, client() as session:
                response = await session.post(here.url("upload"), content=pieces(BODY))
                assert response.text == digest(BODY)
                async with session.stream("GET", here.url("download")) as answer:
                    assert digest(b"".join([piece async for piece in answer.aiter_bytes()])) == digest(BODY)

        run(main())

    @HTTP
    def test_many_at_once(self, run: Run, http: str) -> None:
        async def main() -> None:
            async with serving(http=http) as here, client() as session:
                asked = [session.post(here.url("echo"), content=b"%d" % n) for n in range(100)]
                assert [answer.content for answer in await asyncio.gather(*asked)] == [b"%d" % n for n in range(100)]

        run(main())

    @HTTP
    def test_pipelined_requests(self, run: Run, http: str) -> None:
        """Many in one packet are answered in their order; the reader is paused meanwhile."""

        async def main() -> None:
            async with serving(http=http) as here:
                reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
                count = 50
                for n in range(count):
                    last = "Connection: close\r\n" if n == count - 1 else ""
                    writer.write(f"GET /echo?n={n} HTTP/1.1\r\nHost: x\r\n{last}\r\n".encode())
                answers = (await within(reader.read())).decode().lower()
                assert [part.partition("\r\n")[0] for part in answers.split("x-query: ")[1:]] == [
                    f"n={n}" for n in range(count)
                ]
                writer.close()
                await writer.wait_closed()

        run(main())

    def test_a_unix_socket(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = str(tmp_path / "socket")
            async with serving(uds=path), client(transport=httpx.AsyncHTTPTransport(uds=path)) as session:
                assert (await session.post("http://any/echo", content=b"x")).content == b"x"
                async with unix_connect(path, "ws://any/talk") as socket:
                    await socket.send("hello")
                    assert await socket.recv() == "hello"

        run(main())


class TestEnds:
    @HTTP
    def test_lifespan(self, run: Run, http: str) -> None:
        async def main() -> None:
            loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
            async with serving(http=http) as here:
                assert here.events == [f"startup on {loop}"]
            assert here.events == [f"startup on {loop}", "shutdown"]

        run(main())

    @HTTP
    @TLS
    def test_the_client_leaves(self, run: Run, http: str, tls: bool) -> None:
        """In the middle of a download and of an upload; the application hears of both."""

        async def main() -> None:
            async def half() -> Any:
                yield bytes(1000)
                await here.heard("upload begun")
                raise LookupError

            async with serving(tls, http=http) as here, client() as session:
                async with session.stream("GET", here.url("endless")) as answer:
                    async for _ in answer.aiter_bytes(100_000):
                        break
                await here.heard("download broken off")
                with pytest.raises(LookupError):
                    await session.post(here.url("upload"), content=half())
                await here.heard("upload broken off")
                assert (await session.get(here.url("about"))).status_code == 200

        run(main())

    @HTTP
    def test_a_request_in_flight_is_answered(self, run: Run, http: str) -> None:
        async def main() -> None:
            stopping: list[asyncio.Future[None]] = []

            async def body() -> Any:
                yield BODY[:1000]
                await here.heard("upload begun")
                stopping.append(asyncio.ensure_future(here.stop()))
                await within(until_refused(port))
                yield BODY[1000:]

            async with serving(http=http) as here, client() as session:
                port = here.port
                response = await session.post(here.url("upload"), content=body())
                assert response.text == digest(BODY)
                await within(stopping[0])
                assert here.events[-1] == "shutdown"

        run(main())


# One of the ways is deprecated, by uvicorn and by websockets.
@pytest.mark.filterwarnings("ignore:.*(websockets|WebSocketServerProtocol|remove second argument of ws_handler)")
class TestWebSockets:
    @HTTP
    @WS
    def test_messages_and_codes(self, run: Run, http: str, ws: str) -> None:
        async def main() -> None:
            async with serving(http=http, ws=ws) as here:
                where = here.url("talk", "ws")
                async with connect(where, proxy=None, max_size=None) as socket:
                    for message in ("hällo", b"\0\1", "x" * 100_000, BODY):
                        await socket.send(message)
                        assert await within(socket.recv()) == message
                    await within(await socket.ping())
                    await socket.close(4001)
                await here.heard("gone with 4001")
                async with connect(where, proxy=None) as socket:
                    await socket.send("close 4002")
                    with pytest.raises(ConnectionClosed):
                        await within(socket.recv())
                    assert (socket.close_code, socket.close_reason) == (4002, "as asked for")
                async with connect(where, proxy=None) as socket:
                    socket.transport.abort()
                await here.heard("gone with 1005", "gone with 1006")

        run(main())

    @WS
    def test_the_server_stops(self, run: Run, ws: str) -> None:
        async def main() -> None:
            async with serving(ws=ws, tls=True) as here:
                async with connect(here.url("talk", "ws"), proxy=None, ssl=client_context()) as socket:
                    await socket.send("hello")
                    assert await socket.recv() == "hello"
                    stopping = asyncio.ensure_future(here.stop())
                    with pytest.raises(ConnectionClosed):
                        await within(socket.recv())
                    assert socket.close_code == 1012
                await within(stopping)
                assert here.events[-1] == "shutdown"

        run(main())
