"""Small things that connections, servers, datagrams and sockets share: address lists, socket checks, combined errors.

Invariant: nothing here keeps state or waits, except ``resolve``, which asks the loop.
Called by the mixins of this package.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from asyncio.log import logger
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from weft.loop._host import Host

AddressInfo: TypeAlias = tuple[Any, Any, int, str, Any]
"""One entry of ``socket.getaddrinfo``: family, type, protocol, canonical name, socket address."""

MAX_PORT = 65535
UNAVAILABLE = errno.EADDRNOTAVAIL
"""The error of an address that may be one of several that cannot be had: the others may do."""
INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})


async def resolve(
    loop: Host, address: Sequence[Any], *, type: int, family: int = 0, proto: int = 0, flags: int = 0
) -> list[AddressInfo]:
    """Resolve ``(host, port)`` or, for IPv6, ``(host, port, flowinfo, scope_id)``.

    Raises:
        OSError: the name has no address, or cannot be resolved (``socket.gaierror``).
        OverflowError: the port is a number outside 0-65535, which getaddrinfo(3) would silently wrap.
        TypeError: ``address`` is no such tuple.
    """
    if not isinstance(address, (tuple, list)) or not 2 <= len(address) <= 4:
        raise TypeError(
            f"an internet address is a tuple (host, port) or (host, port, flowinfo, scope_id), not {address!r}"
        )
    if isinstance(address[1], int) and not 0 <= address[1] <= MAX_PORT:
        raise OverflowError(f"port must be 0-{MAX_PORT}, not {address[1]}")
    scope = dict(zip(("flowinfo", "scopeid"), address[2:], strict=False))
    return await loop._resolve(*address[:2], type=type, family=family, proto=proto, flags=flags, **scope)


def is_ipv4(family: int, address: Any) -> bool:
    """Whether ``address`` is an IPv4 address and a port, so that there is nothing to resolve."""
    if family != socket.AF_INET or type(address) is not tuple or len(address) != 2:
        return False
    host, port = address
    if type(host) is not str or type(port) is not int or not 0 <= port <= MAX_PORT:
        return False
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True


def interleave(infos: Iterable[AddressInfo], first_family_count: int) -> list[AddressInfo]:
    """Order addresses so that the families alternate (RFC 8305, section 4).

    Args:
        infos: addresses in the resolver's order.
        first_family_count: how many addresses of the first family come before the first of another one, at least 1.
    """
    families: dict[int, list[AddressInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    lists = list(families.values())
    head = lists[0][: first_family_count - 1]
    lists[0] = lists[0][len(head) :]
    return head + [info for info in chain.from_iterable(zip_longest(*lists)) if info is not None]


def connect_error(errors: list[OSError], all_errors: bool) -> Exception:
    """Make the one exception that says why no address could be connected to.

    Addresses that failed alike (all refused, say) give the same ``errno`` and subclass of ``OSError`` as each of them.
    """
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    if not errors:
        return TimeoutError("create_connection failed")
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    message = "Multiple exceptions: " + ", ".join(str(error) for error in errors)
    codes = {error.errno for error in errors}
    code = codes.pop() if len(codes) == 1 else None
    if code is None:
        return OSError(message)
    combined = type(OSError(code, ""))(message)  # OSError itself knows which subclass belongs to an errno
    combined.errno = code
    return combined


def bind_error(address: Any, error: OSError) -> OSError:
    """Say which address could not be bound; keeps ``errno`` and, with it, the subclass."""
    return OSError(error.errno, f"error while attempting to bind on address {address!r}: {str(error).lower()}")


def check_not_tls(sock: socket.socket) -> None:
    """Refuse an ``ssl.SSLSocket``: its own buffering and handshake know nothing of the loop."""
    if type(sock) is socket.socket or (ssl := sys.modules.get("ssl")) is None:
        return  # nobody can have one who has not imported `ssl`
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def check_stream(sock: socket.socket) -> None:
    """Refuse what is not a stream socket (Unix domain sockets are welcome)."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def check_unix_stream(sock: socket.socket) -> None:
    """Refuse what is not a Unix domain stream socket."""
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


def check_tls_timeouts(tls: bool, handshake: float | None, shutdown: float | None) -> None:
    """Refuse TLS timeouts (in seconds) for a connection without TLS."""
    if tls:
        return
    if handshake is not None:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown is not None:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def set_reuse_port(sock: socket.socket) -> None:
    """Set ``SO_REUSEPORT``, of an internet socket: from 6.12.9 on Linux refuses it for other families."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except (AttributeError, OSError) as error:
        raise ValueError(f"reuse_port not supported by socket module for {sock!r}: {error}") from None


def is_filesystem_path(path: str | bytes) -> bool:
    """Tell a Unix socket's path from an abstract name (which starts with a zero byte) and from no name (unix(7))."""
    return bool(path) and path[0] not in (0, "\x00")


def remove_stale_socket(path: str | bytes) -> None:
    """Remove the socket that an earlier process left at *path*, so that the path can be bound again.

    Whatever else stands there stays. An error is only logged: bind(2) will tell the caller the same with more right.
    """
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The directory may allow to create sockets only.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)
