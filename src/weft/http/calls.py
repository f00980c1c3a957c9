"""What a client's methods return: a call that is awaited, or entered."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any

from weft.http.response import Response

__all__ = ["Call"]


class Call:
    """A request that begins when it is awaited, or entered with ``async with``."""

    __slots__ = ("_coroutine", "_response")

    def __init__(self, coroutine: Coroutine[Any, Any, Response]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, Response]:
        return self._coroutine.__await__()

    def close(self) -> None:
        """Do not make the request after all."""
        self._coroutine.close()

    async def __aenter__(self) -> Response:
        self._response = await self._coroutine
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.release()
