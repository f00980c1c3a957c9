"""The application that uvicorn serves in the tests: every kind of answer, and a lifespan that says what it saw.

Also the program's own module: ``uvicorn tests.frameworks.starlette_app:app`` in a process of its own, which prints the
lifespan's events, whose loop it is, and when half an upload has come.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.frameworks.kit import BODY, pieces


def say(app: Starlette, event: str) -> None:
    """Note what happened, for a test in this process and for one outside."""
    app.state.events.append(event)
    print(event, flush=True)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Notes the start, the loop, and the end."""
    loop = type(asyncio.get_running_loop())
    say(app, f"startup on {loop.__module__.partition('.')[0]}")
    yield
    say(app, "shutdown")


async def echo(request: Request) -> Response:
    return Response(await request.body(), headers={"X-Method": request.method, "X-Query": str(request.query_params)})


async def about(request: Request) -> Response:
    assert request.client is not None
    return JSONResponse({"scheme": request.url.scheme, "version": request.scope["http_version"]})


async def upload(request: Request) -> Response:
    """Answers with what stands for the body, which it reads as it comes."""
    whole = hashlib.sha256()
    begun = False
    try:
        async for piece in request.stream():
            whole.update(piece)
            if not begun:
                say(request.app, "upload begun")
            begun = True
    except ClientDisconnect:
        say(request.app, "upload broken off")
        raise
    return PlainTextResponse(whole.hexdigest())


async def download(request: Request) -> Response:
    return StreamingResponse(pieces(BODY))


async def endless(request: Request) -> Response:
    """Streams until the client leaves."""

    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(50_000)
                await asyncio.sleep(0)
        finally:
            say(request.app, "download broken off")

    return StreamingResponse(body())


async def background(request: Request) -> Response:
    async def later() -> None:
        await asyncio.sleep(0)
        say(request.app, "in the background")

    return PlainTextResponse("done", background=BackgroundTask(later))


async def fail(request: Request) -> Response:
    raise LookupError("as asked for")


async def talk(socket: WebSocket) -> None:
    """Echoes, until the client leaves or asks to be closed with a code."""
    await socket.accept()
    try:
        while True:
            message: dict[str, Any] = dict(await socket.receive())
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            text = message.get("text")
            if text is not None and text.startswith("close "):
                await socket.close(int(text.removeprefix("close ")), "as asked for")
                return
            await (socket.send_text(text) if text is not None else socket.send_bytes(message["bytes"]))
    except WebSocketDisconnect as gone:
        say(socket.app, f"gone with {gone.code}")


def make_app() -> Starlette:
    """A new application, which notes its events in ``state.events``."""
    handlers = (echo, about, upload, download, endless, background, fail)
    routes = [Route(f"/{handler.__name__}", handler, methods=["GET", "POST"]) for handler in handlers]
    app = Starlette(routes=[*routes, WebSocketRoute("/talk", talk)], lifespan=lifespan)
    app.state.events = []
    return app


app = make_app()
