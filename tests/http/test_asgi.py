"""Requests to ASGI applications in this process, bare ones and Starlette's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeAlias

import pytest

from tests.http.asgi_kit import Reports, answer, client_of, echo
from weft.http.errors import (
    IncompleteBodyError,
    InvalidHeaderError,
    PeerClosedError,
    WebSocketError,
)

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


class TestScope:
    def test_what_the_application_sees(self, run: Run) -> None:
        seen: dict[str, Any] = {}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.update(scope)
            await answer(send)

        async def main() -> None:
            async with client_of(app, root_path="/api", client=("10.1.2.3", 99)) as client:
                await client.post("/api/a%2Fb%C3%A9?q=%20|", content=b"xy", headers={"X-One": " 1 "})

        run(main())
        assert seen["type"] == "http"
        assert seen["method"] == "POST"
        assert seen["scheme"] == "http"
        assert seen["path"] == "/api/a/bé"
        assert seen["raw_path"] == b"/api/a%2Fb%C3%A9"
        assert seen["query_string"] == b"q=%20|"
        assert seen["root_path"] == "/api"
        assert seen["client"] == ["10.1.2.3", 99]
        assert seen["server"] == ["app.test", 80]
        assert seen["http_version"] == "1.1"
        assert seen["asgi"]["version"] == "3.0"
        headers = dict(seen["headers"])
        assert headers[b"host"] == b"app.test"
        assert headers[b"content-length"] == b"2"
        assert headers[b"x-one"] == b"1"
        assert "state" not in seen

    def test_a_context_variable_reaches_the_application(self, run: Run) -> None:
        name: ContextVar[str] = ContextVar("name")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, name.get().encode())

        async def main() -> None:
            name.set("weft")
            async with client_of(app) as client:
                assert await (await client.get("/")).text() == "weft"

        run(main())

    def test_a_header_that_cannot_be_sent(self, run: Run) -> None:
        async def main() -> None:
            async with client_of(echo) as client:
                with pytest.raises(InvalidHeaderError):
                    await client.get("/", headers={"x": "a\r\nb: c"})

        run(main())


class TestBodies:
    def test_up_and_down(self, run: Run) -> None:
        async def main() -> None:
            async def pieces() -> AsyncIterator[bytes]:
                for n in range(5):
                    yield b"%d" % n

            async with client_of(echo) as client:
                assert await (await client.get("/")).read() == b""
                assert await (await client.post("/", content=b"whole")).read() == b"whole"
                assert await (await client.post("/", content=pieces())).read() == b"01234"

        run(main())

    def test_a_conversation(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            more = True
            while more:
                message = await receive()
                more = message["more_body"]
                await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": more})

        async def main() -> None:
            words: asyncio.Queue[bytes | None] = asyncio.Queue()

            async def pieces() -> AsyncIterator[bytes]:
                while (word := await words.get()) is not None:
                    yield word

            async with client_of(app) as client:
                async with client.post("/", content=pieces()) as response:
                    for word in (b"one", b"two"):
                        words.put_nowait(word)
                        assert await response.chunk() == word.upper()
                    words.put_nowait(None)
                    assert await response.chunk() == b""

        run(main())

    def test_a_slow_reader_stops_the_application(self, run: Run) -> None:
        async def main() -> None:
            sent = 0

            async def app(scope: Any, receive: Any, send: Any) -> None:
                nonlocal sent
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for _ in range(1000):
                    await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
                    sent += 10_000
                await send({"type": "http.response.body"})

            async with client_of(app) as client:
                async with client.get("/") as response:
                    for _ in range(10):
                        await asyncio.sleep(0)
                    assert 0 < sent < 1_000_000
                    assert sum([len(piece) async for piece in response]) == 10_000_000

        run(main())

    def test_a_body_that_fails(self, run: Run) -> None:
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.extend([(await receive())["type"], (await receive())["type"]])

        async def pieces() -> AsyncIterator[bytes]:
            yield b"x"
            raise LookupError("no more")

        async def main() -> None:
            async with client_of(app) as client:
                with pytest.raises(LookupError):
                    await client.post("/", content=pieces())

        run(main())
        assert seen == ["http.request", "http.disconnect"]

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_no_content(self, run: Run, method: str, status: int) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, status, b"what a server drops", [(b"content-length", b"19")])

        async def main() -> None:
            async with client_of(app) as client:
                response = await client.request(method, "/")
                assert response.status == status
                assert await response.read() == b""

        run(main())

    def test_headers_and_trailers_of_the_response(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"x-a", b"1"), (b"x-a", b"\xe9")]
            await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
            await send({"type": "http.response.body", "body": b"ab"})
            await send({"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": True})
            await send({"type": "http.response.trailers", "headers": [(b"x-u", b"2")]})

        async def main() -> None:
            async with client_of(app, http_version="2") as client:
                response = await client.get("/")
                assert await response.read() == b"ab"
                assert response.headers.getall("X-A") == ["1", "é"]
                assert dict(response.trailers) == {"x-t": "1", "x-u": "2"}
                assert response.http_version == "HTTP/2.0"

        run(main())

    @pytest.mark.parametrize(("length", "kind"), [(b"1", RuntimeError), (b"3", IncompleteBodyError)])
    def test_a_body_of_another_length_than_announced(self, run: Run, length: bytes, kind: type[Exception]) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await answer(send, 200, b"ab", [(b"content-length", length)])
            except RuntimeError:
                if kind is RuntimeError:
                    raise

        async def main() -> None:
            async with client_of(app) as client:
                response = await client.get("/")
                with pytest.raises(kind):
                    await response.read()

        run(main())


class TestFailures:
    def test_an_exception_comes_out_where_the_request_was_made(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise LookupError("mine")

        async def main() -> None:
            async with client_of(app) as client:
                with pytest.raises(LookupError, match="mine"):
                    await client.get("/")

        run(main())

    def test_also_if_500_was_answered_before(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 500, b"sorry")
            raise LookupError("mine")

        async def main() -> None:
            reports = Reports()
            async with client_of(app) as client:
                with pytest.raises(LookupError, match="mine"):
                    await client.get("/")
            async with client_of(app, raise_app_exceptions=False) as client:
                response = await client.get("/")
                assert (response.status, await response.read()) == (500, b"sorry")
            assert reports == ["LookupError('mine')"]

        run(main())

    def test_or_as_500(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise LookupError("mine")

        async def main() -> None:
            reports = Reports()
            async with client_of(app, raise_app_exceptions=False) as client:
                response = await client.get("/")
                assert response.status == 500
                assert await response.text() == "Internal Server Error"
            assert reports == ["LookupError('mine')"]

        run(main())

    @pytest.mark.parametrize("raises", [True, False])
    def test_an_exception_in_the_middle_of_the_body(self, run: Run, raises: bool) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise LookupError("mine")

        async def main() -> None:
            reports = Reports()
            async with client_of(app, raise_app_exceptions=raises) as client:
                response = await client.get("/")
                assert await response.chunk() == b"half"
                with pytest.raises(LookupError if raises else IncompleteBodyError):
                    await response.chunk()
            assert reports == ([] if raises else ["LookupError('mine')"])

        run(main())

    def test_an_exception_behind_the_response_is_reported(self, run: Run) -> None:
        async def main() -> None:
            reports = Reports()
            may_fail = asyncio.Event()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await answer(send, 200, b"fine")
                await may_fail.wait()
                raise LookupError("in the background")

            async with client_of(app) as client:
                assert await (await client.get("/")).read() == b"fine"
                may_fail.set()
            assert reports == ["LookupError('in the background')"]

        run(main())

    def test_a_websocket_is_refused_in_words(self, run: Run) -> None:
        pytest.importorskip("wsproto", reason="wsproto is not installed")

        async def main() -> None:
            async with client_of(echo) as client:
                with pytest.raises(WebSocketError, match="http://app.test/chat: ASGITransport has no WebSockets"):
                    await client.websocket("/chat")

        run(main())

    def test_no_answer(self, run: Run) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/half":
                await send({"type": "http.response.start", "status": 200, "headers": []})

        async def main() -> None:
            async with client_of(app) as client:
                with pytest.raises(PeerClosedError, match=r"app\.test/none.*no answer"):
                    await client.get("/none")
                response = await client.get("/half")
                with pytest.raises(IncompleteBodyError):
                    await response.read()

        run(main())

    @pytest.mark.parametrize(
        "messages",
        [
            [{"type": "http.response.body", "body": b"x"}],
            [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
            [
                {"type": "http.response.start", "status": 200},
                {"type": "http.response.body"},
                {"type": "http.response.body"},
            ],
            [{"type": "http.response.start", "status": 200}, {"type": "http.response.trailers"}],
            [{"type": "websocket.accept"}],
        ],
    )
    def test_messages_out_of_order(self, run: Run, messages: list[dict[str, Any]]) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in messages[:-1]:
                await send(message)
            with pytest.raises(RuntimeError, match="was sent"):
                await send(messages[-1])
            raise LookupError("seen")

        async def main() -> None:
            async with client_of(app) as client:
                with pytest.raises(LookupError, match="seen"):
                    await (await client.get("/")).read()

        run(main())
