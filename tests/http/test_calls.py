"""What a client's methods return is a coroutine to everything that asks for one, and wrong options are refused."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from weft import http
from weft.http.testing import FakeTransport, Reply

Run = Callable[[Coroutine[Any, Any, Any]], Any]
CERTS = Path(__file__).parent / "certs"


def answering() -> http.Client:
    async def handle(request: Any) -> Reply:
        await asyncio.sleep(0)
        return Reply(200, body=b"here")

    return http.Client(transport=FakeTransport(handle))


class TestCalls:
    def test_a_call_becomes_a_task(self, run: Run) -> None:
        async def main() -> None:
            async with answering() as client:
                call = client.get("http://x/")
                assert asyncio.iscoroutine(call) and inspect.isawaitable(call)
                assert await (await asyncio.create_task(call)).read() == b"here"
                async with asyncio.timeout(30):
                    done = [
                        asyncio.ensure_future(client.get("http://x/")),
                        asyncio.create_task(client.post("http://x/")),
                    ]
                    responses = await asyncio.gather(*done)
                assert [await one.read() for one in responses] == [b"here", b"here"]

        run(main())

    def test_a_cancelled_task_cancels_the_call(self, run: Run) -> None:
        async def main() -> None:
            waiting = asyncio.Event()

            async def handle(request: Any) -> Reply:
                waiting.set()
                await asyncio.Event().wait()
                raise AssertionError

            async with http.Client(transport=FakeTransport(handle)) as client:
                task = asyncio.create_task(client.get("http://x/"))
                await waiting.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        run(main())

    def test_a_release_may_be_awaited(self, run: Run) -> None:
        async def main() -> None:
            async with answering() as client:
                response = await client.get("http://x/")
                await response.release()
                await response.close()

        run(main())


class TestWrongOptions:
    @pytest.mark.parametrize("tls", [1.5, object()])
    def test_tls_that_is_none(self, run: Run, tls: Any) -> None:
        with pytest.raises(TypeError, match="tls is"):
            http.Client(tls=tls)

        async def main() -> None:
            async with answering() as client:
                with pytest.raises(TypeError, match="tls is"):
                    await client.get("http://x/", ssl=tls)

        run(main())

    def test_a_file_of_authorities(self, run: Run) -> None:
        async def main() -> None:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await reader.read()
                writer.close()

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTS / "server.pem")
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
            async with http.Client(tls=CERTS / "authority.pem") as client:
                assert await (await client.get(url)).read() == b"ok"
            async with http.Client(tls=str(CERTS / "absent.pem")) as client:
                with pytest.raises(http.TLSError, match=r"absent\.pem"):
                    await client.get(url)
            server.close()
            await server.wait_closed()

        run(main())

    def test_what_a_connector_does_not_have(self) -> None:
        with pytest.raises(TypeError, match="local_addr"):
            http.TCPConnector(local_addr=("127.0.0.1", 0))
        assert http.TCPConnector(limit=0, ttl_dns_cache=10).limits.total is None
