"""Who gets which connection, and who waits.

Owns the count of connections and the lines of those who wait; does no I/O itself: ``dial`` (given by its maker) starts
the making of a connection, and the pool is told how that ended by ``add`` or ``dial_failed``. Its invariants: there are
never more connections, with those being made, than the limits say; a connection is idle, lent to one, or gone; and
while someone waits who could be served, he is being served (``balance``). Whoever has waited longest is first, across
origins: where the limit in all is reached, an idle connection elsewhere is closed for him, or the next that is free.

A request that is cancelled takes nothing with it: a connection that was being made for it goes to the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import count, islice
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
    @property
    def active(self) -> int:
        """How many exchanges are under way. Asked of multiplexed ones only."""

    def close(self) -> None: ...
    def abort(self) -> None: ...


class Waiter:
    """Someone who waits for a connection to ``bucket``; ``future`` brings it."""

    __slots__ = ("bucket", "future", "on_dial", "request", "turn")

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
        self.turn = 0  # of two who wait, the one with the lower number goes first


class Bucket:
    """The connections to one place."""

    __slots__ = (
        "__weakref__", "count", "dialing", "idle", "is_listed", "key", "shared", "speaks_h2", "undialled", "waiters"
    )  # fmt: skip

    def __init__(self, key: Hashable, speaks_h2: bool | None) -> None:
        self.key = key
        self.idle: dict[Any, None] = {}  # last in, first out: the one used last is the least likely to be dead
        # HTTP/2: those that take more exchanges beside those they have, and to how many waiters they are promised.
        self.shared: dict[Any, int] = {}
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()  # the longest first
        # Those of them for whom no connection is being made; there are never more of the others than dials.
        self.undialled: OrderedDict[Waiter, None] = OrderedDict()
        self.count = 0  # with those being made
        self.dialing = 0
        self.is_listed = False
        self.speaks_h2 = speaks_h2  # None: not known before the first connection stands

    def take(self) -> Any:
        """A connection that takes an exchange now, or None. The caller begins it before anything else runs."""
        if self.idle:
            return self.idle.popitem()[0]
        for connection, promised in self.shared.items():
            if connection.room > promised:
                return connection
        return None

    def unused(self) -> Any:
        """A connection that nobody uses or is about to use, or None."""
        if self.idle:
            return next(iter(self.idle))
        for connection, promised in self.shared.items():
            if not promised and not connection.active:
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
        self._keeps_idle = limits.keepalive != 0
        self._dial = dial
        # A bucket lives as long as a connection, a waiter or a prepared request knows it.
        self._buckets: WeakValueDictionary[Hashable, Bucket] = WeakValueDictionary()
        self.connections: set[Any] = set()
        self._line: OrderedDict[Waiter, None] = OrderedDict()  # all who wait, the longest first
        self._turns = (count(1), count(0, -1))  # for the end of the line, and for its front
        # Those of them for whom no connection is being made, longest first: behind as many dials as are under way in
        # the line. And those who lack one again, as another got what their dial brought, in no order: they are few.
        self._undialled: OrderedDict[Waiter, None] = OrderedDict()
        self._undialled_again: dict[Waiter, None] = {}
        self._maybe_unused: dict[Bucket, None] = {}
        self.count = 0
        self.dialing = 0
        self.served = 0  # who waited and was answered, one way or the other

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
            yield from [one for one, promised in bucket.shared.items() if not promised and not one.active]

    # -- for requests

    def has_room(self, bucket: Bucket) -> bool:
        """Whether a connection to ``bucket`` may be made for who asks, and nobody waits for one or is making one."""
        return not self._line and not self.dialing and self.count < self._most and bucket.count < self._most_per_bucket

    def lend(self, bucket: Bucket, connection: Any) -> None:
        """A connection was made for who asks, at once, and is his. :meth:`has_room` said that it may be."""
        bucket.count += 1
        self.count += 1
        connection.bucket = bucket
        self.connections.add(connection)

    def wait(self, waiter: Waiter, *, first: bool = False) -> None:
        """Stand in line; ``first``: before the others, after a connection that was promised turned out to be full."""
        bucket = waiter.bucket
        waiter.turn = next(self._turns[first])
        for line in (bucket.waiters, bucket.undialled, self._line, self._undialled):
            line[waiter] = None
            if first:
                line.move_to_end(waiter, last=False)
        if first and (connection := bucket.take()) is not None:
            self._promise(bucket, connection)
        self.balance(bucket)

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
        was_full = self._is_full()
        self._dial_ended(bucket)
        connection.bucket = bucket
        self.connections.add(connection)
        bucket.speaks_h2 = connection.is_multiplexed
        if connection.is_multiplexed:
            bucket.shared[connection] = 0
        self.changed(connection)
        self._room_came(bucket, was_full)

    def dial_failed(self, bucket: Bucket, error: BaseException | None) -> None:
        """A connection could not be made. Who waits longest there is told; None: the dial was given up.

        If one dial was for all who wait there, and nothing else can serve them, all are told: one after the other they
        would wait for as many time limits.
        """
        was_full = self._is_full()
        self._dial_ended(bucket)
        self._forget_one(bucket)
        while error is not None and (waiter := self._next(bucket)) is not None:
            self.served += 1
            waiter.future.set_exception(error)
            if bucket.speaks_h2 is False or bucket.count:
                break
        self._room_came(bucket, was_full)

    def changed(self, connection: Any) -> None:
        """A connection has become free, has more or less room, or has closed."""
        bucket: Bucket | None = connection.bucket
        if bucket is None:
            return  # gone already, or not in yet
        if not connection.is_open:
            self._remove(bucket, connection)
        elif connection.is_multiplexed:
            while connection.room > bucket.shared[connection] and self._promise(bucket, connection):
                pass
            if not connection.active and not bucket.shared[connection]:
                self._list(bucket)
                self._room_came(bucket, self._is_full())
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
        """Begin as many dials as there are waiters without one, and room for."""
        while self._wants_dial(bucket) and self._may_open():
            self._begin_dial(bucket, next(iter(bucket.undialled)))

    def _wants_dial(self, bucket: Bucket) -> bool:
        """Whether someone there needs a connection to be made, and the bucket has room for it."""
        wanted = len(bucket.waiters)
        if wanted > 1 and bucket.speaks_h2 is not False:
            wanted = 1  # one connection may do for all of them: the first will tell
        return bucket.dialing < wanted and bucket.count < self._most_per_bucket

    def _may_open(self) -> bool:
        return self.dialing < self._most_dials and (self.count < self._most or self._close_an_unused_one())

    def _is_full(self) -> bool:
        """Whether a limit in all keeps waiters of any place from being served."""
        return self.count >= self._most or self.dialing >= self._most_dials

    def _room_came(self, bucket: Bucket, was_full: bool) -> None:
        """There is room: only in ``bucket``, or, after a limit in all was reached, for who has waited longest."""
        if not was_full:
            self.balance(bucket)
        while was_full and self._line and self.dialing < self._most_dials:
            waiter = self._longest_undialled()
            if waiter is None or not self._may_open():
                return
            self._begin_dial(waiter.bucket, waiter)

    def _longest_undialled(self) -> Waiter | None:
        found = [one for one in self._undialled_again if self._lacks_dial(one)]
        found += islice((one for one in self._undialled if self._lacks_dial(one)), 1)
        return min(found, key=lambda one: one.turn, default=None)

    def _lacks_dial(self, waiter: Waiter) -> bool:
        bucket = waiter.bucket
        return waiter in bucket.undialled and self._wants_dial(bucket) and not waiter.future.done()

    def _begin_dial(self, bucket: Bucket, waiter: Waiter) -> None:
        self._has_dial(waiter)
        bucket.count += 1
        self.count += 1
        bucket.dialing += 1
        self.dialing += 1
        on_dial, waiter.on_dial = waiter.on_dial, None  # once, though a second dial may be needed
        if on_dial is not None:
            on_dial()
        self._dial(bucket, waiter)

    def _dial_ended(self, bucket: Bucket) -> None:
        bucket.dialing -= 1
        self.dialing -= 1
        # It was somebody's. If he is not served by what comes of it, he needs another one.
        for waiter in bucket.waiters:
            if len(bucket.waiters) - len(bucket.undialled) <= bucket.dialing:
                break
            if waiter not in bucket.undialled:
                bucket.undialled[waiter] = self._undialled_again[waiter] = None
                bucket.undialled.move_to_end(waiter, last=False)

    def _close_an_unused_one(self) -> bool:
        """Make room by closing a connection that nobody uses, of the place that came to have one first."""
        while self._maybe_unused:
            bucket = next(iter(self._maybe_unused))
            connection = bucket.unused()
            if connection is not None:
                self._remove(bucket, connection, balance=False)
                connection.close()
                return True
            self._unlist(bucket)
        return False

    def _list(self, bucket: Bucket) -> None:
        if not bucket.is_listed:
            bucket.is_listed = True
            self._maybe_unused[bucket] = None

    def _unlist(self, bucket: Bucket) -> None:
        if bucket.is_listed:
            del self._maybe_unused[bucket]
            bucket.is_listed = False

    def _free(self, bucket: Bucket, connection: Any) -> None:
        """A connection for one exchange at a time is free: to whoever waits for it, or to the idle ones."""
        if self._line and (self._gives_way(bucket, connection) or self._promise(bucket, connection)):
            return
        bucket.idle[connection] = None
        if self._keeps_idle or not connection.uses:
            self._list(bucket)
        else:
            self.discard(connection)

    def _gives_way(self, bucket: Bucket, connection: Any) -> bool:
        """Close a connection that is free, if the limit in all keeps someone waiting who comes first."""
        if self.count < self._most or self.dialing >= self._most_dials or not self._is_outranked(bucket):
            return False
        self._remove(bucket, connection)
        connection.close()
        return True

    def _is_outranked(self, bucket: Bucket) -> bool:
        """Whether someone elsewhere, who has waited longer than all here, lacks nothing but room in all."""
        for waiter in self._line:
            if waiter.bucket is not bucket:
                if self._lacks_dial(waiter):
                    return True
            elif not waiter.future.done():
                return False
        return False

    def _promise(self, bucket: Bucket, connection: Any) -> bool:
        """Give ``connection`` to who waits longest for it, if someone does."""
        waiter = self._next(bucket)
        if waiter is None:
            return False
        self.served += 1
        waiter.future.set_result(connection)
        if connection.is_multiplexed:
            # Until he has begun, it only looks unused, and its room is his. This runs right after he has.
            bucket.shared[connection] += 1
            waiter.future.add_done_callback(self._promise_ended)
        return True

    def _promise_ended(self, future: asyncio.Future[Any]) -> None:
        connection = future.result()
        bucket = connection.bucket
        if bucket is not None:
            bucket.shared[connection] -= 1
            self.changed(connection)

    def _next(self, bucket: Bucket) -> Waiter | None:
        """Let out of the line who has waited longest there. Who was cancelled, and has not left yet, is passed over."""
        while bucket.waiters:
            waiter = next(iter(bucket.waiters))
            self._drop(waiter)
            if not waiter.future.done():
                return waiter
        return None

    def _drop(self, waiter: Waiter) -> None:
        del self._line[waiter]
        del waiter.bucket.waiters[waiter]
        self._has_dial(waiter)

    def _has_dial(self, waiter: Waiter) -> None:
        """A connection is being made for him, or he needs none any more."""
        waiter.bucket.undialled.pop(waiter, None)
        self._undialled.pop(waiter, None)
        self._undialled_again.pop(waiter, None)

    def _remove(self, bucket: Bucket, connection: Any, *, balance: bool = True) -> None:
        was_full = self._is_full()
        connection.bucket = None
        self.connections.discard(connection)
        bucket.idle.pop(connection, None)
        bucket.shared.pop(connection, None)
        self._forget_one(bucket)
        if balance:
            self._room_came(bucket, was_full)

    def _forget_one(self, bucket: Bucket) -> None:
        bucket.count -= 1
        self.count -= 1
        if not bucket.count:
            self._unlist(bucket)  # else it would live as long as the pool
