"""What the pool does in situations that have a name: each was, or could be, somebody's request that waits for ever."""

from __future__ import annotations

import gc
import weakref

import pytest

from tests.http.test_pool import Connection, User, World
from weft.http.settings import Limits


def lent(world: World, place: str, *, is_multiplexed: bool = False, most: int = 1) -> tuple[User, Connection]:
    """One who uses a connection of his own."""
    user = world.ask(place)
    if user.connection is None:
        connection = world.stands(len(world.dials) - 1, is_multiplexed=is_multiplexed, most=most)
        world.wake()
        assert user.connection is connection
    assert user.connection is not None
    return user, user.connection


def keys(world: World) -> list[object]:
    """To where connections are being made."""
    return [bucket.key for bucket in world.dials]


class TestOneAfterTheOther:
    def test_last_in_first_out(self) -> None:
        world = World(Limits())
        first, second = lent(world, "a")[1], lent(world, "a")[1]
        first.end()
        second.end()
        assert world.ask("a").connection is second, "the one used last is the least likely to be dead"
        assert world.ask("a").connection is first
        assert not world.dials

    def test_first_come_first_served(self) -> None:
        world = World(Limits(total=1))
        _, connection = lent(world, "a")
        users = [world.ask("a") for _ in range(3)]
        for user in users:
            connection.end()
            world.wake()
            assert user.connection is connection

    def test_cancelled_takes_nothing_along(self) -> None:
        """What was being made for him serves the next."""
        world = World(Limits(total=1))
        first, second = world.ask("a"), world.ask("a")
        world.cancel(first)
        world.wake()
        connection = world.stands(0)
        world.wake()
        assert second.connection is connection and world.pool.count == 1

    def test_cancelled_with_a_connection_in_hand(self) -> None:
        world = World(Limits(total=1))
        _, connection = lent(world, "a")
        first, second = world.ask("a"), world.ask("a")
        connection.end()
        first.is_cancelled = True  # the task, after its future was done
        world.wake()
        world.wake()
        assert second.connection is connection and connection.closings == 0

    def test_nobody_wants_what_was_made(self) -> None:
        world = World(Limits())
        world.cancel(world.ask("a"))
        world.wake()
        connection = world.stands(0)
        assert world.ask("a").connection is connection

    def test_dead_on_arrival(self) -> None:
        """It was somebody's dial: he needs another one."""
        world = World(Limits())
        user = world.ask("a")
        world.stands(0, is_dead=True)
        assert keys(world) == ["a"] and user.dials_told == 1
        world.settle()
        assert user not in world.waiting

    def test_dial_given_up(self) -> None:
        world = World(Limits())
        world.ask("a")
        world.fails(0, None)
        assert keys(world) == ["a"]

    @pytest.mark.parametrize("is_multiplexed", [False, True])
    def test_many_cancelled_at_once(self, is_multiplexed: bool) -> None:
        """Their futures are cancelled, and none of them has run yet, when a connection comes free."""
        world = World(Limits(total=1), {"a": is_multiplexed})
        _, connection = lent(world, "a", is_multiplexed=is_multiplexed)
        for _ in range(5000):
            world.cancel(world.ask("a"))
        last = world.ask("a")
        connection.end()
        world.wake()
        assert last.connection is connection and world.pool.waiting == 0


