"""What the tests of ASGI share: bare applications, and a client of them."""

from __future__ import annotations

import asyncio
from typing import Any

from weft.http import Client
from weft.http.asgi import ASGITransport


def client_of(app: Any, **options: Any) -> Client:
    return Client("http://app.test/", transport=ASGITransport(app, **options))


async def answer(send: Any, status: int = 200, body: bytes = b"", headers: Any = (), **more: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers), **more})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    pieces = []
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, 200, await body_of(receive))


class Reports(list[str]):
    """What the loop's exception handler was told, as text."""

    def __init__(self) -> None:
        super().__init__()
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: self.append(f"{told['exception']!r}"))
