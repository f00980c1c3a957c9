"""ASGI applications from start to end: clients that leave, lifespan, and a framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from tests.http.asgi_kit import Reports, answer, body_of, client_of, echo
from weft.http import Client, Timeout
from weft.http.asgi import ASGITransport
from weft.http.errors import (
    ClientClosedError,
    ConnectError,
    FirstByteTimeoutError,
)

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


class TestLeaving:
    def test_a_reader_that_leaves(self, run: Run) -> None:
        async def main() -> None:
            ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await body_of(receive)
                await send({"type": "http.response.start", "status": 200, "headers": []})
                listener = asyncio.ensure_future(receive())
                try:
                    while True:
                        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
                        await asyncio.sleep(0)
                except OSError:
                    ended.set_result((await listener)["type"])
                    raise

            reports = Reports()
            async with client_of(app) as client:
                async with client.get("/") as response:
                    await response.chunk()
                assert await ended == "http.disconnect"
            assert reports == []

        run(main())

    def test_a_reader_that_leaves_while_the_application_waits_for_it(self, run: Run) -> None:
        async def main() -> None:
            waits = asyncio.Event()
            ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                asyncio.get_running_loop().call_soon(waits.set)
                try:
                    await send({"type": "http.response.body", "body": bytes(5_000_000), "more_body": True})
                except OSError as error:
                    ended.set_result(error)

            async with client_of(app) as client:
                async with client.get("/"):
                    await waits.wait()
                    assert not ended.done()
                assert isinstance(await ended, ConnectionResetError)

        run(main())

    def test_behind_a_streamed_body_comes_the_disconnect(self, run: Run) -> None:
        async def main() -> None:
            seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                assert await body_of(receive) == b"ab"
                await send({"type": "http.response.start", "status": 200, "headers": []})
                seen.set_result((await receive())["type"])

            async def pieces() -> AsyncIterator[bytes]:
                yield b"a"
                yield b"b"

            async with client_of(app) as client:
                async with client.post("/", content=pieces()):
                    for _ in range(5):
                        await asyncio.sleep(0)
                    assert not seen.done()
                assert await seen == "http.disconnect"

        run(main())

    def test_a_body_that_nobody_reads_is_closed(self, run: Run) -> None:
        closed = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await answer(send)

        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                closed.append(True)

        async def main() -> None:
            body = pieces()  # held, so that it is not the garbage collector who closes it
            async with client_of(app) as client:
                await (await client.post("/", content=body)).read()
            assert closed == [True]

        run(main())

    def test_a_time_limit(self, run: Run) -> None:
        async def main() -> None:
            gone = asyncio.Event()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                assert (await receive())["type"] == "http.disconnect"
                gone.set()

            async with client_of(app) as client:
                with pytest.raises(FirstByteTimeoutError):
                    await client.get("/", timeout=Timeout(first_byte=0.001))
                await gone.wait()

        run(main())

    def test_closing_ends_what_is_under_way_and_waits_for_what_is_behind_a_response(self, run: Run) -> None:
        async def main() -> None:
            done = []

            async def app(scope: Any, receive: Any, send: Any) -> None:
                if scope["path"] == "/hangs":
                    try:
                        await asyncio.Event().wait()
                    finally:
                        done.append("cancelled")
                await answer(send)
                for _ in range(5):
                    await asyncio.sleep(0)
                done.append("in the background")

            async with client_of(app) as client:
                hanging = asyncio.ensure_future(client.get("/hangs"))
                never_ran = asyncio.ensure_future(client.get("/hangs"))
                await client.get("/")
                never_ran.cancel()
            with pytest.raises(ClientClosedError):
                await hanging
            with pytest.raises(asyncio.CancelledError):
                await never_ran
            assert sorted(done) == ["cancelled", "cancelled", "in the background"]

        run(main())

    def test_two_loops_one_after_the_other(self, run: Run) -> None:
        transport = ASGITransport(echo)

        async def main() -> None:
            async with Client(transport=transport) as client:
                assert (await client.get("http://app.test/")).status == 200

        run(main())
        run(main())


class TestLifespan:
    def test_start_and_shutdown(self, run: Run) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                seen.append((await receive())["type"])
                await asyncio.sleep(0)
                scope["state"]["name"] = "weft"
                await send({"type": "lifespan.startup.complete"})
                seen.append((await receive())["type"])
                await send({"type": "lifespan.shutdown.complete"})
            else:
                seen.append(scope["state"]["name"])
                await answer(send)

        async def main() -> None:
            async with client_of(app, lifespan=True) as client:
                await asyncio.gather(*(client.get("/") for _ in range(3)))

        run(main())
        run(main())
        assert seen == ["lifespan.startup", "weft", "weft", "weft", "lifespan.shutdown"] * 2

    @pytest.mark.parametrize("how", ["says so", "raises", "returns"])
    def test_an_application_that_does_not_start(self, run: Run, how: str) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if how == "says so":
                await send({"type": "lifespan.startup.failed", "message": "no database"})
            elif how == "raises":
                raise LookupError("no database")

        async def main() -> None:
            async with client_of(app, lifespan=True) as client:
                with pytest.raises(
                    ConnectError, match="did not start.*" + ("returned" if how == "returns" else "no data")
                ):
                    await client.get("/")

        run(main())

    def test_an_application_that_does_not_shut_down(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                return await answer(send)
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise LookupError("stuck")

        async def main() -> None:
            client = client_of(app, lifespan=True)
            await client.get("/")
            with pytest.raises(RuntimeError, match="did not shut down.*stuck"):
                await client.aclose()

        run(main())


class TestStarlette:
    def test_a_reader_that_leaves_is_no_error_of_the_application(self, run: Run) -> None:
        """Starlette raises an exception of its own when it cannot send (``ClientDisconnect``)."""
        responses = pytest.importorskip("starlette.responses", reason="Starlette is not installed")
        import starlette.applications
        import starlette.routing

        async def main() -> None:
            ended = asyncio.Event()

            async def endless(request: Any) -> Any:
                async def pieces() -> AsyncIterator[bytes]:
                    try:
                        while True:
                            yield b"piece"
                            await asyncio.sleep(0)
                    finally:
                        ended.set()

                return responses.StreamingResponse(pieces())

            routes = [starlette.routing.Route("/", endless)]
            reports = Reports()
            async with client_of(starlette.applications.Starlette(routes=routes)) as client:
                async with client.get("/") as response:
                    assert await response.chunk()
                await ended.wait()
            assert reports == []

        run(main())

    def test_an_application(self, run: Run) -> None:
        pytest.importorskip("starlette", reason="Starlette is not installed")
        from starlette.applications import Starlette
        from starlette.background import BackgroundTask
        from starlette.requests import Request
        from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
        from starlette.routing import Route

        done: list[str] = []

        async def post(request: Request) -> Response:
            return JSONResponse({"got": await request.json()}, background=BackgroundTask(done.append, "background"))

        async def stream(request: Request) -> Response:
            async def pieces() -> AsyncIterator[bytes]:
                for n in range(3):
                    yield b"%d," % n

            return StreamingResponse(pieces())

        async def old(request: Request) -> Response:
            response = RedirectResponse("/stream")
            response.set_cookie("seen", "1")
            return response

        async def broken(request: Request) -> Response:
            raise LookupError("broken")

        routes = [
            Route("/post", post, methods=["POST"]), Route("/stream", stream), Route("/old", old),
            Route("/broken", broken),
        ]  # fmt: skip

        async def main() -> None:
            async with client_of(Starlette(routes=routes)) as client:
                assert await (await client.post("/post", json={"a": 1})).json() == {"got": {"a": 1}}
                response = await client.get("/old")
                assert await response.text() == "0,1,2,"
                assert [one.status for one in response.history] == [307]
                assert [cookie.name for cookie in client.cookies] == ["seen"]
                assert (await client.get("/none")).status == 404
                with pytest.raises(LookupError, match="broken"):
                    await client.get("/broken")
            assert done == ["background"]

        run(main())
