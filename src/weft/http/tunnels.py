"""What is said on a new connection before its protocol takes over: asking a proxy for a tunnel.

Invariant: when a tunnel stands, every byte that the proxy sent was part of its answer; anything more is an error, so
that nothing can be slipped in before the first request. Nothing here closes a connection: whoever calls does, on error.
Called by ``dial``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from typing import TypeVar

from weft.http.errors import ProxyError
from weft.http.proxies import Proxy

__all__ = ["Dialogue", "UnreachableError", "hand_over", "open_tunnel"]

LONGEST_HEAD = 64 * 1024
"""Bytes of a proxy's answer to CONNECT (squid sends 300; nginx takes 32 KiB of a client)."""

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\x00\r\n]*))?\r\n")

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class UnreachableError(ProxyError):
    """The proxy works, but cannot reach the address that was asked for; another of the same host may do."""


class Dialogue(asyncio.Protocol):
    """Keeps what comes until it is read, or handed over to the protocol of the connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.eof = False
        self.lost = False
        self.error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._wake()

    def eof_received(self) -> None:
        self.eof = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.error = exc
        self._wake()

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come."""
        return self.eof or self.lost

    async def more(self) -> None:
        """Wait until more has come.

        Raises:
            EOFError: nothing more will.
        """
        if self.is_over:
            raise EOFError from self.error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def exactly(self, count: int) -> bytes:
        """Take *count* bytes; raises as ``more``."""
        while len(self.data) < count:
            await self.more()
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    async def until(self, mark: bytes, limit: int) -> bytes:
        """Take everything up to and with *mark*; raises as ``more``, and ValueError after *limit* bytes without."""
        searched = 0
        while (found := self.data.find(mark, searched)) < 0:
            if len(self.data) > limit:
                raise ValueError(f"{limit} bytes without an end")
            searched = max(0, len(self.data) - len(mark) + 1)
            await self.more()
        return await self.exactly(found + len(mark))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def hand_over(transport: asyncio.Transport, dialogue: Dialogue, protocol: ProtocolT) -> ProtocolT:
    """Let *protocol* have the connection, and what came on it before; both must not have seen its end."""
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if dialogue.data and isinstance(protocol, asyncio.Protocol):
        protocol.data_received(bytes(dialogue.data))
    return protocol


async def open_tunnel(proxy: Proxy, transport: asyncio.Transport, dialogue: Dialogue, target: tuple[str, int]) -> None:
    """Ask *proxy*, to which *transport* goes, for a tunnel to *target*.

    Raises:
        ProxyError: it refused, closed the connection, or said what the protocol does not know.
    """
    name = f"{_bracketed(target[0])}:{target[1]}"
    ask = _ask_socks if proxy.is_socks else _ask_http
    try:
        await ask(proxy, transport, dialogue, target)
    except EOFError as error:
        raise ProxyError(f"the proxy {proxy} closed the connection while asked for a tunnel to {name}") from (
            error.__cause__
        )
    if dialogue.data:
        raise ProxyError(f"the proxy {proxy} sent {len(dialogue.data)} bytes more than its answer to {name}")


def _say(transport: asyncio.Transport, dialogue: Dialogue, data: bytes) -> None:
    """Send, unless the connection has ended: some loops raise an error of their own then."""
    if dialogue.is_over or transport.is_closing():
        raise EOFError from dialogue.error
    transport.write(data)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# -- HTTP (RFC 9110, 9.3.6)


