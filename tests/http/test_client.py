"""The client against servers of others: requests and bodies as they arrive, and responses as they come back."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.kit import BODY, digest, pieces
from tests.http.echoing import SERVERS, TEXT, body_of, echoing, header_of
from tests.http.rawkit import Run, counts, settled, within
from weft import http
from weft.http.decoding import ACCEPT_ENCODING

BOTH = pytest.mark.parametrize("kind", list(SERVERS))


async def said(client: http.Client, method: str, url: str, **options: Any) -> Any:
    async with client.request(method, url, **options) as response:
        assert response.status == 200, await response.text()
        return await within(response.json())


# -- bodies up


BODIES: list[tuple[dict[str, Any], bytes, str | None]] = [
    ({"json": {"a": [1, "ü"]}}, '{"a":[1,"ü"]}'.encode(), "application/json"),
    ({"json": []}, b"[]", "application/json"),
    ({"json": 0}, b"0", "application/json"),
    ({"data": {"a": "1 2", "b": ["x", "y"]}}, b"a=1+2&b=x&b=y", "application/x-www-form-urlencoded"),
    ({"data": [("a", "1"), ("a", "&")]}, b"a=1&a=%26", "application/x-www-form-urlencoded"),
    ({"data": "grüße"}, "grüße".encode(), "text/plain; charset=utf-8"),
    ({"data": b"\x00\xff"}, b"\x00\xff", "application/octet-stream"),
    ({"content": b""}, b"", None),
    ({"content": b"\x00\xff"}, b"\x00\xff", None),
    ({"content": [b"one", b"two"]}, b"onetwo", None),
    ({"content": io.BytesIO(b"file")}, b"file", None),
]


@BOTH
@pytest.mark.parametrize("options, arrives, content_type", BODIES)
def test_bodies(run: Run, kind: str, options: Any, arrives: bytes, content_type: str | None) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            for file in options.values():
                if isinstance(file, io.BytesIO):
                    file.seek(0)
            answer = await said(client, "POST", server.url(), **options)
            assert body_of(answer) == arrives
            assert header_of(answer, "Content-Type") == ([] if content_type is None else [content_type])
            assert header_of(answer, "Content-Length") in ([str(len(arrives))], [])
            await settled(client, 1, 1)

    run(main())


@BOTH
@pytest.mark.parametrize("how", ["memory", "pieces", "known length", "file", "path"])
def test_large_bodies(run: Run, kind: str, how: str, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(BODY)

    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            headers = {"Content-Length": str(len(BODY))} if how == "known length" else {}
            with path.open("rb") as file:
                content: Any = {"memory": BODY, "file": file, "path": path}.get(how, pieces(BODY))
                answer = await said(client, "PUT", server.url(), content=content, headers=headers)
                assert not file.closed
            assert answer["digest"] == digest(BODY)
            expected = [] if how == "pieces" else [str(len(BODY))]
            assert header_of(answer, "Content-Length") == expected

    run(main())


def test_multipart_as_a_server_reads_it(run: Run, tmp_path: Path) -> None:
    from aiohttp import web

    path = tmp_path / "päth.txt"
    path.write_bytes(BODY)
    seen: dict[str, Any] = {}

    async def handle(request: web.Request) -> web.Response:
        form = await request.post()
        for name, value in form.items():
            seen[name] = value
            if isinstance(value, web.FileField):
                with value.file:
                    seen[name] = (value.filename, value.content_type, value.file.read())
        return web.Response(text="got it")

    async def main() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site: Any = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"
        async with http.Client() as client:
            files = {"up": path, "note": ('a"b.txt', b"memo", "text/x-memo")}
            response = await within(client.post(url, data={"field": "välue"}, files=files))
            assert (response.status, await response.text()) == (200, "got it")
        await runner.cleanup()
        assert seen["field"] == "välue"
        assert seen["up"][:2] == ("päth.txt", "text/plain")
        assert digest(seen["up"][2]) == digest(BODY)
        assert seen["note"][1:] == ("text/x-memo", b"memo")

    run(main())


# -- requests


TARGETS = ["/echo?a=%2f%2F&b=%7B{}|'&c=+", "/echo?sig=a%20b+c==&x=ü", "/echo?", "/echo?a=1#fragment"]
ARRIVES = ["/echo?a=%2f%2F&b=%7B{}|'&c=+", "/echo?sig=a%20b+c==&x=%C3%BC", "/echo?", "/echo?a=1"]


@pytest.mark.parametrize("target, arrives", list(zip(TARGETS, ARRIVES, strict=True)))
def test_urls_arrive_as_they_are_written(run: Run, target: str, arrives: str) -> None:
    async def main() -> None:
        async with echoing() as server, http.Client() as client:
            assert (await said(client, "GET", server.url(target)))["target"] == arrives

    run(main())


@BOTH
def test_parameters_and_the_base_of_urls(run: Run, kind: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client(server.url("/base/")) as client:
            params = {"q": "a b&c", "n": 1, "l": ["x", "y"]}
            answer = await said(client, "GET", "/echo?have=1", params=params)
            assert answer["target"] == "/echo?have=1&q=a+b%26c&n=1&l=x&l=y"
            answer = await said(client, "GET", "../echo", params=[("a", "1"), ("a", "2")])
            assert answer["target"] == "/echo?a=1&a=2"
            assert (await client.get("under")).url.path == "/base/under"

    run(main())


@BOTH
def test_headers_are_given_replaced_and_left_out(run: Run, kind: str) -> None:
    async def main() -> None:
        given = {"X-Client": "1", "accept": "text/plain", "User-Agent": None}
        async with echoing(kind) as server, http.Client(headers=given) as client:
            answer = await said(client, "GET", server.url())
            assert header_of(answer, "X-Client") == ["1"]
            assert header_of(answer, "Accept") == ["text/plain"]
            assert header_of(answer, "User-Agent") == []
            assert header_of(answer, "Host") == [f"127.0.0.1:{server.port}"]
            own = {"x-client": None, "ACCEPT": "a/b", "User-Agent": "own", "Host": "other.example"}
            answer = await said(client, "GET", server.url(), headers=own)
            assert header_of(answer, "X-Client") == []
            assert header_of(answer, "Accept") == ["a/b"]
            assert header_of(answer, "User-Agent") == ["own"]
            assert header_of(answer, "Host") == ["other.example"]
            repeated = [("X-Two", "1"), ("X-Client", "2"), ("x-two", "2")]
            answer = await said(client, "GET", server.url(), headers=repeated)
            assert header_of(answer, "X-Two") == ["1", "2"]
            assert header_of(answer, "X-Client") == ["2"]
            assert header_of(await said(client, "GET", server.url()), "X-Client") == ["1"]

    run(main())


def test_what_is_set_on_the_client_counts_from_the_next_request_on(run: Run) -> None:
    async def main() -> None:
        async with echoing() as server, http.Client() as client:
            for number in range(3):
                client.headers["X-Number"] = str(number)
                assert header_of(await said(client, "GET", server.url()), "X-Number") == [str(number)]
            del client.headers["x-number"]
            assert header_of(await said(client, "GET", server.url()), "X-Number") == []
            client.headers.update({"X-A": "1"})
            client.auth = http.BasicAuth("user", "pass")
            answer = await said(client, "GET", server.url())
            assert header_of(answer, "X-A") == ["1"]
            assert header_of(answer, "Authorization") == ["Basic dXNlcjpwYXNz"]
            client.auth = None
            assert header_of(await said(client, "GET", server.url()), "Authorization") == []

    run(main())


def test_an_option_that_does_not_exist(run: Run) -> None:
    async def main() -> None:
        async with http.Client() as client:
            for options in ({"param": {"a": 1}}, {"retry": "often"}, {"timeout": "long"}, {"auth": "me"}):
                with pytest.raises(TypeError):
                    await client.get("http://127.0.0.1:1/", **options)
            with pytest.raises(TypeError, match="param"):
                await client.get("http://127.0.0.1:1/", param={"a": 1})  # type: ignore[call-arg]
            assert counts(client) == (0, 0, 0)

    run(main())


# -- responses


@BOTH
def test_text_and_its_charset(run: Run, kind: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            for charset in ("utf-8", "utf-16", "latin-1"):
                text = "grüße" if charset == "latin-1" else TEXT[:50]
                params = {"charset": charset, "text": text}
                response = await within(client.get(server.url("/text?named=1"), params=params))
                assert await response.text() == text
                assert response.charset is not None
                response = await within(client.get(server.url("/text"), params=params))
                assert await response.text(charset) == text
            with pytest.raises(http.DecodingError) as caught:
                await response.text("utf-8")
            assert caught.value.url == str(response.url)
            assert "\N{REPLACEMENT CHARACTER}" in await response.text("utf-8", errors="replace")
            with pytest.raises(http.DecodingError):
                await response.text("klingon")
            with pytest.raises(http.DecodingError):
                await response.json()

    run(main())


@BOTH
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_packed_responses(run: Run, kind: str, coding: str) -> None:
    if coding not in ACCEPT_ENCODING:
        pytest.skip(f"no library for {coding} is installed")

    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            url = server.url(f"/packed?coding={coding}")
            response = await within(client.get(url))
            assert await response.text("utf-8") == TEXT
            async with client.get(url) as response:
                assert b"".join([piece async for piece in response]).decode() == TEXT
            response = await within(client.get(url, decode=False))
            assert len(await response.read()) == response.content_length
            assert response.content_length < len(TEXT)

    run(main())


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb(run: Run, coding: str) -> None:
    if coding not in ACCEPT_ENCODING:
        pytest.skip(f"no library for {coding} is installed")

    async def main() -> None:
        async with echoing() as server, http.Client(max_decoded_size=1_000_000) as client:
            url = server.url(f"/packed?bomb=1&coding={coding}")
            with pytest.raises(http.DecompressionBombError) as caught:
                await within((await client.get(url)).read())
            assert caught.value.url == url
            size = 0
            with pytest.raises(http.DecompressionBombError):
                async with client.get(url) as response:
                    async for piece in response:
                        size += len(piece)
            assert size <= 1_000_000
            await settled(client, counts(client)[0], counts(client)[0])

    run(main())


@BOTH
def test_streams_down(run: Run, kind: str) -> None:
    whole = b"".join(bytes([number % 251]) * 10_000 for number in range(300))

    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            url = server.url("/stream?count=300")

            async def collected(reader: AsyncIterator[bytes]) -> bytes:
                return b"".join([piece async for piece in reader])

            for read in (
                collected,
                lambda response: collected(response.content.iter_chunked(7777)),
                lambda response: collected(response.content.iter_any()),
                lambda response: response.content.read(),
                lambda response: response.content.readexactly(len(whole)),
            ):
                async with client.get(url) as response:
                    assert digest(await within(read(response))) == digest(whole)
                await settled(client, 1, 1)
            async with client.get(url) as response:
                parts = []
                while part := await response.content.read(9999):
                    assert len(part) <= 9999
                    parts.append(part)
                assert digest(b"".join(parts)) == digest(whole)
            async with client.get(server.url("/lines")) as response:
                assert await response.content.readline() == b"first\n"
                assert [line async for line in response.content] == [b"second\n", b"\n", b"last"]
                assert response.content.at_eof()

    run(main())


@BOTH
def test_a_response_tells_of_itself(run: Run, kind: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            response = await within(client.get(server.url("/status?code=418&X_Tea=yes")))
            assert (response.status, response.ok, response.method) == (418, False, "GET")
            assert (response.headers["x-tea"], response.http_version) == ("yes", "HTTP/1.1")
            assert str(response.url) == server.url("/status?code=418&X_Tea=yes")
            assert await response.read() == await response.read() == b"status"
            with pytest.raises(http.StatusError) as caught:
                response.raise_for_status()
            assert (caught.value.status, caught.value.response) == (418, response)
            assert caught.value.headers is not None and caught.value.headers["X-Tea"] == "yes"
            with pytest.raises(http.StatusError):
                await within(client.get(server.url("/missing"), raise_for_status=True))
            assert (await said(client, "GET", server.url()))["method"] == "GET"
            await settled(client, 1, 1)

    run(main())


@BOTH
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
def test_every_method_and_the_one_offs(run: Run, kind: str, method: str) -> None:
    async def main() -> None:
        async with echoing(kind) as server, http.Client() as client:
            for caller in (client, http):
                response = await within(getattr(caller, method)(server.url()))
                assert response.status == 200
                body = await response.read()
                assert body == b"" if method == "head" else json.loads(body)["method"] == method.upper()
                async with getattr(caller, method)(server.url()) as response:
                    assert response.method == method.upper()
            response = await within(http.request("post", server.url(), json=1, headers={"X": "y"}, trust_env=False))
            assert header_of(await response.json(), "X") == ["y"]

    run(main())
