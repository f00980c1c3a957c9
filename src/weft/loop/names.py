"""Host names to addresses and back.

The one invariant: what needs no looking up (literal address, numeric port) is answered at once, by the same C library
call, in the loop's own thread. The rest is for the threads of ``lookups``.
``Connections``, ``Servers`` and ``Datagrams`` call ``_resolve``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from weft.loop._host import Host

if TYPE_CHECKING:
    from weft.loop.lookups import LookupPool

__all__ = ["AddressInfo", "Names"]

# (family, type, proto, canonical name, address); Any where the type checkers' idea of it changes between versions
AddressInfo: TypeAlias = tuple[Any, Any, int, str, Any]
_R = TypeVar("_R")

logger = logging.getLogger("asyncio")

NO_LOOKUP = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Names(Host):
    """Mixin: ``getaddrinfo`` and ``getnameinfo``."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups: LookupPool | None = None

    def _release(self) -> None:
        pool, self._lookups = self._lookups, None
        if pool is not None:
            pool.shutdown()
        super()._release()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """``socket.getaddrinfo`` without blocking the loop.

        A literal address (or None) with a numeric port is answered without a thread and without suspending.

        Raises:
            OSError: As ``socket.getaddrinfo``: ``socket.gaierror`` if the name cannot be resolved.
            RuntimeError: The loop is closed.
        """
        self._check_closed()
        function: Callable[..., list[AddressInfo]]
        function = self._getaddrinfo_debug if self.get_debug() else socket.getaddrinfo
        if _needs_no_lookup(host, port):
            return function(host, port, family, type, proto, flags)
        return await self._look_up(partial(function, host, port, family, type, proto, flags))

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes], flags: int = 0
    ) -> tuple[str, str]:
        """``socket.getnameinfo`` without blocking the loop.

        Raises:
            OSError: As ``socket.getnameinfo``.
            RuntimeError: The loop is closed.
        """
        self._check_closed()
        if flags & NO_LOOKUP == NO_LOOKUP:
            return socket.getnameinfo(sockaddr, flags)
        return await self._look_up(partial(socket.getnameinfo, sockaddr, flags))

    async def _resolve(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
        flowinfo: int = 0,
        scopeid: int = 0,
    ) -> list[AddressInfo]:
        """The addresses to connect or bind to, for the other mixins.

        Goes through ``self.getaddrinfo`` (people replace it) unless ``host`` is a literal address; ``flowinfo`` and
        ``scopeid``, from an IPv6 address of four parts, go into what a literal IPv6 address resolves to.

        Raises:
            OSError: As ``getaddrinfo``, or if that finds nothing.
        """
        if host is not None and _needs_no_lookup(host, port):
            self._check_closed()
            infos: list[AddressInfo] = [*socket.getaddrinfo(host, port, family, type, proto, flags)]
            if flowinfo or scopeid:
                infos = [_with_scope(info, flowinfo, scopeid) for info in infos]
        else:
            infos = await self.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        if not infos:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return infos

    def _look_up(self, function: Callable[[], _R]) -> asyncio.Future[_R]:
        if self._lookups is None:
            from weft.loop.lookups import LookupPool  # here: see the note in weft.loop

            self._lookups = LookupPool()
        return self._lookups.submit(self, function)

    def _getaddrinfo_debug(
        self, host: bytes | str | None, port: bytes | str | int | None, family: int, type: int, proto: int, flags: int
    ) -> list[AddressInfo]:
        """``socket.getaddrinfo`` with what asyncio logs about it in debug mode; runs in a lookup thread."""
        options = {"family": family, "type": type, "proto": proto, "flags": flags}
        query = ", ".join([f"{host!s}:{port!r}", *(f"{name}={value!r}" for name, value in options.items() if value)])
        logger.debug("Get address info %s", query)
        began = self.time()
        infos: list[AddressInfo] = [*socket.getaddrinfo(host, port, family, type, proto, flags)]
        took = self.time() - began
        level = logging.INFO if took >= self.slow_callback_duration else logging.DEBUG
        logger.log(level, "Getting address info %s took %.3fms: %r", query, took * 1e3, infos)
        return infos


def _needs_no_lookup(host: object, port: object) -> bool:
    """Whether ``socket.getaddrinfo(host, port)`` can neither block nor read a file.

    Scoped addresses (``fe80::1%eth0``, RFC 4007) count if they are link-local and the interface exists; C libraries
    differ about the others.
    """
    if not _is_numeric_port(port):
        return False
    if host is None:
        return True
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    if not isinstance(host, str) or not host.isascii():
        return False
    address, percent, scope = host.partition("%")
    try:
        if percent:
            if not address.lower().startswith("fe80:"):
                return False
            socket.if_nametoindex(scope)
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return False
    return True


def _is_numeric_port(port: object) -> bool:
    if port is None or isinstance(port, int):
        return True
    return isinstance(port, (str, bytes)) and (not port or (port.isascii() and port.isdigit()))


def _with_scope(info: AddressInfo, flowinfo: int, scopeid: int) -> AddressInfo:
    family, kind, proto, canonical, address = info
    if family == socket.AF_INET6:
        address = (*address[:2], flowinfo or address[2], scopeid or address[3])
    return family, kind, proto, canonical, address
