"""Whether a request that failed is sent again, and how long after.

Owns :class:`Retry`. Its invariant: a request that a server may have acted upon is repeated only if acting twice is the
same as acting once. It decides and never waits: the client asks it after each failure, and sleeps.
"""

from __future__ import annotations

import random as _random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from weft.http.dates import parse_date
from weft.http.errors import (
    CertificateError,
    ConnectError,
    FirstByteTimeoutError,
    HTTPError,
    IdleTimeoutError,
    IncompleteBodyError,
    PeerClosedError,
    PoolTimeoutError,
    SendError,
)

__all__ = ["IDEMPOTENT", "RETRY_STATUSES", "Retry", "parse_retry_after"]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""The methods of which two have the effect of one (RFC 9110, section 9.2.2)."""

RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses that may be others a little later. curl repeats the same but 425, which RFC 8470 made for that."""

# By these a server says that it did not begin with the request, if it says when to come back (RFC 6585, section 4; RFC
# 9110, section 15.6.4).
_REFUSALS: Final = frozenset({429, 503})
# No server has seen the request.
_NOT_SENT: Final = (ConnectError, PoolTimeoutError)
# The connection failed, which another one may not.
_BROKEN: Final = (SendError, PeerClosedError, FirstByteTimeoutError, IdleTimeoutError, IncompleteBodyError)

_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Retry:
    """When to repeat a request, and after how long.

    The wait grows from ``backoff`` by ``factor`` up to ``max_delay``; of it, a random part of up to ``jitter`` is left
    out, so that clients which failed together do not come back together. A server that says in ``Retry-After`` when to
    come back is not asked before.

    A request is repeated if its method is idempotent, or if it surely was not acted upon: no connection could be made,
    or the server refused it with 429 or 503 and said when to come back. A certificate that is not valid, a response
    that is not HTTP and the end of the total time are final.

    Args:
        attempts: how often a request is repeated at most; 0: never.
        backoff: seconds before the first repetition.
        factor: by how much each wait is longer than the one before.
        max_delay: seconds that a wait has at most, ``Retry-After`` apart.
        jitter: the random part of a wait, from 0 (none) to 1 (all of it).
        statuses: the statuses after which a request is repeated.
        methods: the methods that may be repeated in any case.
        respect_retry_after: whether ``Retry-After`` counts.
        max_retry_after: seconds; whoever is told to come back later than that gives up.

    Raises:
        ValueError: a number that is out of its range.
    """

    attempts: int = 2
    backoff: float = 0.2
    factor: float = 2.0
    max_delay: float = 30.0
    jitter: float = 0.5
    statuses: frozenset[int] = field(default=RETRY_STATUSES)
    methods: frozenset[str] = field(default=IDEMPOTENT)
    respect_retry_after: bool = True
    max_retry_after: float = 120.0

    def __post_init__(self) -> None:
        for name in ("attempts", "backoff", "factor", "max_delay", "max_retry_after"):
            # Written so that it is true for what is not a number as well.
            if not getattr(self, name) >= 0:
                raise ValueError(f"Retry.{name} is {getattr(self, name)!r}, and cannot be less than 0")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"Retry.jitter is {self.jitter!r}, and must be from 0 to 1")
        # Whatever collection was given, so that the object can be hashed and stays as it is.
        object.__setattr__(self, "statuses", frozenset(self.statuses))
        object.__setattr__(self, "methods", frozenset(method.upper() for method in self.methods))

    @classmethod
    def none(cls) -> Retry:
        """Never to repeat."""
        return cls(attempts=0)

    @classmethod
    def of(cls, attempts: int | Retry | None) -> Retry:
        """To repeat so often at most; None is never, and what is a :class:`Retry` already stays."""
        return attempts if isinstance(attempts, Retry) else cls(attempts=attempts or 0)

    def delay(
        self,
        attempt: int,
        *,
        method: str,
        replayable: bool,
        status: int | None = None,
        error: BaseException | None = None,
        retry_after: str | None = None,
        random: Callable[[], float] = _random.random,
        clock: Callable[[], float] = time.time,
    ) -> float | None:
        """The seconds to wait before a request is sent again, or None to leave it as it is.

        Args:
            attempt: which repetition it would be; the first is 1.
            method: the method of the request.
            replayable: whether its body, if any, can be sent again.
            status: the status of the response, if one came.
            error: what happened, if none came.
            retry_after: the response's ``Retry-After``.
            random: gives a number from 0 to less than 1.
            clock: gives the seconds since 1970, against which a date in ``retry_after`` is held.
        """
        if not 0 < attempt <= self.attempts or not replayable:
            return None
        after = None
        if self.respect_retry_after and retry_after is not None and error is None:
            after = parse_retry_after(retry_after, clock())
        if error is not None:
            repeat = self._after_error(error, method)
        else:
            repeat = status in self.statuses and (
                method.upper() in self.methods or (status in _REFUSALS and after is not None)
            )
        if not repeat or (after or 0.0) > self.max_retry_after:
            return None
        return max(self._backoff(attempt) * (1.0 - self.jitter * random()), after or 0.0)

    def _after_error(self, error: BaseException, method: str) -> bool:
        """Whether a request may be sent again that ended like this."""
        if isinstance(error, CertificateError):
            return False
        if isinstance(error, _NOT_SENT):
            return True
        if isinstance(error, HTTPError):
            broken = isinstance(error, _BROKEN)
        else:
            # Another transport's. Not every OSError: one of them may be about the file that is sent.
            broken = isinstance(error, ConnectionError | TimeoutError)
        return broken and method.upper() in self.methods

    def _backoff(self, attempt: int) -> float:
        """The wait before that repetition, without its random part."""
        try:
            return min(self.max_delay, self.backoff * self.factor ** (attempt - 1))
        except OverflowError:
            return self.max_delay


def parse_retry_after(text: str, now: float) -> float | None:
    """The seconds from now that ``Retry-After`` tells, at least 0, or None if it is nothing of the kind.

    Args:
        text: a number of seconds, or a date.
        now: the seconds since 1970.

    Source: RFC 9110, section 10.2.3; with fractions, which some servers send.
    """
    text = text.strip(" \t")
    if _SECONDS.fullmatch(text):
        return float(text)
    date = parse_date(text)
    return None if date is None else max(0.0, date - now)
