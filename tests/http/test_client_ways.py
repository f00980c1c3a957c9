"""The ways to a server that a client goes: proxies, Unix sockets; and what an HTTP connection can become."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.http.dialkit import client_tls, server_tls, serving
from tests.http.echoing import body_of, echoing, header_of
from tests.http.proxykit import ConnectProxy, Socks, free_port, program, running, squid_config, tinyproxy_config
from tests.http.rawkit import OK, Peer, Run, always, counts, playing, settled, within
from tests.loop.kit import refused
from weft import http

TINYPROXY = program("tinyproxy")
SQUID = program("squid")
needs_tinyproxy = pytest.mark.skipif(
    TINYPROXY is None, reason="tinyproxy is not installed (Debian's package tinyproxy)"
)
needs_squid = pytest.mark.skipif(SQUID is None, reason="squid is not installed (Debian's package)")


async def check(client: http.Client, plain: str, secure: str, **options: Any) -> Any:
    """Requests through a proxy; gives what the server of the plain one saw."""
    async with client.post(plain, json={"a": 1}, **options) as response:
        assert response.status == 200, await response.text()
        said = json.loads(await within(response.read()))
        assert body_of(said) == b'{"a":1}'
    for _ in range(2):
        async with client.get(secure, **options) as response:
            assert (response.status, await within(response.read())) == (200, b"ok")
    return said


# -- real proxies


@needs_tinyproxy
@pytest.mark.parametrize("password", [False, True])
def test_tinyproxy(run: Run, tmp_path: Path, password: bool) -> None:
    async def main() -> None:
        its = free_port()
        config = tinyproxy_config(tmp_path, its, *(["BasicAuth user s3cret"] if password else []))
        async with (
            running(str(TINYPROXY), "-d", "-c", config, port=its),
            echoing() as plain,
            playing(always(), tls=server_tls()) as secure,
        ):
            proxy = f"http://{'user:s3cret@' if password else ''}127.0.0.1:{its}"
            there = secure.url(scheme="https")
            async with http.Client(proxy=proxy, tls=client_tls()) as client:
                said = await check(client, plain.url("/echo?a=%2F"), there)
                assert said["target"] == "/echo?a=%2F"
                assert header_of(said, "Host") == [f"127.0.0.1:{plain.port}"]
                assert header_of(said, "Proxy-Authorization") == []
                assert len(secure.peers) == 1
                assert "s3cret" not in repr(client) + repr(client.transport)
            async with http.Client(tls=client_tls()) as client:
                if password:
                    without = f"http://127.0.0.1:{its}"
                    async with client.get(plain.url(), proxy=without) as response:
                        assert response.status == 407
                    with pytest.raises(http.ProxyError, match="refused a tunnel") as caught:
                        await within(client.get(there, proxy=without))
                    assert (caught.value.blame, caught.value.url) == ("proxy", there)
                    assert any("user:password@" in note for note in caught.value.__notes__)
                else:
                    async with playing() as nobody:
                        gone = nobody.port
                    response = await within(client.get(f"http://127.0.0.1:{gone}/", proxy=proxy))
                    assert response.status in (500, 502, 503)
                    with pytest.raises(http.ProxyError):
                        await within(client.get(f"https://127.0.0.1:{gone}/", proxy=proxy))

    run(main())


@needs_squid
def test_squid(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        its = free_port()
        tmp_path.chmod(0o777)  # started as root, it becomes another user
        async with (
            running(str(SQUID), "-N", "-f", squid_config(tmp_path, its), port=its),
            echoing() as plain,
            playing(always(), tls=server_tls()) as secure,
            http.Client(proxy=f"http://127.0.0.1:{its}", tls=client_tls()) as client,
        ):
            said = await check(client, plain.url(), secure.url(scheme="https"))
            assert "squid" in header_of(said, "Via")[0]

    run(main())


# -- proxies of the tests'


def forwarding(heads: list[bytes], answer: bytes = OK) -> Any:
    async def script(peer: Peer) -> None:
        while True:
            heads.append(await peer.request())
            await peer.send(answer)

    return script


def test_what_an_http_proxy_is_sent(run: Run) -> None:
    """The whole URL, and credentials for itself, which a redirect to a host without proxy does not take along."""
    heads: list[bytes] = []

    async def main() -> None:
        async with playing(forwarding(heads)) as proxy, http.Client(headers={"User-Agent": None}) as client:
            through = proxy.url().replace("//", "//us%20er:pa%3Ass@")
            for host in ("one.test", "two.test:81"):
                response = await within(client.get(f"http://{host}/a?b=%2F#c", proxy=through))
                assert await response.read() == b"ok"
            assert counts(client) == (1, 1, 0)  # one connection serves all hosts
        first, second = heads
        assert first.startswith(b"GET http://one.test/a?b=%2F HTTP/1.1\r\nHost: one.test\r\n")
        assert second.startswith(b"GET http://two.test:81/a?b=%2F HTTP/1.1\r\nHost: two.test:81\r\n")
        assert b"Proxy-Authorization: Basic dXMgZXI6cGE6c3M=\r\n" in first

    run(main())


def test_the_environment_says_which_proxy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    async def main() -> None:
        async with playing(forwarding(heads)) as proxy, playing(always(), always()) as direct:
            monkeypatch.setenv("http_proxy", proxy.url())
            monkeypatch.setenv("no_proxy", "127.0.0.1,inside.test")
            async with http.Client() as client:
                assert (await within(client.get("http://outside.test/"))).status == 200
                assert (await within(client.get(direct.url()))).status == 200
            assert len(heads) == 1
            monkeypatch.setenv("no_proxy", "")
            async with http.Client(trust_env=False) as client:
                assert (await within(client.get(direct.url()))).status == 200
            assert len(heads) == 1

    run(main())


def test_a_tunnel_and_socks(run: Run) -> None:
    async def main() -> None:
        connect, socks = ConnectProxy(), Socks()
        async with (
            serving(connect) as one,
            serving(socks) as two,
            echoing() as plain,
            playing(always(), always(), tls=server_tls()) as secure,
            http.Client(tls=client_tls()) as client,
        ):
            there = secure.url(scheme="https")
            async with client.get(there, proxy=f"http://127.0.0.1:{one}") as response:
                assert await within(response.read()) == b"ok"
            assert connect.heads[0].startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\n")
            await check(client, plain.url(), there, proxy=f"socks5://127.0.0.1:{two}")
            assert len(socks.targets) == 2

    run(main())


def test_a_proxy_that_is_not_there(run: Run) -> None:
    async def main() -> None:
        with refused() as (host, port):
            async with http.Client(proxy=f"http://{host}:{port}") as client:
                for url in ("http://one.test/", "https://one.test/"):
                    with pytest.raises(http.ConnectError) as caught:
                        await within(client.get(url))
                    assert caught.value.url == url
                    assert f"{host}:{port}" in str(caught.value)
                await settled(client, 0, 0)

    run(main())


# -- Unix sockets


def test_a_unix_socket(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        async with echoing(path=str(path)), http.Client("http://docker", unix_socket=path) as client:
            for _ in range(2):
                said = await (await within(client.get("/echo?x=1"))).json()
                assert (said["target"], header_of(said, "Host")) == ("/echo?x=1", ["docker"])
            await settled(client, 1, 1)
        async with http.Client("http://docker", unix_socket=tmp_path / "none") as client:
            with pytest.raises(http.ConnectError) as caught:
                await within(client.get("/"))
            assert isinstance(caught.value.__cause__, FileNotFoundError)
            assert caught.value.url == "http://docker/"

    run(main())


# -- other protocols


async def websockets(url_of: Any) -> Any:
    """A server of aiohttp's that echoes messages."""
    from aiohttp import WSMsgType, web

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                if message.data == "bye":
                    break
                await socket.send_str(f"{request.headers.get('X-Who')}: {message.data}")
            else:
                await socket.send_bytes(message.data)
        await socket.close(code=4000)
        return socket

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=403)

    app = web.Application()
    app.router.add_get("/ws", handle)
    app.router.add_get("/no", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site: Any = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await url_of(f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_a_websocket(run: Run, scheme: str) -> None:
    pytest.importorskip("wsproto")

    async def talk(where: str) -> None:
        async with http.Client(limits=http.Limits(total=1)) as client:
            url = f"{scheme}://{where}/ws"
            async with client.ws_connect(url, headers={"X-Who": "me"}, subprotocols=["chat"]) as socket:
                await socket.send_str("hello")
                assert await within(socket.receive_str()) == "me: hello"
                await socket.send_bytes(b"\0" * 300_000)
                assert len(await within(socket.receive_bytes())) == 300_000
                await socket.send_str("bye")
                assert [message async for message in socket] == []
                assert socket.close_code == 4000
            await settled(client, 0, 0)
            with pytest.raises(http.WebSocketError, match="403") as caught:
                await within(client.websocket(f"{scheme}://{where}/no"))
            assert caught.value.url == f"{scheme}://{where}/no"
            async with client.ws_connect(url) as socket:
                await socket.send_str("left open")
            await settled(client, 0, 0)

    run(websockets(talk))


def test_an_upgrade_gives_a_tunnel(run: Run) -> None:
    async def script(peer: Peer) -> None:
        assert b"\r\nUpgrade: echo\r\n" in await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nfirst")
        while data := await peer.reader.read(100):
            await peer.send(data.upper())

    async def main() -> None:
        headers = {"Upgrade": "echo", "Connection": "Upgrade"}
        async with playing(script, script) as server, http.Client(limits=http.Limits(total=1)) as client:
            for _ in range(2):
                async with client.get(server.url(), headers=headers, upgrade=True) as response:
                    assert response.status == 101
                    tunnel = response.tunnel
                    assert await within(tunnel.read()) == b"first"
                    tunnel.write(b"second")
                    assert await within(tunnel.read()) == b"SECOND"
                    assert counts(client) == (1, 0, 0)
                await settled(client, 0, 0)  # the end of the block is the end of the tunnel

    run(main())


def test_server_sent_events(run: Run) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

    async def first(peer: Peer) -> None:
        await peer.request()
        await peer.send(head, b"retry: 1\nid: 7\ndata: on", b"e\n\ndata: tw", b"o\n\n")
        await peer.close()

    async def second(peer: Peer) -> None:
        assert b"Last-Event-ID: 7\r\n" in await peer.request()
        await peer.send(head, b"event: last\ndata: three\n\n")

    async def main() -> None:
        found = []
        async with playing(first, second) as server, http.Client() as client:
            events = client.events(server.url())
            async with asyncio.timeout(20):
                async for event in events:
                    found.append((event.event, event.data))
                    if event.event == "last":
                        break
            await events.aclose()
            assert found == [("message", "one"), ("message", "two"), ("last", "three")]
            await settled(client, 0, 0)

    run(main())
