"""The pool as a state machine: whatever happens in whatever order, the limits hold and everyone is served.

The machine plays the network (dials that succeed, fail, or bring what is dead already), the servers (connections that
die, HTTP/2 with more or less room), and those who wait, and go away at the worst moments. Scenarios that have a name
stand below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.http.wirekit import ManualLoop
from weft.http.pool import Bucket, Pool, Waiter
from weft.http.settings import Limits

PLACES = ["a", "b", "c"]


class Connection:
    """What the pool keeps, without a network. ``most``: how many exchanges at once."""

    def __init__(self, most: int, *, is_multiplexed: bool) -> None:
        self.bucket: Any = None
        self.is_open = True
        self.is_multiplexed = is_multiplexed
        self.most = most
        self.active = 0
        self.closings = 0
        self.on_change: Callable[[Any], None] = lambda connection: None

    @property
    def room(self) -> int:
        return max(0, self.most - self.active) if self.is_open else 0

    def close(self) -> None:
        self.closings += 1
        self._end()

    abort = close

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self.on_change(self)

    def die(self) -> None:
        self._end()

    def begin(self) -> None:
        assert self.room > 0, "an exchange on a connection without room"
        self.active += 1

    def end(self) -> None:
        self.active -= 1
        self.on_change(self)


class User:
    """One who asks for a connection; mirrors what the client's transport does with the pool."""

    def __init__(self, number: int, waiter: Waiter) -> None:
        self.number = number
        self.waiter = waiter
        self.connection: Connection | None = None
        self.dials_told = 0
        self.is_cancelled = False

    def on_dial(self) -> None:
        self.dials_told += 1


class World:
    """A pool and all that is around it."""

    def __init__(self, limits: Limits, speaks_h2: dict[str, bool | None] | None = None) -> None:
        self.loop = ManualLoop()
        self.limits = limits
        self.pool = Pool(limits, self._dial)
        self.speaks_h2 = speaks_h2 or {}
        self.buckets: dict[str, Bucket] = {}
        self.dials: list[Bucket] = []
        self.connections: list[Connection] = []
        self.waiting: list[User] = []  # the longest first
        self.using: list[User] = []
        self.failed: list[User] = []
        self._count = 0

    def _dial(self, bucket: Bucket, waiter: Waiter) -> None:
        assert waiter.bucket is bucket
        self.dials.append(bucket)

    def bucket(self, place: str) -> Bucket:
        if place not in self.buckets:
            self.buckets[place] = self.pool.bucket(place, self.speaks_h2.get(place, False))
        return self.buckets[place]

    def ask(self, place: str, *, is_near: bool = False) -> User:
        """As ``NetworkTransport.send``: take what is free, connect at once to what is near, or stand in line."""
        bucket = self.bucket(place)
        self._count += 1
        user = User(self._count, Waiter(bucket, self.loop.create_future()))
        user.waiter.on_dial = user.on_dial
        connection = bucket.take()
        if connection is None and is_near and bucket.speaks_h2 is False and self.pool.has_room(bucket):
            connection = Connection(1, is_multiplexed=False)
            connection.on_change = self.pool.changed
            self.connections.append(connection)
            self.pool.lend(bucket, connection)
        if connection is not None:
            self._use(user, connection)
        else:
            self.waiting.append(user)
            self.pool.wait(user.waiter)
        return user

    def _use(self, user: User, connection: Connection) -> None:
        connection.begin()
        user.connection = connection
        self.using.append(user)

    def wake(self) -> None:
        """Those whose future is done run, in the order of the futures' callbacks."""
        for user in [one for one in self.waiting if one.waiter.future.done()]:
            future = user.waiter.future
            self.waiting.remove(user)
            if user.is_cancelled:
                self.pool.leave(user.waiter)
            elif future.exception() is not None:
                self.pool.leave(user.waiter)
                self.failed.append(user)
            elif future.result().room:
                self._use(user, future.result())
            else:  # it died, or is full: again, before all others
                user.waiter = Waiter(user.waiter.bucket, self.loop.create_future(), None, user.on_dial)
                user.dials_told = 0
                self.waiting.insert(0, user)
                self.pool.wait(user.waiter, first=True)
        self.loop.turn()

    def cancel(self, user: User) -> None:
        """The task is cancelled: its future at once, if it is not done; the task itself runs at ``wake``."""
        user.is_cancelled = True
        user.waiter.future.cancel()

    def stands(self, dial: int, *, most: int = 1, is_multiplexed: bool = False, is_dead: bool = False) -> Connection:
        bucket = self.dials.pop(dial)
        connection = Connection(most, is_multiplexed=is_multiplexed)
        if is_dead:
            connection.die()
        connection.on_change = self.pool.changed
        self.connections.append(connection)
        self.pool.add(bucket, connection)
        return connection

    def fails(self, dial: int, error: Exception | None) -> None:
        self.pool.dial_failed(self.dials.pop(dial), error)

    def settle(self) -> None:
        """Everyone does what he has to: no more cancellations, every dial succeeds, every exchange ends."""
        for _ in range(1000):
            self.wake()
            if self.dials:
                place: Any = self.dials[0].key
                self.stands(0, is_multiplexed=bool(self.speaks_h2.get(place)))
            elif self.using:
                user = self.using.pop(0)
                assert user.connection is not None
                user.connection.end()
            elif not any(user.waiter.future.done() for user in self.waiting):
                break
        self.loop.turn()


