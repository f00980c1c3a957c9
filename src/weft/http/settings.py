"""What a user sets for a client or a request: time limits and the size of the pool.

Invariant: values are checked when they are given, so that nothing wrong is found in the middle of a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, TypedDict

__all__ = ["DEFAULT_TIMEOUT", "Connector", "Limits", "RequestOptions", "Timeout"]


@dataclass(frozen=True, slots=True)
class Timeout:
    """The time limits of a request, in seconds; None is no limit.

    Attributes:
        total: from the start to the last byte of the body, redirects and repetitions included, without the wait for a
            free connection. aiohttp's is 300 as well.
        connect: name look-up, connection, proxy and TLS of one connection.
        pool: the wait for a free connection. It is part of no other limit.
        first_byte: from the request sent to the first byte of the response.
        idle: between two bytes of the response. Kept within a quarter of its length, on the late side.

    Raises:
        ValueError: a limit is not above 0.
    """

    total: float | None = 300.0
    connect: float | None = 15.0
    pool: float | None = None
    first_byte: float | None = 60.0
    idle: float | None = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise ValueError(f"Timeout.{field.name} is {value!r}: give seconds above 0, or None for no limit")

    @classmethod
    def of(cls, value: Any) -> Timeout:
        """What is given where a time limit is expected: one of these, seconds for the whole, None for no limits."""
        if isinstance(value, Timeout):
            return value
        if value is None:
            return NO_TIMEOUT
        if isinstance(value, int | float):
            return in_all(value)
        raise TypeError(f"a time limit is seconds, a weft.http.Timeout or None, not {value!r}")


@lru_cache(maxsize=64, typed=True)
def in_all(seconds: float) -> Timeout:
    """So many seconds for the whole. Kept, as a program gives the same few with each of its requests."""
    return Timeout(total=seconds)


DEFAULT_TIMEOUT: Final = Timeout()
NO_TIMEOUT: Final = Timeout(None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a client holds; None is no limit.

    Attributes:
        total: connections in all, used, idle and being made.
        per_host: connections to one origin (scheme, host, port).
        keepalive: seconds after which an idle connection is closed.
        dials: connections that are being made at one time; a burst of more would overflow the server's queue.
    """

    total: int | None = 100
    per_host: int | None = None
    keepalive: float | None = 20.0
    dials: int = 256

    def __post_init__(self) -> None:
        for name in ("total", "per_host", "dials"):
            value = getattr(self, name)
            if (value is not None or name == "dials") and not (isinstance(value, int) and value > 0):
                raise ValueError(f"Limits.{name} is {value!r}: give a number above 0, or None for no limit")
        if self.keepalive is not None and not self.keepalive >= 0:
            raise ValueError(f"Limits.keepalive is {self.keepalive!r}: give seconds, or None for ever")


@dataclass(frozen=True, slots=True)
class Connector:
    """How a client connects, in one object, for those who pass ``connector=`` as to aiohttp.

    Attributes:
        limits: see :class:`Limits`.
        tls: see :class:`weft.http.Client`.
        unix_socket: the same.
    """

    limits: Limits
    tls: Any = True
    unix_socket: str | None = None


class RequestOptions(TypedDict, total=False):
    """What a request may be given beside its method and URL; the same for every method of the client."""

    params: Any
    headers: Any
    cookies: Mapping[str, str] | None
    content: Any
    data: Any
    json: Any
    files: Any
    auth: Any
    timeout: Any
    follow_redirects: bool
    allow_redirects: bool
    max_redirects: int
    retry: Any
    raise_for_status: bool
    decode: bool
    upgrade: bool
    proxy: Any
    tls: Any
    ssl: Any
