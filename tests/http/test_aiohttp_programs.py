"""Programs as aiohttp's users write them: with the import changed they do the same.

Each program gets the module under the name it knows, and the URL of a server; what it returns must be equal.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import weft.http
from tests.http.echoing import echoing, header_of
from tests.http.rawkit import Peer, Run, once, playing, within
from tests.loop.kit import refused

Program = Callable[..., Any]


async def fetch_json(aiohttp: Any, url: str) -> Any:
    async with aiohttp.ClientSession() as session:
        async with session.get(url + "/echo", params={"q": "a b", "n": "1"}, headers={"X-Id": "7"}) as resp:
            data = await resp.json()
            return (
                resp.status, resp.reason, resp.ok, resp.headers["content-type"], resp.method, str(resp.url),
                data["target"], header_of(data, "X-Id"),
            )  # fmt: skip


async def post_bodies(aiohttp: Any, url: str) -> Any:
    async def pieces() -> Any:
        yield b"one"
        yield b"two"

    results: list[Any] = []
    async with aiohttp.ClientSession(headers={"X-All": "yes"}) as session:
        bodies: list[dict[str, Any]] = [
            {"data": {"k": "v", "k2": "ü"}}, {"data": b"raw"}, {"data": "text"}, {"data": pieces()},
        ]  # fmt: skip
        for options in bodies:
            async with session.post(url + "/echo", **options) as response:
                said = await response.json()
                results.append((said["body"], header_of(said, "Content-Type"), header_of(said, "X-All")))
        async with session.put(url + "/echo", json={"a": 1}) as response:
            said = await response.json()
            results.append(header_of(said, "Content-Type"))
        for method in (session.patch, session.delete, session.options, session.head):
            async with method(url + "/echo") as response:
                results.append((response.method, response.status))
    return results


async def upload_a_file(aiohttp: Any, url: str) -> Any:
    form = aiohttp.FormData()
    form.add_field("name", "value")
    form.add_field("file", b"content", filename="a.txt", content_type="text/plain")
    async with aiohttp.ClientSession() as session, session.post(url + "/echo", data=form) as response:
        said = await response.json()
        (kind,) = header_of(said, "Content-Type")
        left_out = (b"--", b"Content-Length", b"Content-Type: text/plain; charset")
        lines = base64.b64decode(said["body"]).split(b"\r\n")
        return kind.split(";")[0], sorted(line for line in lines if not line.startswith(left_out))


async def stream_to_a_file(aiohttp: Any, url: str) -> Any:
    collected = bytearray()
    sizes = set()
    async with aiohttp.ClientSession() as session:
        async with session.get(url + "/stream?count=50") as resp:
            async for chunk in resp.content.iter_chunked(4096):
                sizes.add(len(chunk) <= 4096)
                collected += chunk
        async with session.get(url + "/stream?count=5") as resp:
            while True:
                chunk = await resp.content.read(1000)
                if not chunk:
                    break
                collected += chunk
        async with session.get(url + "/lines") as resp:
            lines = [line async for line in resp.content]
        async with session.get(url + "/stream?count=3") as resp:
            async for chunk, _ in resp.content.iter_chunks():
                collected += chunk
    return bytes(collected), sizes, lines


async def errors(aiohttp: Any, url: str) -> Any:
    found = []
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        try:
            await session.get(url + "/missing")
        except aiohttp.ClientResponseError as error:
            found.append(("status", error.status))
        try:
            await session.get(url + "/missing")
        except aiohttp.ClientError:
            found.append(("status", 0))
    async with aiohttp.ClientSession() as session:
        with refused() as (host, port):
            for kind in (aiohttp.ClientConnectorError, aiohttp.ClientConnectionError, aiohttp.ClientOSError, OSError):
                try:
                    async with session.get(f"http://{host}:{port}/"):
                        pass
                except kind as error:
                    found.append(("connect", isinstance(error, aiohttp.ClientError)))
        try:
            await session.get("nowhere")
        except aiohttp.InvalidURL:
            found.append(("url", True))
        resp = await session.get(url + "/missing")
        try:
            resp.raise_for_status()
        except aiohttp.ClientResponseError as error:
            found.append((error.status, error.message))
        try:
            async with session.get(url + "/loop", max_redirects=3) as resp:
                found.append(("redirected", resp.status))
        except aiohttp.TooManyRedirects as error:
            found.append(("redirects", isinstance(error, aiohttp.ClientError)))
    return found


async def concurrency(aiohttp: Any, url: str) -> Any:
    connector = aiohttp.TCPConnector(limit=10, limit_per_host=5, ssl=False)
    timeout = aiohttp.ClientTimeout(total=30, connect=20, sock_connect=10, sock_read=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def fetch(number: int) -> Any:
            async with session.get(f"{url}/echo?n={number}", timeout=aiohttp.ClientTimeout(total=20)) as response:
                return (await response.json())["target"]

        return await asyncio.gather(*(fetch(number) for number in range(40)))


async def login_with_cookies(aiohttp: Any, url: str) -> Any:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, cookies={"theme": "dark"}) as session:
        async with session.get(url + "/cookies?token=abc") as response:
            await response.read()
        async with session.get(url + "/echo") as response:
            sent = header_of(await response.json(), "Cookie")
        session.cookie_jar.clear()
        headers = {"Authorization": aiohttp.encode_basic_auth("user", "pass")}
        async with session.get(url + "/echo", headers=headers) as response:
            authorization = header_of(await response.json(), "Authorization")
    return sorted("; ".join(sent).split("; ")), authorization


async def base_url_and_redirects(aiohttp: Any, url: str) -> Any:
    session = aiohttp.ClientSession(url)
    try:
        async with session.get("/status?code=302&Location=/echo") as response:
            history = [one.status for one in response.history]
            path = response.url.path
        async with session.get("/status?code=302&Location=/echo", allow_redirects=False) as response:
            where = response.headers["Location"]
        response = await session.get("/text?charset=latin-1&named=1&text=abc")
        text = await response.text()
        response.release()
    finally:
        await session.close()
    return history, path, where, text, response.charset, session.closed


async def one_off(aiohttp: Any, url: str) -> Any:
    async with aiohttp.request("GET", url + "/echo") as response:
        return response.status, (await response.json())["method"]


PROGRAMS: list[Program] = [
    fetch_json, post_bodies, upload_a_file, stream_to_a_file, errors, concurrency, login_with_cookies,
    base_url_and_redirects, one_off,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_outcome(run: Run, program: Program) -> None:
    async def main() -> None:
        outcomes = []
        for module in (aiohttp, weft.http):
            async with echoing() as server:
                url = server.url("")
                outcomes.append(json.loads(json.dumps(await within(program(module, url)), default=str).replace(
                    str(server.port), "PORT")))  # fmt: skip
        theirs, ours = outcomes
        assert ours == theirs

    run(main())


async def disconnected(aiohttp: Any, url: str) -> Any:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(url, data=b"x"):
                pass
        except aiohttp.ServerDisconnectedError as error:
            return isinstance(error, aiohttp.ClientConnectionError), isinstance(error, aiohttp.ClientError)


async def broken_body(aiohttp: Any, url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        try:
            await response.read()
        except aiohttp.ClientPayloadError as error:
            return isinstance(error, aiohttp.ClientError)


async def too_slow(aiohttp: Any, url: str) -> Any:
    found = []
    for limit in ({"total": 0.05}, {"sock_read": 0.05}):
        timeout = aiohttp.ClientTimeout(**limit)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                await session.get(url)
            except TimeoutError as error:
                found.append(isinstance(error, aiohttp.ServerTimeoutError) or "total" in limit)
    return found


async def closes(peer: Peer) -> None:
    await peer.request()
    await peer.close()


async def half(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    await peer.close()


@pytest.mark.parametrize("program, script", [(disconnected, closes), (broken_body, half), (too_slow, once())])
def test_the_same_failure(run: Run, program: Program, script: Any) -> None:
    async def main() -> None:
        outcomes = []
        for module in (aiohttp, weft.http):
            async with playing(*[script] * 4) as server:
                outcomes.append(await within(program(module, server.url())))
        assert outcomes[1] == outcomes[0]
        assert outcomes[0]

    run(main())


def test_a_unix_connector(run: Run, tmp_path: Path) -> None:
    async def program(aiohttp: Any) -> Any:
        connector = aiohttp.UnixConnector(path=str(tmp_path / "socket"))
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get("http://localhost/echo?x=1") as response:
                said = await response.json()
                return said["target"], header_of(said, "Host")

    async def main() -> None:
        async with echoing(path=str(tmp_path / "socket")):
            assert await within(program(weft.http)) == await within(program(aiohttp))

    run(main())
