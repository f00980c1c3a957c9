"""``add_reader`` and ``add_writer``: what is called when, replacing, removing, and numbers that are used again."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import weft
from tests.core.kit import reports_of, socketpair, turns
from tests.core.streams import Log, until


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def with_number(number: int) -> tuple[socket.socket, socket.socket]:
    """A pair of sockets, the first of them with the descriptor ``number``, which is free."""
    ours, theirs = socket.socketpair()
    if theirs.fileno() == number:
        ours, theirs = theirs, ours
    if ours.fileno() != number:
        moved = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, number))
        ours.close()
        ours = moved
    assert ours.fileno() == number
    return ours, theirs


class TestReading:
    def test_is_called_as_long_as_there_is_something(self, loop: asyncio.AbstractEventLoop) -> None:
        with pipe() as (reader, writer):
            calls: list[tuple[str, str]] = []
            loop.add_reader(reader, lambda *args: calls.append(args), "one", "two")
            turns(loop, 2)
            assert not calls
            os.write(writer, b"x")
            turns(loop, 3)
            assert len(calls) >= 2
            assert set(calls) == {("one", "two")}
            os.read(reader, 1)
            turns(loop)
            calls.clear()
            turns(loop, 3)
            assert not calls
            assert loop.remove_reader(reader) is True
            assert loop.remove_reader(reader) is False

    def test_an_object_with_a_fileno(self, loop: asyncio.AbstractEventLoop) -> None:
        with socketpair() as (ours, theirs):
            loop.add_reader(ours, loop.stop)
            theirs.send(b"x")
            loop.run_forever()
            assert loop.remove_reader(ours.fileno())

    def test_hang_up_counts_as_readable(self, loop: asyncio.AbstractEventLoop) -> None:
        with socketpair() as (ours, theirs):
            loop.add_reader(ours, loop.stop)
            theirs.close()
            loop.run_forever()
            assert ours.recv(1) == b""
            loop.remove_reader(ours)

    def test_a_reader_that_fails_is_reported_and_stays(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        with pipe() as (reader, writer):
            loop.add_reader(reader, divmod, 1, 0)
            os.write(writer, b"x")
            until(loop, lambda: len(reports) >= 2)
            loop.remove_reader(reader)
            assert isinstance(reports[0]["exception"], ZeroDivisionError)

    def test_a_file_cannot_be_watched(self, loop: asyncio.AbstractEventLoop) -> None:
        with open(__file__, "rb") as file:
            for _ in range(2):
                with pytest.raises(PermissionError):
                    loop.add_reader(file, print)
            assert not loop.remove_reader(file)
        with pipe() as (reader, writer):
            loop.add_reader(reader, loop.stop)
            os.write(writer, b"x")
            loop.run_forever()
            loop.remove_reader(reader)


class TestBothWays:
    def test_together_and_apart(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[str] = []
        with socketpair() as (ours, theirs):
            loop.add_reader(ours, calls.append, "read")
            loop.add_writer(ours, calls.append, "write")
            until(loop, lambda: "write" in calls)
            assert "read" not in calls
            theirs.send(b"x")
            until(loop, lambda: "read" in calls)
            assert loop.remove_writer(ours)
            turns(loop)
            calls.clear()
            until(loop, lambda: calls)
            assert set(calls) == {"read"}
            loop.add_writer(ours, calls.append, "write")
            assert loop.remove_reader(ours)
            turns(loop)
            calls.clear()
            until(loop, lambda: calls)
            assert set(calls) == {"write"}
            assert loop.remove_writer(ours)
            assert not loop.remove_writer(ours)

    def test_replacing_one_lets_go_of_the_first(self, loop: asyncio.AbstractEventLoop) -> None:
        class Callback:
            def __call__(self) -> None:
                raise AssertionError("replaced")

        with pipe() as (reader, writer):
            first = Callback()
            ref = weakref.ref(first)
            loop.add_reader(reader, first)
            del first
            os.write(writer, b"x")
            loop.add_reader(reader, loop.stop)
            assert ref() is None
            loop.run_forever()
            loop.remove_reader(reader)

    def test_removing_in_the_callback(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[str] = []

        def once(name: str) -> None:
            calls.append(name)
            loop.remove_reader(ours)
            loop.remove_writer(ours)

        with socketpair() as (ours, theirs):
            theirs.send(b"x")
            loop.add_reader(ours, once, "read")
            loop.add_writer(ours, once, "write")
            until(loop, lambda: calls)
            turns(loop, 3)
            assert len(calls) == 1


class TestStaleEvents:
    """One batch of events brings several descriptors; what happens to one may end, or replace, the next."""

    def test_removed_by_another_of_the_same_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[int] = []
        with socketpair() as (one, one_peer), socketpair() as (two, two_peer):

            def first_come(me: socket.socket, other: socket.socket) -> None:
                calls.append(me.fileno())
                loop.remove_reader(other)

            loop.add_reader(one, first_come, one, two)
            loop.add_reader(two, first_come, two, one)
            one_peer.send(b"x")
            two_peer.send(b"x")
            until(loop, lambda: calls)
            turns(loop, 2)
            assert len(set(calls)) == 1
            loop.remove_reader(one)
            loop.remove_reader(two)

    def test_a_number_that_is_used_again_in_the_same_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        """The event of the closed socket must not reach the quiet one that now has its number."""
        wrong: list[str] = []
        fresh: list[socket.socket] = []
        pairs = [socket.socketpair() for _ in range(2)]

        def first_come(me: socket.socket, other: socket.socket) -> None:
            if fresh:
                return
            number = other.fileno()
            loop.remove_reader(other)
            other.close()
            fresh.extend(with_number(number))
            loop.add_reader(number, wrong.append, "a quiet socket is not readable")

        (one, one_peer), (two, two_peer) = pairs
        loop.add_reader(one, first_come, one, two)
        loop.add_reader(two, first_come, two, one)
        one_peer.send(b"x")
        two_peer.send(b"x")
        until(loop, lambda: fresh)
        turns(loop, 3)
        assert not wrong
        fresh[1].send(b"x")
        until(loop, lambda: wrong)
        for sock in (one, two, fresh[0]):
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
        for sock in (one, one_peer, two, two_peer, *fresh):
            sock.close()

    @pytest.mark.weft_only
    def test_a_transport_on_the_number_of_a_stale_watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Closed without ``remove_reader``: the transport that gets the number works, and the stale watch is gone."""
        with socketpair() as (ours, peer), pipe() as (reader, _):
            number = os.dup(reader)
            loop.add_reader(number, print, "must not be called")
            os.close(number)
            os.dup2(ours.fileno(), number)
            sock = socket.socket(fileno=number)
            transport, protocol = loop.run_until_complete(loop.create_connection(Log, sock=sock))
            peer.send(b"data")
            until(loop, lambda: protocol.data)
            assert protocol.data == b"data"
            transport.close()
            until(loop, lambda: protocol.is_lost)

    @pytest.mark.weft_only
    def test_a_stale_watch_whose_end_changes_the_table(self, loop: asyncio.AbstractEventLoop) -> None:
        """Its callback's destructor watches a descriptor with a far higher number, so the table moves meanwhile."""
        extra: list[int] = []

        class Callback:
            def __call__(self) -> None: ...

            def __del__(self) -> None:
                extra.append(fcntl.fcntl(reader, fcntl.F_DUPFD, 900))
                loop.add_reader(extra[0], print)

        with socketpair() as (ours, peer), pipe() as (reader, _):
            number = os.dup(reader)
            loop.add_reader(number, Callback())
            os.close(number)
            os.dup2(ours.fileno(), number)
            sock = socket.socket(fileno=number)
            transport, protocol = loop.run_until_complete(loop.create_connection(Log, sock=sock))
            peer.send(b"data")
            until(loop, lambda: protocol.data)
            transport.close()
            until(loop, lambda: protocol.is_lost)
            (high,) = extra
            assert loop.remove_reader(high)
            os.close(high)

    def test_closed_without_being_removed(self, loop: asyncio.AbstractEventLoop) -> None:
        with socketpair() as (ours, theirs):
            loop.add_reader(ours, print)
            number = ours.fileno()
            ours.close()
            turns(loop, 3)
            assert loop.remove_reader(number)
            turns(loop)