class Machine(RuleBasedStateMachine):
    world: World

    @initialize(
        total=st.sampled_from([None, 1, 2, 3, 5]),
        per_host=st.sampled_from([None, 1, 2]),
        dials=st.sampled_from([1, 2, 100]),
        speaks_h2=st.fixed_dictionaries({place: st.sampled_from([False, False, None]) for place in PLACES}),
    )
    def start(self, total: int | None, per_host: int | None, dials: int, speaks_h2: dict[str, bool | None]) -> None:
        self.world = World(Limits(total=total, per_host=per_host, dials=dials), speaks_h2)

    # -- those who wait

    @rule(place=st.sampled_from(PLACES), is_near=st.booleans())
    def ask(self, place: str, is_near: bool) -> None:
        self.world.ask(place, is_near=is_near)

    @rule()
    def wake(self) -> None:
        self.world.wake()

    @precondition(lambda self: bool(self.world.waiting))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.world.cancel(data.draw(st.sampled_from(self.world.waiting), label="who"))

    @precondition(lambda self: bool(self.world.using))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(self.world.using), label="whose exchange")
        self.world.using.remove(user)
        assert user.connection is not None
        user.connection.end()

    # -- the network

    @precondition(lambda self: bool(self.world.dials))
    @rule(data=st.data(), most=st.sampled_from([1, 2, 3]), is_dead=st.sampled_from([False, False, False, True]))
    def dial_succeeds(self, data: st.DataObject, most: int, is_dead: bool) -> None:
        dial = data.draw(st.integers(0, len(self.world.dials) - 1), label="which dial")
        bucket = self.world.dials[dial]
        place: Any = bucket.key
        if bucket.speaks_h2 is None:  # the server chooses, once
            self.world.speaks_h2[place] = data.draw(st.booleans(), label="h2")
        is_h2 = bool(self.world.speaks_h2[place])
        self.world.stands(dial, most=most if is_h2 else 1, is_multiplexed=is_h2, is_dead=is_dead)

    @precondition(lambda self: bool(self.world.dials))
    @rule(data=st.data(), error=st.sampled_from([ConnectionRefusedError(), None]))
    def dial_fails(self, data: st.DataObject, error: Exception | None) -> None:
        self.world.fails(data.draw(st.integers(0, len(self.world.dials) - 1), label="which dial"), error)

    @precondition(lambda self: bool(self.world.pool.connections))
    @rule(data=st.data())
    def connection_dies(self, data: st.DataObject) -> None:
        alive = [one for one in self.world.connections if one.is_open]
        data.draw(st.sampled_from(alive), label="which").die()

    @precondition(lambda self: any(one.is_open and one.is_multiplexed for one in self.world.connections))
    @rule(data=st.data(), most=st.sampled_from([0, 1, 4]))
    def stream_limit_changes(self, data: st.DataObject, most: int) -> None:
        alive = [one for one in self.world.connections if one.is_open and one.is_multiplexed]
        connection = data.draw(st.sampled_from(alive), label="which")
        connection.most = most
        connection.on_change(connection)

    @precondition(lambda self: any(self.world.pool.idle()))
    @rule(data=st.data())
    def discard_idle(self, data: st.DataObject) -> None:
        self.world.pool.discard(data.draw(st.sampled_from(list(self.world.pool.idle())), label="which"))

    # -- what must hold

    @invariant()
    def limits_hold(self) -> None:
        pool, limits = self.world.pool, self.world.limits
        assert pool.count == len(pool.connections) + len(self.world.dials)
        assert pool.dialing == len(self.world.dials) <= limits.dials
        assert limits.total is None or pool.count <= limits.total
        for bucket in self.world.buckets.values():
            held = [one for one in pool.connections if one.bucket is bucket]
            assert bucket.dialing == self.world.dials.count(bucket)
            assert bucket.count == len(held) + bucket.dialing
            assert limits.per_host is None or bucket.count <= limits.per_host

    @invariant()
    def each_connection_is_in_one_place(self) -> None:
        pool = self.world.pool
        promised = [
            user.waiter.future.result()
            for user in self.world.waiting
            if user.waiter.future.done() and not user.waiter.future.cancelled() and not user.waiter.future.exception()
        ]
        for one in self.world.connections:
            assert one.closings <= 1
            assert (one in pool.connections) == one.is_open == (one.bucket is not None)
            if one.is_multiplexed or not one.is_open:
                continue
            places = [one in one.bucket.idle, *(1 for other in promised if other is one)]
            places += [1 for user in self.world.using if user.connection is one]
            assert sum(places) == 1, "idle, promised or lent, and exactly one of them"

    @invariant()
    def who_can_be_served_is_served(self) -> None:
        """Someone who waits has a dial, or a limit stands against it, and nothing unused could make room."""
        pool, limits = self.world.pool, self.world.limits
        for bucket in self.world.buckets.values():
            waiting = [one for one in bucket.waiters if not one.future.done()]
            if not waiting:
                continue
            assert not bucket.idle, "one waits beside an idle connection"
            wanted = len(waiting) if bucket.speaks_h2 is False else 1
            if bucket.dialing >= wanted:
                continue
            is_limited = pool.dialing >= limits.dials
            is_limited |= limits.per_host is not None and bucket.count >= limits.per_host
            is_limited |= limits.total is not None and pool.count >= limits.total and not list(pool.idle())
            assert is_limited, f"nobody dials for {bucket.key}"

    @invariant()
    def served_by_age(self) -> None:
        """In each place, nobody is promised a connection while one who has waited longer is not told anything."""
        for bucket in self.world.buckets.values():
            mine = [user for user in self.world.waiting if user.waiter.bucket is bucket and not user.is_cancelled]
            told = [user.waiter.future.done() for user in mine]
            assert told == sorted(told, reverse=True)
        assert all(user.dials_told <= 1 for user in self.world.waiting), "his time limit would begin again"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for connection in world.connections:
            connection.most = max(connection.most, 1)
            if connection.is_open and connection.is_multiplexed:
                connection.on_change(connection)
        world.settle()
        assert not world.waiting, f"not served: {world.pool!r}"
        assert not world.dials and world.pool.waiting == 0
        world.pool.close()
        assert world.pool.count == 0 and not any(one.is_open for one in world.connections)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=30)
