"""Who gets which connection, and who waits.

Owns the count of connections and the lines of those who wait; does no I/O itself: ``dial`` (given by its maker) starts
the making of a connection, and the pool is told how that ended by ``add`` or ``dial_failed``. Its invariants: there are
never more connections, with those being made, than the limits say; a connection is idle, lent to one, or gone; and
while someone waits who could be served, he is being served (``balance``). Whoever has waited longest is first, across
origins: where the limit in all is reached, an idle connection elsewhere is closed for him.

A request that is cancelled takes nothing with it: a connection that was being made for it goes to the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol
from weakref import WeakValueDictionary

from weft.http.settings import Limits

__all__ = ["Bucket", "Pool", "PooledConnection", "Waiter"]


class PooledConnection(Protocol):
    """What the pool asks of a connection."""

    bucket: Any

    @property
    def is_open(self) -> bool: ...
    @property
    def room(self) -> int: ...
    @property
    def is_multiplexed(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Waiter:
    """Someone who waits for a connection to ``bucket``; ``future`` brings it."""

    __slots__ = ("bucket", "future", "on_dial", "request")

    def __init__(
        self,
        bucket: Bucket,
        future: asyncio.Future[Any],
        request: Any = None,
        on_dial: Callable[[], None] | None = None,
    ) -> None:
        self.bucket = bucket
        self.future = future
        self.request = request
        self.on_dial = on_dial


class Bucket:
    """The connections to one place."""

    __slots__ = (
        "__weakref__", "count", "dialing", "idle", "is_listed", "key", "shared", "speaks_h2", "undialled", "waiters"
    )  # fmt: skip

    def __init__(self, key: Hashable, speaks_h2: bool | None) -> None:
        self.key = key
        self.idle: dict[Any, None] = {}  # last in, first out: the one used last is the least likely to be dead
        self.shared: list[Any] = []  # HTTP/2: those that take more exchanges beside those they have
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()  # the longest first
        self.undialled: OrderedDict[Waiter, None] = OrderedDict()  # those of them for whom no dial was begun
        self.count = 0  # with those being made
        self.dialing = 0
        self.is_listed = False
        self.speaks_h2 = speaks_h2  # None: not known before the first connection stands

    def take(self) -> Any:
        """A connection that takes an exchange now, or None. The caller begins it before anything else runs."""
        if self.idle:
            return self.idle.popitem()[0]
        for connection in self.shared:
            if connection.room > 0:
                return connection
        return None


class Pool:
    """The connections of a client.

    Args:
        limits: how many there may be.
        dial: starts the making of a connection to a bucket, for the waiter given.
    """

    def __init__(self, limits: Limits, dial: Callable[[Bucket, Waiter], None]) -> None:
        self._most = limits.total if limits.total is not None else float("inf")
        self._most_per_bucket = limits.per_host if limits.per_host is not None else float("inf")
        self._most_dials = limits.dials
        self._dial = dial
        # A bucket lives as long as a connection, a waiter or a prepared request knows it.
        self._buckets: WeakValueDictionary[Hashable, Bucket] = WeakValueDictionary()
        self.connections: set[Any] = set()
        self._line: OrderedDict[Waiter, None] = OrderedDict()  # all who wait, the longest first
        self._maybe_idle: dict[Bucket, None] = {}
        self.count = 0
        self.dialing = 0

    def __repr__(self) -> str:
        idle = sum(len(bucket.idle) for bucket in self._buckets.values())
        return f"<weft.http.Pool connections={self.count} idle={idle} dialing={self.dialing} waiting={len(self._line)}>"

    def bucket(self, key: Hashable, speaks_h2: bool | None = False) -> Bucket:
        """The bucket for a place; made when there is none."""
        found = self._buckets.get(key)
        if found is None:
            found = self._buckets[key] = Bucket(key, speaks_h2)
        return found

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def idle(self) -> Iterator[Any]:
        """The idle connections, those idle longest first within a bucket."""
        for bucket in list(self._buckets.values()):
            yield from list(bucket.idle)
            yield from [connection for connection in bucket.shared if not connection.active]

    # -- for requests

    def wait(self, waiter: Waiter, *, first: bool = False) -> None:
        """Stand in line; ``first``: before the others, after a connection that was promised turned out to be full."""
        for line in (waiter.bucket.waiters, waiter.bucket.undialled, self._line):
            line[waiter] = None
            if first:
                line.move_to_end(waiter, last=False)
        self.balance(waiter.bucket)

    def leave(self, waiter: Waiter) -> None:
        """Stand in line no more; a connection that was handed over already goes to the next."""
        if waiter in self._line:
            self._drop(waiter)  # what is being made for him serves the next, or comes to the idle ones
        elif waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            self.changed(waiter.future.result())

    def discard(self, connection: Any) -> None:
        """Close an idle connection."""
        if connection.bucket is not None:
            self._remove(connection.bucket, connection)
            connection.close()

    # -- for connections

    def add(self, bucket: Bucket, connection: Any) -> None:
        """A connection that was dialled stands."""
        bucket.dialing -= 1
        self.dialing -= 1
        connection.bucket = bucket
        self.connections.add(connection)
        bucket.speaks_h2 = connection.is_multiplexed
        if connection.is_multiplexed:
            bucket.shared.append(connection)
        self.changed(connection)
        self.balance(bucket)
        self._balance_all()

    def dial_failed(self, bucket: Bucket, error: BaseException | None) -> None:
        """A connection could not be made. Who waits longest there is told; None: the dial was given up."""
        bucket.dialing -= 1
        self.dialing -= 1
        self._forget_one(bucket)
        if error is not None and bucket.waiters:
            self._serve(next(iter(bucket.waiters)), error=error)
        self._balance_all()

    def changed(self, connection: Any) -> None:
        """A connection has become free, has more or less room, or has closed."""
        bucket: Bucket | None = connection.bucket
        if bucket is None:
            return  # gone already, or not in yet
        if not connection.is_open:
            self._remove(bucket, connection)
        elif connection.is_multiplexed:
            for _ in range(min(connection.room, len(bucket.waiters))):
                self._serve(next(iter(bucket.waiters)), connection)
        elif connection.room:
            self._free(bucket, connection)

    def close(self) -> None:
        """Close every connection, also those in use. Who waits has been told before."""
        for connection in list(self.connections):
            is_idle = connection in connection.bucket.idle
            self._remove(connection.bucket, connection, balance=False)
            if is_idle:
                connection.close()
            else:
                connection.abort()

    def waiters(self) -> list[Waiter]:
        """All who wait, the longest first."""
        return list(self._line)

    # -- the rules

    def balance(self, bucket: Bucket) -> None:
        """Begin as many dials as there are waiters without one, and room for.

        Counted and not noted by waiter: a connection that was dialled for one may have gone to another, who has waited
        longer, or have been closed for him.
        """
        while bucket.dialing < self._dials_wanted(bucket) and self._may_open(bucket):
            self._begin_dial(bucket)

    def _dials_wanted(self, bucket: Bucket) -> int:
        wanted = len(bucket.waiters)
        # One connection may do for all of them: the first will tell.
        return wanted if bucket.speaks_h2 is False else min(wanted, 1)

    def _may_open(self, bucket: Bucket) -> bool:
        if self.dialing >= self._most_dials or bucket.count >= self._most_per_bucket:
            return False
        return self.count < self._most or self._close_an_idle_one()

    def _begin_dial(self, bucket: Bucket) -> None:
        bucket.count += 1
        self.count += 1
        bucket.dialing += 1
        self.dialing += 1
        if bucket.undialled:
            waiter = bucket.undialled.popitem(last=False)[0]
            if waiter.on_dial is not None:
                waiter.on_dial()
        else:
            waiter = next(iter(bucket.waiters))
        self._dial(bucket, waiter)

    def _close_an_idle_one(self) -> bool:
        """Make room by closing a connection that nobody uses, of the place that has been idle longest."""
        for bucket in list(self._maybe_idle):
            if bucket.idle:
                connection = next(iter(bucket.idle))
                self._remove(bucket, connection, balance=False)
                connection.close()
                return True
            del self._maybe_idle[bucket]
            bucket.is_listed = False
        return False

    def _free(self, bucket: Bucket, connection: Any) -> None:
        """A connection for one exchange at a time is free: to whoever waits for it, or to the idle ones."""
        if self._line:
            oldest = next(iter(self._line))
            if oldest.bucket is not bucket and self._is_starved(oldest.bucket):
                self._remove(bucket, connection)
                connection.close()
                return
            if bucket.waiters:
                self._serve(next(iter(bucket.waiters)), connection)
                return
        bucket.idle[connection] = None
        if not bucket.is_listed:
            bucket.is_listed = True
            self._maybe_idle[bucket] = None

    def _is_starved(self, bucket: Bucket) -> bool:
        """Whether the limit in all is what keeps a bucket from having a connection made."""
        return (
            bucket.dialing < self._dials_wanted(bucket)
            and bucket.count < self._most_per_bucket
            and self.count >= self._most
        )

    def _serve(self, waiter: Waiter, connection: Any = None, error: BaseException | None = None) -> None:
        self._drop(waiter)
        if waiter.future.done():  # cancelled, and not gone yet
            if connection is not None:
                self.changed(connection)
        elif error is not None:
            waiter.future.set_exception(error)
        else:
            waiter.future.set_result(connection)

    def _drop(self, waiter: Waiter) -> None:
        del self._line[waiter]
        del waiter.bucket.waiters[waiter]
        waiter.bucket.undialled.pop(waiter, None)

    def _remove(self, bucket: Bucket, connection: Any, *, balance: bool = True) -> None:
        connection.bucket = None
        self.connections.discard(connection)
        bucket.idle.pop(connection, None)
        if connection in bucket.shared:
            bucket.shared.remove(connection)
        self._forget_one(bucket)
        if balance:
            self._balance_all()

    def _forget_one(self, bucket: Bucket) -> None:
        bucket.count -= 1
        self.count -= 1

    def _balance_all(self) -> None:
        """Room has come: to those who wait longest."""
        if not self._line or self.dialing >= self._most_dials or self.count >= self._most:
            return
        for bucket in {waiter.bucket: None for waiter in self._line}:
            if self.count >= self._most:
                break
            self.balance(bucket)
