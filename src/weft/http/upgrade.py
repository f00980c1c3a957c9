"""Opens WebSockets: an HTTP request that asks for another protocol, and what becomes of its connection."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any

from weft.http.errors import WebSocketError
from weft.http.websocket import WebSocket
from weft.http.wshandshake import check_handshake, handshake_headers

__all__ = ["Opening", "open_websocket"]

FOR_HANDSHAKE = ("subprotocols", "compress")
FOR_SOCKET = ("heartbeat", "max_size", "close_timeout", "autoping")


class Opening:
    """A WebSocket that opens when it is awaited, or entered with ``async with``, which closes it at the end."""

    __slots__ = ("_coroutine", "_socket")

    def __init__(self, coroutine: Coroutine[Any, Any, WebSocket]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> WebSocket:
        self._socket = await self._coroutine
        return self._socket

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()


def open_websocket(client: Any, url: Any, options: dict[str, Any]) -> Opening:
    """Open a WebSocket to ``url`` (RFC 6455, 4.1); see :meth:`Client.websocket`."""
    return Opening(_open(client, url, options))


async def _open(client: Any, url: Any, options: dict[str, Any]) -> WebSocket:
    for_handshake = {name: options.pop(name) for name in FOR_HANDSHAKE if name in options}
    for_socket = {name: options.pop(name) for name in FOR_SOCKET if name in options}
    if "protocols" in options:  # aiohttp's word
        for_handshake["subprotocols"] = options.pop("protocols")
    headers, key = handshake_headers(**for_handshake)
    given = options.pop("headers", None) or {}
    merged = [*headers.items(), *(given.items() if hasattr(given, "items") else given)]
    response = await client.request("GET", url, headers=merged, upgrade=True, **options)
    if response.status != 101 or response.tunnel is None:
        response.release()
        status = f"{response.status} {response.reason}".rstrip()
        raise WebSocketError(f"the server answered {status} to the handshake", url=response.url)
    try:
        agreed = check_handshake(response.headers, key, url=url, **for_handshake)
        return WebSocket(response.tunnel, agreed, url=url, **for_socket)
    except BaseException:
        response.tunnel.abort()
        raise
