"""What a client sends with every request, and how a request's own headers are laid over it.

Owns :class:`Defaults`. Its invariant: a change of them counts from the next request on, for which the client, that
keeps requests ready, is told of each. Called by the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from weft.http.headers import Headers, HeadersLike

__all__ = ["Defaults", "merge"]


class Defaults(Headers):
    """The headers of a client.

    Args:
        on_change: called after each change.
    """

    __slots__ = ("_on_change",)

    def __init__(self, other: HeadersLike, on_change: Callable[[], None]) -> None:
        super().__init__(other)
        self._on_change = on_change

    def add(self, name: str, value: str) -> None:
        super().add(name, value)
        self._on_change()

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name, value)
        self._on_change()

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._on_change()

    def update(self, other: HeadersLike = (), /, **more: str) -> None:  # type: ignore[override]
        super().update(other, **more)
        self._on_change()

    def extend(self, other: HeadersLike) -> None:
        super().extend(other)
        self._on_change()

    def clear(self) -> None:
        super().clear()
        self._on_change()


def merge(headers: Headers, own: Any) -> Headers:
    """``headers`` with those of ``own``, a mapping or pairs, in the place of their namesakes; None leaves one out."""
    merged = headers.copy()
    given: Iterable[tuple[str, str | None]] = own.items() if hasattr(own, "items") else own
    seen = set()
    for name, value in given:
        lowered = name.lower()
        if value is None:
            merged.pop(name, None)
        elif lowered in seen:
            merged.add(name, value)
        else:
            merged[name] = value
        seen.add(lowered)
    if "range" in seen and "accept-encoding" not in seen and "Accept-Encoding" in merged:
        # A part of what is packed cannot be unpacked (Fetch standard, 4.6).
        merged["Accept-Encoding"] = "identity"
    return merged