class TestMany:
    def test_more_than_one_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Three hundred readable at once, more than the events that one call brings: nobody is left out."""
        count = 300 if isinstance(loop, weft.EventLoop) else 100
        pairs = [socket.socketpair() for _ in range(count)]
        called: set[int] = set()

        def read(sock: socket.socket) -> None:
            called.add(sock.fileno())
            sock.recv(1)
            loop.remove_reader(sock)

        for ours, theirs in pairs:
            loop.add_reader(ours, read, ours)
            theirs.send(b"x")
        until(loop, lambda: len(called) == count)
        for pair in pairs:
            for sock in pair:
                sock.close()

    @pytest.mark.parametrize("fd", [10**6, 10**9, 2**31 - 1])
    def test_a_number_that_is_no_descriptor(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        """An error at once: no table of gigabytes is made for it."""
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(OSError):
                method(fd, print)
        assert not loop.remove_reader(fd)

    def test_closing_the_loop_lets_go_of_callbacks(self, loop: asyncio.AbstractEventLoop) -> None:
        class Callback:
            def __call__(self) -> None: ...

        callback = Callback()
        ref = weakref.ref(callback)
        with pipe() as (reader, writer):
            loop.add_reader(reader, callback)
            loop.add_writer(writer, callback)
            del callback
            loop.close()
            gc.collect()
            assert ref() is None
            assert not loop.remove_reader(reader)
