"""``sock_*`` on one socket time and again: what one operation has learnt never lets the next one wait in vain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.kit import turns


@contextlib.contextmanager
def pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(type=kind)
    with ours, theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        yield ours, theirs


def run(loop: asyncio.AbstractEventLoop, awaitable: Any) -> Any:
    return loop.run_until_complete(asyncio.wait_for(awaitable, 10))


def waiting(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
    """A task that has come to where it waits."""
    task = loop.create_task(coroutine)
    turns(loop, 3)
    assert not task.done()
    return task


class TestReading:
    def test_more_than_was_asked_for(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 4))
            theirs.send(b"0123456789")
            assert [run(loop, task), run(loop, loop.sock_recv(ours, 4)), run(loop, loop.sock_recv(ours, 4))] == [
                b"0123", b"4567", b"89",
            ]  # fmt: skip
            task = waiting(loop, loop.sock_recv(ours, 4))
            theirs.send(b"more")
            assert run(loop, task) == b"more"

    @pytest.mark.parametrize("how", ["close", "shutdown"])
    def test_data_and_end_at_once(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        """A short read must not hide that the end has come with it."""
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 100))
            theirs.send(b"last")
            theirs.close() if how == "close" else theirs.shutdown(socket.SHUT_WR)
            assert run(loop, task) == b"last"
            for _ in range(3):
                assert run(loop, loop.sock_recv(ours, 100)) == b""

    def test_end_after_a_short_read(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 100))
            theirs.send(b"data")
            assert run(loop, task) == b"data"
            task = waiting(loop, loop.sock_recv(ours, 100))
            theirs.close()
            assert run(loop, task) == b""

    def test_what_comes_while_nobody_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 100))
            theirs.send(b"one")
            assert run(loop, task) == b"one"
            theirs.send(b"two")
            turns(loop, 3)
            theirs.send(b"three")
            assert run(loop, loop.sock_recv(ours, 100)) == b"twothree"

    def test_datagrams_are_taken_one_by_one(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair(socket.SOCK_DGRAM) as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 100))
            for data in (b"one", b"two", b"three"):
                theirs.send(data)
            received = [run(loop, task), run(loop, loop.sock_recv(ours, 100))]
            buffer = bytearray(100)
            assert run(loop, loop.sock_recv_into(ours, buffer)) == 5
            assert [*received, bytes(buffer[:5])] == [b"one", b"two", b"three"]

    def test_the_user_reads_in_between(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 100))
            theirs.send(b"one")
            assert run(loop, task) == b"one"
            theirs.send(b"two")
            turns(loop, 3)
            assert ours.recv(100) == b"two"
            task = waiting(loop, loop.sock_recv(ours, 100))
            theirs.send(b"three")
            assert run(loop, task) == b"three"

    def test_after_a_cancellation(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            for _ in range(2):
                task = waiting(loop, loop.sock_recv(ours, 100))
                task.cancel()
                theirs.send(b"data")
                turns(loop, 3)
                assert task.cancelled()
                assert run(loop, loop.sock_recv(ours, 100)) == b"data"

    @pytest.mark.weft_only
    def test_several_readers(self, loop: asyncio.AbstractEventLoop) -> None:
        """Each gets something; on asyncio the first one waits for ever."""
        with pair(socket.SOCK_DGRAM) as (ours, theirs):
            tasks = [waiting(loop, loop.sock_recv(ours, 10)) for _ in range(3)]
            tasks[1].cancel()
            for data in (b"one", b"two"):
                theirs.send(data)
            assert {run(loop, tasks[0]), run(loop, tasks[2])} == {b"one", b"two"}

    def test_accepting(self, loop: asyncio.AbstractEventLoop) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
            listener.setblocking(False)
            for number in (1, 3):
                task = waiting(loop, loop.sock_accept(listener))
                clients = [socket.create_connection(listener.getsockname()) for _ in range(number)]
                accepted = [run(loop, task)[0], *(run(loop, loop.sock_accept(listener))[0] for _ in range(number - 1))]
                for each in (*clients, *accepted):
                    stack.enter_context(each)
                assert {each.getpeername() for each in accepted} == {each.getsockname() for each in clients}


class TestWriting:
    def test_into_a_full_buffer_again_and_again(self, loop: asyncio.AbstractEventLoop) -> None:
        data = os.urandom(3_000_000)
        with pair() as (ours, theirs):

            async def receive() -> bytes:
                received = bytearray()
                while len(received) < 2 * len(data):
                    received += await loop.sock_recv(theirs, 100_000)
                return bytes(received)

            async def send() -> None:
                await loop.sock_sendall(ours, data)
                await loop.sock_sendall(ours, memoryview(data))

            async def main() -> bytes:
                return (await asyncio.gather(send(), receive()))[1]

            assert run(loop, main()) == 2 * data

    def test_to_a_peer_that_goes(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_sendall(ours, bytes(10_000_000)))
            theirs.close()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                run(loop, task)

    def test_both_ways_at_a_time(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            reading = waiting(loop, loop.sock_recv(ours, 10))
            writing = waiting(loop, loop.sock_sendall(ours, bytes(1_000_000)))
            theirs.send(b"answer")
            assert run(loop, reading) == b"answer"
            reading = waiting(loop, loop.sock_recv(ours, 10))
            assert not writing.done()
            drained = 0
            while drained < 1_000_000:
                drained += len(run(loop, loop.sock_recv(theirs, 1_000_000)))
            run(loop, writing)
            theirs.close()
            assert run(loop, reading) == b""


class TestDescriptors:
    @pytest.mark.parametrize("collected", [False, True])
    def test_a_number_that_is_used_again(self, loop: asyncio.AbstractEventLoop, collected: bool) -> None:
        """The new socket of an old number is another socket, for the kernel too."""
        kept: list[socket.socket] = []
        for _ in range(3):
            with pair() as (ours, theirs):
                kept.append(ours)
                task = waiting(loop, loop.sock_recv(ours, 10))
                theirs.send(b"data")
                assert run(loop, task) == b"data"
            if collected:
                kept.clear()
                del ours, theirs, task
                gc.collect()

    def test_detached_and_wrapped_again(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 10))
            theirs.send(b"one")
            assert run(loop, task) == b"one"
            with socket.socket(fileno=ours.detach()) as again:
                again.setblocking(False)
                task = waiting(loop, loop.sock_recv(again, 10))
                theirs.send(b"two")
                assert run(loop, task) == b"two"

    def test_a_closed_socket(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 10))
            theirs.send(b"data")
            run(loop, task)
        for call in (loop.sock_recv(ours, 10), loop.sock_sendall(ours, b"x")):
            with pytest.raises(OSError, match="Bad file descriptor"):
                run(loop, call)

    def test_add_reader_takes_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 10))
            theirs.send(b"one")
            assert run(loop, task) == b"one"
            seen: list[bytes] = []
            loop.add_reader(ours, lambda: seen.append(ours.recv(2)))
            theirs.send(b"twenty")
            turns(loop, 6)
            assert b"".join(seen) == b"twenty"
            assert loop.remove_reader(ours)
            task = waiting(loop, loop.sock_recv(ours, 10))
            theirs.send(b"three")
            assert run(loop, task) == b"three"
            assert not loop.remove_reader(ours)

    @pytest.mark.weft_only
    def test_add_writer_leaves_readers_alone(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 10))
            called: list[bool] = []
            loop.add_writer(ours, called.append, True)
            turns(loop, 3)
            assert len(called) >= 2
            loop.remove_writer(ours)
            theirs.send(b"data")
            assert run(loop, task) == b"data"

    def test_a_transport_takes_over(self, loop: asyncio.AbstractEventLoop) -> None:
        received: asyncio.Future[bytes] = loop.create_future()

        class Protocol(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.set_result(data)

        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 10))
            theirs.send(b"one")
            assert run(loop, task) == b"one"
            transport, _ = run(loop, loop.create_connection(Protocol, sock=ours))
            theirs.send(b"two")
            assert run(loop, received) == b"two"
            with pytest.raises(RuntimeError, match="is used by transport"):
                run(loop, loop.sock_recv(ours, 10))
            transport.close()
            turns(loop, 3)

    def test_a_server_takes_over_a_closed_sockets_number(self, loop: asyncio.AbstractEventLoop) -> None:
        with pair() as (ours, theirs):
            task = waiting(loop, loop.sock_recv(ours, 10))
            theirs.send(b"data")
            assert run(loop, task) == b"data"
            number = ours.fileno()
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                ours.close()
                os.dup2(sock.fileno(), number)
            server = run(loop, loop.create_server(asyncio.Protocol, sock=socket.socket(fileno=number)))
            with socket.socket() as client:
                client.setblocking(False)
                run(loop, loop.sock_connect(client, server.sockets[0].getsockname()))
            turns(loop, 3)
            server.close()
            run(loop, server.wait_closed())

    def test_a_loop_that_closes_meanwhile(self, new_loop: Any) -> None:
        with pair() as (ours, theirs):
            for _ in range(2):
                loop = new_loop()
                task = waiting(loop, loop.sock_recv(ours, 10))
                theirs.send(b"data")
                assert run(loop, task) == b"data"
                loop.close()
