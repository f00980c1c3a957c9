"""The servers that the examples of the guide talk to.

Owns ``serving``, which runs them on free ports of loopback in a thread of their own. Its invariant: when it is left,
thread, sockets and tasks are gone. Called by tests/test_guide.py; a page names the servers by the ports of ``PORTS``,
which are replaced by the free ones. Needs aiohttp and h2.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

from tests.http.dialkit import AUTHORITY, CERTS, server_tls
from tests.http.proxykit import Socks

# What a page writes: plain HTTP; HTTPS; HTTP/2; a proxy; a SOCKS 5 proxy.
PORTS = ("8080", "8443", "8444", "3128", "1080")


# -- the application

routes = web.RouteTableDef()
TRIES: web.AppKey[list[int]] = web.AppKey("tries", list)


@routes.get("/hello")
async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello", headers={"X-Served-By": request.host.partition(":")[0]})


@routes.get("/pages/{number}")
async def page(request: web.Request) -> web.Response:
    number = int(request.match_info["number"])
    if number == 13:
        raise web.HTTPNotFound
    await asyncio.sleep(0.001)
    return web.Response(text=f"page {number}")


@routes.get("/users/{number}")
async def user(request: web.Request) -> web.Response:
    return web.json_response({"id": int(request.match_info["number"]), "name": "Ada"})


@routes.get("/search")
async def search(request: web.Request) -> web.Response:
    return web.Response(text=request.raw_path)


@routes.get("/download")
async def download(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)
    for _ in range(100):
        await response.write(bytes(10_000))
    return response


@routes.get("/log")
async def log(request: web.Request) -> web.Response:
    return web.Response(text='{"n": 1}\n{"n": 2}\n{"n": 3}\n')


@routes.route("*", "/echo")
async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    kind = request.headers.get("Content-Type", "none")
    return web.json_response({"method": request.method, "type": kind, "size": len(body), "body": body.decode()})


@routes.post("/upload")
async def upload(request: web.Request) -> web.Response:
    form = await request.post()
    return web.json_response({name: getattr(value, "filename", value) for name, value in form.items()})


@routes.get("/headers")
async def headers(request: web.Request) -> web.Response:
    return web.json_response({name.title(): value for name, value in request.headers.items()})


@routes.get("/stalls")
async def stalls(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


@routes.get("/flaky")
async def flaky(request: web.Request) -> web.Response:
    request.app[TRIES].append(1)
    if len(request.app[TRIES]) < 3:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": "0"})
    return web.Response(text="at last")


@routes.get("/old")
async def old(request: web.Request) -> web.Response:
    raise web.HTTPMovedPermanently("/hello")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    response = web.Response()
    response.set_cookie("session", "s3cret", path="/")
    return response


@routes.get("/basic")
async def basic(request: web.Request) -> web.Response:
    if request.headers.get("Authorization") != "Basic YWRhOnNlY3JldA==":
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="guide"'})
    return web.Response(text="welcome")


@routes.get("/digest")
async def digest(request: web.Request) -> web.Response:
    given = dict(re.findall(r'(\w+)="?([^",]+)"?', request.headers.get("Authorization", "")))
    if given:
        ha1 = hashlib.sha256(b"ada:guide:secret").hexdigest()
        ha2 = hashlib.sha256(f"GET:{given['uri']}".encode()).hexdigest()
        text = f"{ha1}:n0nce:{given['nc']}:{given['cnonce']}:auth:{ha2}"
        if given["response"] == hashlib.sha256(text.encode()).hexdigest():
            return web.Response(text="welcome")
    challenge = 'Digest realm="guide", nonce="n0nce", algorithm=SHA-256, qop="auth"'
    raise web.HTTPUnauthorized(headers={"WWW-Authenticate": challenge})


@routes.get("/bomb")
async def bomb(request: web.Request) -> web.Response:
    return web.Response(body=zlib.compress(bytes(10_000_000)), headers={"Content-Encoding": "deflate"})


@routes.get("/events")
async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(1, 4):
        await response.write(f"event: tick\nid: {number}\ndata: {number}\n\n".encode())
    await asyncio.sleep(60)
    return response


@routes.get("/socket")
async def socket(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(f"you said {message.data}")
    return websocket


# -- HTTP/2


class Http2(asyncio.Protocol):
    """Answers every request over HTTP/2 with how many streams the connection has had."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._framing = H2Connection(H2Configuration(client_side=False))
        self._framing.initiate_connection()
        transport.write(self._framing.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._framing.receive_data(data):
            if isinstance(event, StreamEnded):
                stream = event.stream_id
                self._framing.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
                self._framing.send_data(stream, json.dumps({"stream": stream}).encode(), end_stream=True)
        self._transport.write(self._framing.data_to_send())


# -- running them


@contextlib.asynccontextmanager
async def _servers(folder: Path) -> AsyncIterator[dict[str, int]]:
    """All servers; gives the free port of each port that the pages write."""
    loop = asyncio.get_running_loop()
    application = web.Application()
    application[TRIES] = []
    application.add_routes(routes)
    # Who leaves early (a stream of events, a request that is too slow) is not waited for.
    runner = web.AppRunner(application, shutdown_timeout=0.01, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(wants_client=True)).start()
    await web.UnixSite(runner, str(folder / "app.sock")).start()
    http2 = await loop.create_server(Http2, "127.0.0.1", 0, ssl=server_tls(alpn=["h2"]))
    socks = await asyncio.start_server(Socks(), "127.0.0.1", 0)
    plain, secure = (address[1] for address in runner.addresses if isinstance(address, tuple))
    # An application gets the whole URL when it is asked as a proxy, and answers in the place of every host.
    ports = (plain, secure, http2.sockets[0].getsockname()[1], plain, socks.sockets[0].getsockname()[1])
    try:
        yield dict(zip(PORTS, ports, strict=True))
    finally:
        for server in (http2, socks):
            server.close()
        await runner.cleanup()
        me = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not me]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[dict[str, int]]:
    """Runs the servers in a thread, and puts the files that the examples need into ``folder``; gives their ports."""
    shutil.copy(AUTHORITY, folder / "authority.pem")
    shutil.copy(CERTS / "client.pem", folder / "client.pem")
    (folder / "report.pdf").write_bytes(b"%PDF-1.7")
    (folder / "netrc").write_text("machine localhost login ada password secret\n")
    ready = threading.Event()
    box: dict[str, Any] = {}

    async def main() -> None:
        box["stop"] = asyncio.Event()
        async with _servers(folder) as box["ports"]:
            box["loop"] = asyncio.get_running_loop()
            ready.set()
            await box["stop"].wait()

    def run() -> None:
        try:
            asyncio.run(main())
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="servers of the guide")
    thread.start()
    ready.wait()
    try:
        yield box["ports"]
    finally:
        if "loop" in box:
            box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join()
