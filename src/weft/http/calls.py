"""What a client's methods return: a call that is awaited, entered, or made a task of.

Invariant: it is a coroutine to everything that asks for one (``asyncio.create_task``, ``TaskGroup``, ``gather``), and
what it gives is released at the end of an ``async with`` block.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from weft.http.response import Response

__all__ = ["Call", "Opening"]


T_co = TypeVar("T_co", covariant=True)


class Opening(Coroutine[Any, Any, T_co]):
    """A coroutine that can be entered with ``async with`` as well."""

    __slots__ = ("_coroutine", "_opened")

    def __init__(self, coroutine: Coroutine[Any, Any, T_co]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Do not begin after all."""
        self._coroutine.close()

    async def __aenter__(self) -> T_co:
        self._opened = await self._coroutine
        return self._opened


class Call(Opening[Response]):
    """A request that begins when it is awaited, or entered with ``async with``."""

    __slots__ = ()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.release()