async def _ask_http(proxy: Proxy, transport: asyncio.Transport, dialogue: Dialogue, target: tuple[str, int]) -> None:
    authority = f"{_bracketed(target[0])}:{target[1]}"
    headers = [("Host", authority)]
    if proxy.authorization is not None:
        headers.append(("Proxy-Authorization", proxy.authorization))
    headers += proxy.headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    _say(transport, dialogue, f"CONNECT {authority} HTTP/1.1\r\n{lines}\r\n".encode())
    status, reason = 100, b""
    while status < 200:
        try:
            head = await dialogue.until(b"\r\n\r\n", LONGEST_HEAD)
        except ValueError as error:
            raise ProxyError(f"the proxy {proxy} answers CONNECT with {error}") from None
        line = STATUS_LINE.match(head)
        if line is None:
            raise ProxyError(f"the proxy {proxy} does not answer CONNECT in HTTP/1: {head[:60]!r}")
        status, reason = int(line[1]), line[2] or b""
    if not 200 <= status < 300:
        why = f"{status} {reason.decode('latin-1')}".rstrip()
        refusal = ProxyError(f"the proxy {proxy} refused a tunnel to {authority}: {why}")
        if status == 407:
            refusal.add_note("Give the proxy's user and password: http://user:password@proxy:port.")
        raise refusal


# -- SOCKS 5 (RFC 1928; its user and password: RFC 1929)

VERSION = 5
NO_AUTH, PASSWORD, NONE_ACCEPTABLE = 0, 2, 0xFF
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4

REPLIES = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "the time to live expired",
    7: "it does not know the command",
    8: "it does not know this kind of address",
}
UNREACHABLE = frozenset({3, 4, 5, 6, 8})


async def _ask_socks(proxy: Proxy, transport: asyncio.Transport, dialogue: Dialogue, target: tuple[str, int]) -> None:
    methods = [NO_AUTH] if proxy.auth is None else [NO_AUTH, PASSWORD]
    _say(transport, dialogue, bytes([VERSION, len(methods), *methods]))
    version, method = await dialogue.exactly(2)
    _check_version(proxy, version, VERSION)
    if method == PASSWORD and proxy.auth is not None:
        await _log_in(proxy, proxy.auth, transport, dialogue)
    elif method == NONE_ACCEPTABLE:
        wanted = "a user and a password" if proxy.auth is None else "another way to log in than by password"
        raise ProxyError(f"the proxy {proxy} refused: it wants {wanted}")
    elif method != NO_AUTH:
        raise ProxyError(f"the proxy {proxy} chose method {method} to log in, which it was not offered")

    _say(transport, dialogue, bytes([VERSION, CONNECT, 0]) + _socks_address(proxy, target))
    version, reply, _, kind = await dialogue.exactly(4)
    _check_version(proxy, version, VERSION)
    if reply:
        # What follows says nothing, and some proxies close without sending it.
        kind_of_error = UnreachableError if reply in UNREACHABLE else ProxyError
        why = REPLIES.get(reply, f"reply {reply}")
        raise kind_of_error(f"the proxy {proxy} gave no tunnel to {_bracketed(target[0])}:{target[1]}: {why}")
    if kind == NAME:
        (length,) = await dialogue.exactly(1)
    elif kind in {IPV4, IPV6}:
        length = 4 if kind == IPV4 else 16
    else:
        raise ProxyError(f"the proxy {proxy} answers with an address of the unknown kind {kind}")
    await dialogue.exactly(length + 2)


async def _log_in(proxy: Proxy, auth: tuple[str, str], transport: asyncio.Transport, dialogue: Dialogue) -> None:
    user, password = (part.encode() for part in auth)
    _say(transport, dialogue, bytes([1, len(user)]) + user + bytes([len(password)]) + password)
    version, status = await dialogue.exactly(2)
    _check_version(proxy, version, 1)
    if status:
        raise ProxyError(f"the proxy {proxy} refused the user {auth[0]!r} or the password")


def _check_version(proxy: Proxy, version: int, expected: int) -> None:
    if version != expected:
        raise ProxyError(f"the proxy {proxy} does not speak SOCKS 5: it answers with version {version}")


def _socks_address(proxy: Proxy, target: tuple[str, int]) -> bytes:
    host, port = target
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.encode("ascii")
        if len(name) > 255:
            raise ProxyError(f"the proxy {proxy} cannot be asked for a name of {len(name)} bytes") from None
        return bytes([NAME, len(name)]) + name + port.to_bytes(2, "big")
    return bytes([IPV4 if address.version == 4 else IPV6]) + address.packed + port.to_bytes(2, "big")