class TestAcrossPlaces:
    def test_longest_wait_is_first(self) -> None:
        world = World(Limits(total=1))
        _, connection = lent(world, "a")
        older, younger = world.ask("b"), world.ask("a")
        connection.end()
        assert not connection.is_open and keys(world) == ["b"]
        second = world.stands(0)
        world.wake()
        assert older.connection is second
        second.end()
        assert keys(world) == ["a"]
        world.stands(0)
        world.wake()
        assert younger.connection is not None

    def test_longest_wait_is_first_for_several_slots(self) -> None:
        world = World(Limits(total=2))
        connections = [lent(world, "a")[1], lent(world, "b")[1]]
        for place in ("c", "d", "c"):
            world.ask(place)
        for connection in connections:
            connection.die()
        assert keys(world) == ["c", "d"]

    def test_who_is_limited_by_his_host_does_not_block_others(self) -> None:
        world = World(Limits(total=2, per_host=1))
        _, other = lent(world, "b")
        lent(world, "a")
        world.ask("a")
        world.ask("c")
        other.end()
        assert keys(world) == ["c"] and not other.is_open

    def test_idle_connection_elsewhere_is_closed(self) -> None:
        world = World(Limits(total=1))
        _, connection = lent(world, "a")
        connection.end()
        world.ask("b")
        assert keys(world) == ["b"] and not connection.is_open and world.pool.count == 1

    def test_unused_http2_connection_is_closed(self) -> None:
        """It is never in nobody's hands, and would keep its slot for ever."""
        world = World(Limits(total=1), {"a": None})
        user, connection = lent(world, "a", is_multiplexed=True, most=100)
        world.ask("b")
        assert connection.is_open and not world.dials
        connection.end()
        assert keys(world) == ["b"] and not connection.is_open
        world.stands(0)
        world.wake()
        world.ask("a")
        second = world.using[-1].connection
        assert second is not None
        second.end()
        assert keys(world) == ["a"]

    def test_promised_http2_connection_is_not_closed(self) -> None:
        """Two hosts would close each other's connections before anyone has used them, for ever."""
        world = World(Limits(total=1), {"a": True, "b": True})
        first, second = world.ask("a"), world.ask("b")
        connection = world.stands(0, is_multiplexed=True, most=2)
        assert connection.is_open and connection.active == 0
        world.wake()
        assert first.connection is connection and connection.active == 1 and not world.dials
        connection.end()
        assert keys(world) == ["b"]
        world.stands(0, is_multiplexed=True)
        world.wake()
        assert second.connection is not None

    def test_nothing_is_kept_of_a_place(self) -> None:
        """A million hosts are visited in constant memory."""
        world = World(Limits(total=None))
        connection = lent(world, "a")[1]
        connection.end()
        bucket = weakref.ref(world.buckets.pop("a"))
        world.using.clear()
        assert list(world.pool.idle()) == [connection]
        world.pool.discard(connection)
        world.loop.turn()
        gc.collect()
        assert bucket() is None


class TestSharedDial:
    """Where one connection may do for all, one dial is for all who wait."""

    def test_one_dial(self) -> None:
        world = World(Limits(), {"a": None})
        users = [world.ask("a") for _ in range(5)]
        assert keys(world) == ["a"]
        connection = world.stands(0, is_multiplexed=True, most=5)
        world.wake()
        assert all(user.connection is connection for user in users) and not world.dials

    def test_it_turns_out_to_be_http1(self) -> None:
        world = World(Limits(), {"a": None})
        users = [world.ask("a") for _ in range(5)]
        world.stands(0)
        assert keys(world) == ["a"] * 4
        world.settle()
        assert not world.waiting and not any(user in world.failed for user in users)

    def test_more_than_one_takes(self) -> None:
        world = World(Limits(), {"a": None})
        for _ in range(5):
            world.ask("a")
        world.stands(0, is_multiplexed=True, most=2)
        world.wake()
        assert len(world.waiting) == 3 and keys(world) == ["a"]

    @pytest.mark.parametrize(("speaks_h2", "told"), [(None, 3), (True, 3), (False, 1)])
    def test_it_fails(self, speaks_h2: bool | None, told: int) -> None:
        """All are told: one after the other they would wait for as many time limits."""
        world = World(Limits(), {"a": speaks_h2})
        for _ in range(3):
            world.ask("a")
        world.fails(0, ConnectionRefusedError())
        world.wake()
        assert len(world.failed) == told and len(world.waiting) == 3 - told
        assert len(world.dials) == 3 - told

    def test_it_fails_beside_one_that_stands(self) -> None:
        world = World(Limits(), {"a": True})
        _, connection = lent(world, "a", is_multiplexed=True)
        first, second = world.ask("a"), world.ask("a")
        world.fails(0, ConnectionRefusedError())
        world.wake()
        assert world.failed == [first] and world.waiting == [second]
        connection.end()
        world.wake()
        assert second.connection is connection

    def test_promised_room_is_nobody_elses(self) -> None:
        world = World(Limits(total=1), {"a": True})
        _, connection = lent(world, "a", is_multiplexed=True)
        first = world.ask("a")
        connection.end()
        second = world.ask("a")
        assert second.connection is None
        world.wake()
        assert first.connection is connection and world.waiting == [second]


class TestEnd:
    def test_close(self) -> None:
        world = World(Limits())
        idle, used = lent(world, "a")[1], lent(world, "a")[1]
        idle.end()
        world.pool.close()
        assert not idle.is_open and not used.is_open and (idle.closings, used.closings) == (1, 1)
        assert world.pool.count == 0 and not world.pool.connections

    def test_repr(self) -> None:
        world = World(Limits(total=2))
        lent(world, "a")[1].end()
        lent(world, "b")
        world.ask("b")
        assert repr(world.pool) == "<weft.http.Pool connections=2 idle=0 dialing=1 waiting=1>"
