"""The transport for tests: tables and functions of answers, and what is remembered of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import pytest

from weft.http import Client, Hooks, Retry, Timeout, Trace
from weft.http.errors import ConnectError, FirstByteTimeoutError, HTTPError, TotalTimeoutError
from weft.http.testing import FakeTransport, ReceivedRequest, Reply, UnexpectedRequestError

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


async def ask(answers: Any, target: str = "/", method: str = "GET", **options: Any) -> tuple[int, bytes, Any]:
    transport = FakeTransport(answers)
    async with Client("https://fake.test", transport=transport) as client:
        response = await client.request(method, target, **options)
        return response.status, await response.read(), response.headers


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "status", "body"),
        [
            (418, 418, b""),
            (b"bytes", 200, b"bytes"),
            ("é", 200, "é".encode()),
            ({"a": [1]}, 200, b'{"a":[1]}'),
            ((201, {"a": 1}), 201, b'{"a":1}'),
            ((202, {"x-a": "1"}, "text"), 202, b"text"),
            (Reply(203, json=[1, 2]), 203, b"[1,2]"),
            (Reply(body=[b"a", b"b"]), 200, b"ab"),
            ((200, [1, 2]), 200, b"[1,2]"),
        ],
    )
    def test_forms(self, run: Run, answer: Any, status: int, body: bytes) -> None:
        assert run(ask({"/": answer}))[:2] == (status, body)
        assert run(ask(lambda request: answer))[:2] == (status, body)

    def test_headers(self, run: Run) -> None:
        headers = run(ask({"/": (200, {"x-a": "1"}, {"a": 1})}))[2]
        assert dict(headers) == {"x-a": "1", "Content-Type": "application/json", "Content-Length": "7"}

    def test_what_is_no_answer(self, run: Run) -> None:
        with pytest.raises(TypeError, match="is no answer"):
            run(ask({"/": 1.5}))

    def test_head(self, run: Run) -> None:
        status, body, headers = run(ask({"/": "text"}, method="HEAD"))
        assert (status, body, headers["Content-Length"]) == (200, b"", "4")

    def test_a_stream_that_fails(self, run: Run) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            raise LookupError("lost")

        async def main() -> None:
            async with Client(transport=FakeTransport(lambda request: Reply(body=pieces()))) as client:
                response = await client.get("https://fake.test/")
                assert await response.chunk() == b"one"
                with pytest.raises(LookupError, match="lost"):
                    await response.chunk()

        run(main())

    @pytest.mark.parametrize("answer", [ConnectError, ConnectError("no way"), LookupError("mine")])
    def test_exceptions(self, run: Run, answer: Any) -> None:
        with pytest.raises(answer if isinstance(answer, type) else type(answer)) as caught:
            run(ask({"/": answer}))
        if isinstance(answer, type):
            assert str(caught.value).startswith("https://fake.test/: ")
        else:
            assert caught.value is answer

    def test_a_function_gets_the_request(self, run: Run) -> None:
        async def handler(request: ReceivedRequest) -> Any:
            await asyncio.sleep(0)
            return {"method": request.method, "path": request.url.path, "got": request.json(), "text": request.text}

        _, body, _ = run(ask(handler, "/p?q", "POST", json={"a": 1}))
        assert body == b'{"method":"POST","path":"/p","got":{"a":1},"text":"{\\"a\\":1}"}'


class TestRoutes:
    def test_the_most_exact_counts(self, run: Run) -> None:
        table = {"/a": 201, "POST /a": 202, "https://fake.test/a": 203, "put https://FAKE.test:443/a": 204}

        async def main() -> list[int]:
            async with Client(transport=FakeTransport(table)) as client:
                asked = [
                    ("GET", "https://other.test/a?x=1"),
                    ("POST", "https://other.test/a"),
                    ("GET", "https://fake.test/a"),
                    ("PUT", "https://fake.test/a"),
                ]
                return [(await client.request(method, url)).status for method, url in asked]

        assert run(main()) == [201, 202, 203, 204]

    def test_no_route_is_no_error_of_http(self, run: Run) -> None:
        with pytest.raises(
            UnexpectedRequestError, match=r"GET https://fake\.test/b has no route; there are: /a"
        ) as caught:
            run(ask({"/a": 200}, "/b"))
        assert not isinstance(caught.value, HTTPError)
        assert isinstance(caught.value, AssertionError)

    def test_answers_in_turn(self, run: Run) -> None:
        async def main() -> None:
            transport = FakeTransport(
                {"/a": [503, ConnectError, lambda request: request.url.query], "/b": 200, "/c": [1]}
            )
            async with Client("https://fake.test", transport=transport) as client:
                assert (await client.get("/a")).status == 503
                assert transport.unused == ["/a (2 answers)", "/b", "/c"]
                with pytest.raises(ConnectError):
                    await client.get("/a")
                assert await (await client.get("/a?q=1")).text() == "q=1"
                with pytest.raises(UnexpectedRequestError, match="4. time, and has 3"):
                    await client.get("/a")
                assert transport.unused == ["/b", "/c"]

        run(main())

    def test_the_client_goes_on_as_over_the_network(self, run: Run) -> None:
        async def main() -> None:
            table = {
                "/start": (302, {"Location": "/flaky", "Set-Cookie": "a=1"}, b""),
                "/flaky": [503, 503, {"ok": True}],
            }
            transport = FakeTransport(table)
            async with Client("https://fake.test", transport=transport, retry=Retry(3, backoff=0.001)) as client:
                response = await client.get("/start")
                assert await response.json() == {"ok": True}
                assert [request.url.path for request in transport.requests] == ["/start", "/flaky", "/flaky", "/flaky"]
                assert transport.requests[1].headers["Cookie"] == "a=1"

        run(main())


class TestRequests:
    def test_what_is_remembered(self, run: Run) -> None:
        async def main() -> None:
            def pieces() -> Iterator[bytes]:
                yield b"ab"
                yield b"c"

            transport = FakeTransport({"/": 200})
            async with Client("https://fake.test", transport=transport) as client:
                await client.post("/", content=pieces(), headers={"X-A": "1"})
                await client.put("/", json={"a": 1})
            first, second = transport.requests
            assert (first.method, first.body, first.headers["x-a"]) == ("POST", b"abc", "1")
            assert first.headers["Host"] == "fake.test"
            assert second.json() == {"a": 1}
            assert second.headers["content-type"] == "application/json"
            assert second.headers["content-length"] == "7"
            assert "requests=2" in repr(transport)

        run(main())

    def test_hooks_are_told(self, run: Run) -> None:
        class Seen(Hooks):
            def __init__(self) -> None:
                self.phases: list[str] = []

            def on_connect(self, trace: Trace) -> None:
                self.phases.append(f"connect {trace.is_reused}")

            def on_first_byte(self, trace: Trace) -> None:
                self.phases.append("first byte")

            def on_end(self, trace: Trace) -> None:
                self.phases.append("end")

        async def main() -> None:
            hooks = Seen()
            async with Client("https://fake.test", transport=FakeTransport({"/": b"x"}), hooks=hooks) as client:
                await (await client.get("/")).read()
            assert hooks.phases == ["connect False", "first byte", "end"]

        run(main())


class TestTime:
    def test_latency_is_of_the_loops_clock(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport = FakeTransport({"/": Reply(latency=0.01)}, latency=0.02)
            async with Client("https://fake.test", transport=transport) as client:
                began = loop.time()
                await client.get("/")
                assert loop.time() - began >= 0.03

        run(main())

    @pytest.mark.parametrize(
        ("timeout", "kind"),
        [(Timeout(first_byte=0.001), FirstByteTimeoutError), (Timeout(total=0.001), TotalTimeoutError)],
    )
    def test_time_limits(self, run: Run, timeout: Timeout, kind: type[Exception]) -> None:
        async def main() -> None:
            transport = FakeTransport({"/": Reply(latency=3600)})
            async with Client("https://fake.test", transport=transport, timeout=timeout) as client:
                with pytest.raises(kind):
                    await client.get("/")
                for _ in range(5):
                    await asyncio.sleep(0)
                assert asyncio.all_tasks() == {asyncio.current_task()}

        run(main())

    @pytest.mark.parametrize("answer", [Reply(latency=3600), Reply(body=[bytes(600_000)] * 10)])
    def test_nothing_is_left_of_who_gives_up(self, run: Run, answer: Reply) -> None:
        async def main() -> None:
            transport = FakeTransport({"/": answer})
            client = Client("https://fake.test", transport=transport)

            async def get() -> None:
                response = await client.get("/")
                await asyncio.Event().wait()
                await response.read()

            task = asyncio.ensure_future(get())
            while not transport.requests:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await client.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run(main())

    def test_another_loop(self, run: Run, new_loop: Any) -> None:
        transport = FakeTransport({"/": 200})

        async def main() -> None:
            async with Client("https://fake.test", transport=transport) as client:
                assert (await client.get("/")).status == 200

        run(main())
        run(main())
        assert len(transport.requests) == 2
