"""A server that says what it was sent, as an application of aiohttp's and as one of starlette's under uvicorn.

Owns nothing but one server in the test's own loop. Its invariant: both applications answer alike, so that a test need
not know which it has. ``/echo`` says what came; the other paths are named after what they do.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

TEXT = "grüße, жизнь, 生活 " * 500
REALM = 'Basic realm="weft"'


def packed(coding: str, data: bytes) -> bytes:
    """``data`` in a content coding."""
    if coding == "gzip":
        return gzip.compress(data)
    if coding == "deflate":
        return zlib.compress(data)
    if coding == "br":
        import brotli

        compressed: bytes = brotli.compress(data)
        return compressed
    squeezed: bytes
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # from 3.14 on
    except ImportError:
        import zstandard

        squeezed = zstandard.ZstdCompressor().compress(data)
    else:
        squeezed = zstd.compress(data)
    return squeezed


class Application:
    """What both servers answer: a status, headers, and a body, which is a list of pieces where it is streamed."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.failures = 0
        self.origin = ""

    def answer(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Any:
        path, _, query = target.partition("?")
        self.seen.append((method, target))
        asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        given = {name.lower(): value for name, value in headers}
        found: Callable[..., Any] = getattr(self, "do" + path.replace("/", "_").replace("-", "_"), self.do_missing)
        return found(asked, given, {"method": method, "target": target, "headers": headers, "body": body})

    def do_missing(self, asked: Any, given: Any, request: Any) -> Any:
        return 404, [("Content-Type", "text/plain")], b"not here"

    def do_echo(self, asked: Any, given: Any, request: Any) -> Any:
        body = request["body"]
        said = request | {"body": base64.b64encode(body).decode() if len(body) < 10_000 else None}
        said["digest"] = hashlib.sha256(body).hexdigest()
        return 200, [("Content-Type", "application/json")], json.dumps(said).encode()

    def do_status(self, asked: Any, given: Any, request: Any) -> Any:
        headers = [(name.replace("_", "-"), value) for name, value in asked.items() if name != "code"]
        return int(asked["code"]), headers, b"status"

    def do_loop(self, asked: Any, given: Any, request: Any) -> Any:
        return 302, [("Location", "/loop")], b""

    def do_cookies(self, asked: Any, given: Any, request: Any) -> Any:
        return 200, [("Set-Cookie", f"{name}={value}; Path=/") for name, value in asked.items()], b"set"

    def do_text(self, asked: Any, given: Any, request: Any) -> Any:
        charset = asked["charset"]
        body = asked.get("text", TEXT).encode(charset)
        named = f"; charset={charset}" if "named" in asked else ""
        return 200, [("Content-Type", f"text/plain{named}")], body

    def do_packed(self, asked: Any, given: Any, request: Any) -> Any:
        body = TEXT.encode() if "bomb" not in asked else b"\0" * 50_000_000
        assert asked["coding"] in given["accept-encoding"]
        return 200, [("Content-Encoding", asked["coding"])], packed(asked["coding"], body)

    def do_basic(self, asked: Any, given: Any, request: Any) -> Any:
        wanted = "Basic " + base64.b64encode("Äls:se cret".encode()).decode()
        if given.get("authorization") != wanted:
            return 401, [("WWW-Authenticate", REALM)], b"who?"
        return 200, [], b"welcome"

    def do_digest(self, asked: Any, given: Any, request: Any) -> Any:
        """RFC 7616 with SHA-256, as a server has it."""
        sent = given.get("authorization", "")
        if not sent.startswith("Digest "):
            challenge = 'Digest realm="weft", qop="auth", algorithm=SHA-256, nonce="0a1b2c", opaque="xyz"'
            return 401, [("WWW-Authenticate", challenge)], b"who?"
        fields = dict(part.strip().split("=", 1) for part in sent[7:].split(","))
        fields = {name: value.strip('"') for name, value in fields.items()}

        def hashed(*parts: str) -> str:
            return hashlib.sha256(":".join(parts).encode()).hexdigest()

        expected = hashed(
            hashed("user", "weft", "secret"), fields["nonce"], fields["nc"], fields["cnonce"], "auth",
            hashed(request["method"], request["target"]),
        )  # fmt: skip
        return (200, [], b"welcome") if fields["response"] == expected else (403, [], b"wrong")

    def do_flaky(self, asked: Any, given: Any, request: Any) -> Any:
        """Fails as often as it is told, and then not."""
        self.failures += 1
        if self.failures <= int(asked["times"]):
            after = [("Retry-After", asked["after"])] if "after" in asked else []
            return int(asked.get("code", 503)), after, b"later"
        return 200, [], b"now"

    def do_stream(self, asked: Any, given: Any, request: Any) -> Any:
        pieces = [bytes([number % 251]) * 10_000 for number in range(int(asked["count"]))]
        return 200, [("Content-Type", "application/octet-stream")], pieces

    def do_lines(self, asked: Any, given: Any, request: Any) -> Any:
        return 200, [], [b"first\nsec", b"ond\n", b"\nlast"]


async def _aiohttp(app: Application) -> Any:
    from aiohttp import web

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        body = await request.read()
        status, fields, content = app.answer(request.method, request.raw_path, headers, body)
        if isinstance(content, bytes):
            response = web.Response(status=status, body=content)
            for name, value in fields:
                if name == "Content-Type":
                    response.headers[name] = value
                else:
                    response.headers.add(name, value)
            return response
        stream = web.StreamResponse(status=status, headers=fields)
        await stream.prepare(request)
        for piece in content:
            await stream.write(piece)
        await stream.write_eof()
        return stream

    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    return runner


@asynccontextmanager
async def _serving_aiohttp(app: Application, path: str | None = None) -> AsyncIterator[int]:
    from aiohttp import web

    runner = await _aiohttp(app)
    site: Any = web.TCPSite(runner, "127.0.0.1", 0) if path is None else web.UnixSite(runner, path)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1] if path is None else 0
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _serving_uvicorn(app: Application) -> AsyncIterator[int]:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def handle(request: Request) -> Response:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        query = request.scope["query_string"]
        target = (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
        status, fields, content = app.answer(request.method, target, headers, await request.body())
        response: Response
        if isinstance(content, bytes):
            response = Response(content, status)
        else:

            async def pieces() -> AsyncIterator[bytes]:
                for piece in content:
                    yield piece

            response = StreamingResponse(pieces(), status)
        for name, value in fields:
            response.headers.append(name, value)
        return response

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    application = Starlette(routes=[Route("/{path:path}", handle, methods=methods)])
    config = uvicorn.Config(application, port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    while not (server.started or running.done()):
        await asyncio.sleep(0.001)  # uvicorn has no event to wait for
    if running.done():
        running.result()  # says why it did not start
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


class Echo:
    """A server that runs."""

    def __init__(self, app: Application, port: int) -> None:
        self.app = app
        self.port = port

    def url(self, target: str = "/echo") -> str:
        return f"http://127.0.0.1:{self.port}{target}"


SERVERS: Mapping[str, Any] = {"aiohttp": _serving_aiohttp, "uvicorn": _serving_uvicorn}


@asynccontextmanager
async def echoing(kind: str = "aiohttp", **options: Any) -> AsyncIterator[Echo]:
    """Serve until the block ends."""
    app = Application()
    async with SERVERS[kind](app, **options) as port:
        yield Echo(app, port)


def body_of(said: Any) -> bytes:
    """The body that ``/echo`` saw."""
    return base64.b64decode(said["body"])


def header_of(said: Any, name: str) -> list[str]:
    """The values of a header that ``/echo`` saw."""
    return [value for key, value in said["headers"] if key.lower() == name.lower()]
