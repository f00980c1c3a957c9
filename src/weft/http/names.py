"""Host names to addresses, remembered for as long as they may be.

Owns the cache of look-ups. Invariant: a name is asked for once at a time, whoever waits; a waiter that is cancelled
takes the look-up along only when nobody else waits, and a failure is remembered for a second at most.
Called by ``dial``; knows nothing of connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, TypeAlias

from weft.http.errors import ResolveError

__all__ = ["Address", "Names", "Resolver"]

Address: TypeAlias = tuple[int, tuple[Any, ...]]
"""An address family and what ``socket.connect`` takes in it: ``(host, port)`` or ``(host, port, flow, scope)``."""

Resolver: TypeAlias = Callable[[str], Awaitable[tuple[Sequence[str], float]]]
"""What may stand in for getaddrinfo(3): host name to IP addresses, best first, and how many seconds they hold."""

Found: TypeAlias = tuple[int, str, tuple[int, ...]]
"""A family, an address as text, and what follows the port: flow and scope of IPv6."""

FAILURE_TTL = 1.0
"""Seconds. Enough to answer a crowd that waits for the same name; not so long that anybody notices (RFC 2308, 5)."""

FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a look-up; without addresses it is a failure, with the reason in ``cause``."""

    found: tuple[Found, ...]
    expires: float
    cause: Exception | None = None


@dataclass(slots=True)
class Lookup:
    """A look-up under way, and how many wait for it."""

    task: asyncio.Task[Answer]
    waiting: int = 0


class Names:
    """Resolves host names, and remembers the answers.

    Args:
        ttl: seconds for which an answer of getaddrinfo(3), which does not tell, is used; 0 for no cache.
        max_hosts: how many names are remembered; those unused for longest go first.
        resolver: asked instead of getaddrinfo(3); its own time to live counts instead of *ttl*.
        clock: seconds that only grow, for tests.
    """

    def __init__(
        self,
        ttl: float = 60.0,
        max_hosts: int = 1000,
        *,
        resolver: Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl = ttl
        self._max_hosts = max_hosts
        self._resolver = resolver
        self._clock = clock
        self._answers: dict[str, Answer] = {}
        self._lookups: dict[str, Lookup] = {}

    async def resolve(self, host: str, port: int, family: int = 0) -> list[Address]:
        """The addresses of *host*, in the order in which to try them (RFC 6724), families alternating (RFC 8305, 4).

        Args:
            host: a name, or an IP address (IPv6 without brackets, maybe with a zone).
            port: becomes part of each address.
            family: ``AF_INET`` or ``AF_INET6`` to have one only.

        Raises:
            ResolveError: there is no address, or nobody to ask. ``__cause__`` says what the resolver said.
        """
        literal = _literal(host)
        if literal is not None:
            answer = Answer((literal,), 0.0)
        else:
            key = host.lower()
            answer = self._remembered(key) or await self._look_up(key)
        if not answer.found:
            raise ResolveError(_why(host, answer.cause)) from answer.cause
        found = [one for one in answer.found if not family or one[0] == family]
        if not found:
            raise ResolveError(f"{host} has no {FAMILIES.get(socket.AddressFamily(family), family)} address")
        return [(kind, (address, port, *rest)) for kind, address, rest in found]

    def at_hand(self, host: str) -> Found | None:
        """The address to try first, without its port, if it is known without asking anybody."""
        literal = _literal(host)
        if literal is None:
            answer = self._remembered(host.lower())
            literal = answer.found[0] if answer is not None and answer.found else None
        return literal

    def forget(self, host: str) -> None:
        """Ask again the next time, as when none of the host's addresses answers."""
        self._answers.pop(host.lower(), None)

    # -- the cache

    def _remembered(self, host: str) -> Answer | None:
        answer = self._answers.pop(host, None)
        if answer is None or answer.expires <= self._clock():
            return None
        self._answers[host] = answer  # to the end: it is the one used last
        return answer

    def _remember(self, host: str, answer: Answer) -> None:
        if answer.expires <= self._clock() or self._max_hosts <= 0:
            return
        self._answers.pop(host, None)
        while len(self._answers) >= self._max_hosts:
            del self._answers[next(iter(self._answers))]
        self._answers[host] = answer

    # -- one look-up for all who wait

    async def _look_up(self, host: str) -> Answer:
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = Lookup(asyncio.get_running_loop().create_task(self._ask(host)))
        lookup.waiting += 1
        try:
            await asyncio.wait([lookup.task])  # which, unlike awaiting it, does not cancel it with us
            return lookup.task.result()
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                # From here on nobody may join it: it is over, or about to be cancelled.
                if self._lookups.get(host) is lookup:
                    del self._lookups[host]
                lookup.task.cancel()

    async def _ask(self, host: str) -> Answer:
        try:
            if self._resolver is not None:
                texts, ttl = await self._resolver(host)
                found = [_found(text) for text in texts]
            else:
                loop = asyncio.get_running_loop()
                infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found = [(info[0], str(info[4][0]), tuple(map(int, info[4][2:]))) for info in infos]
                ttl = self._ttl
            cause = None
        except (OSError, ValueError) as error:  # a ValueError (of IDNA) is a name that no resolver would take
            # The traceback would keep this frame for as long as the answer is remembered.
            found, ttl, cause = [], _failure_ttl(error), error.with_traceback(None)
        if not found:
            ttl = min(ttl, self._ttl, FAILURE_TTL)
        answer = Answer(tuple(_interleave(dict.fromkeys(found))), self._clock() + ttl, cause)
        self._remember(host, answer)
        return answer


def _found(text: str) -> Found:
    """The address that a resolver gave as text."""
    found = _literal(text)
    if found is None:
        raise ValueError(f"the resolver gave {text!r}, which is not an IP address")
    return found


@lru_cache(maxsize=256)
def _literal(host: str) -> Found | None:
    """What *host* stands for if it is an IP address; None if it is a name."""
    if not host[-1:].isdigit() and ":" not in host:
        return None  # the usual name; a number in the last label makes it an address, or nothing (RFC 3986, 3.2.2)
    bare, _, zone = host.partition("%")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if address.version == 4:
        return None if zone else (socket.AF_INET, bare, ())
    try:
        scope = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone) if zone else 0
    except OSError as error:
        raise ResolveError(f"there is no network interface {zone!r}, which {host} names") from error
    return socket.AF_INET6, bare, (0, scope)


def _interleave(found: Iterable[Found]) -> list[Found]:
    """Let the families alternate, beginning with that of the best address (RFC 8305, 4)."""
    families: dict[int, list[Found]] = {}
    for one in found:
        families.setdefault(one[0], []).append(one)
    return [one for one in chain.from_iterable(zip_longest(*families.values())) if one is not None]


def _failure_ttl(error: Exception) -> float:
    """Seconds for which a failure is remembered: none when it was the resolver that failed, not the name."""
    temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
    return 0.0 if temporary else FAILURE_TTL


def _why(host: str, cause: Exception | None) -> str:
    if cause is None:
        return f"cannot resolve {host}: it has no address"
    return f"cannot resolve {host}: {getattr(cause, 'strerror', None) or cause}"
