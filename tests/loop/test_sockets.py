"""``loop.sock_*``: at once where the kernel can, waiting where it cannot, and nothing taken by what was cancelled."""

from __future__ import annotations

import asyncio
import errno
import socket
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.loop.kit import Recorder, Run, open_sockets, refused, resolve_to, server_context, unreachable

Receive: TypeAlias = Callable[[Any, socket.socket], Awaitable[bytes]]


@contextmanager
def pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    one, two = socket.socketpair(type=kind)
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        yield one, two


@contextmanager
def bound(kind: int = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    """A socket with an address on loopback that does not block."""
    with socket.socket(type=kind) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock


async def recv(loop: Any, sock: socket.socket) -> bytes:
    received: bytes = await loop.sock_recv(sock, 100)
    return received


async def recv_into(loop: Any, sock: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: await loop.sock_recv_into(sock, buffer)])


async def recvfrom(loop: Any, sock: socket.socket) -> bytes:
    received: bytes = (await loop.sock_recvfrom(sock, 100))[0]
    return received


async def recvfrom_into(loop: Any, sock: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: (await loop.sock_recvfrom_into(sock, buffer))[0]])


receiving = pytest.mark.parametrize("receive", [recv, recv_into, recvfrom, recvfrom_into])


async def turn(times: int = 3) -> None:
    """Let whatever is ready run."""
    for _ in range(times):
        await asyncio.sleep(0)


class TestReceiving:
    @receiving
    def test_takes_what_is_there(self, run: Run, receive: Receive) -> None:
        async def main() -> None:
            with pair() as (ours, theirs):
                theirs.send(b"hello")
                assert await receive(asyncio.get_running_loop(), ours) == b"hello"
                theirs.shutdown(socket.SHUT_WR)
                assert await receive(asyncio.get_running_loop(), ours) == b""

        run(main())

    @receiving
    def test_makes_no_future_when_data_is_there(self, run: Run, receive: Receive) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                theirs.send(b"hello")
                loop.create_future = None  # type: ignore[method-assign,assignment]
                try:
                    assert await receive(loop, ours) == b"hello"
                finally:
                    del loop.create_future

        run(main())

    @receiving
    def test_waits(self, run: Run, receive: Receive) -> None:
        async def main() -> None:
            with pair() as (ours, theirs):
                waiting = asyncio.ensure_future(receive(asyncio.get_running_loop(), ours))
                await turn()
                assert not waiting.done()
                theirs.send(b"hello")
                assert await waiting == b"hello"

        run(main())

    @receiving
    def test_a_cancelled_one_leaves_no_watch(self, run: Run, receive: Receive) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                waiting = asyncio.ensure_future(receive(loop, ours))
                await turn()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert not loop.remove_reader(ours)
                theirs.send(b"kept")
                await turn()
                assert await receive(loop, ours) == b"kept"

        run(main())

    @pytest.mark.weft_only  # asyncio's callback has taken the data by then, and it is lost
    @receiving
    def test_one_cancelled_late_has_taken_nothing(self, run: Run, receive: Receive) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                waiting = asyncio.ensure_future(receive(loop, ours))
                await turn()
                theirs.send(b"kept")
                # Watched after ours, so this is called after ours, in the same turn.
                ready: asyncio.Future[bool] = loop.create_future()
                with ours.dup() as copy:

                    def cancel() -> None:
                        if not ready.done():
                            ready.set_result(waiting.cancel())

                    loop.add_reader(copy, cancel)
                    assert await ready
                    loop.remove_reader(copy)
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await receive(loop, ours) == b"kept"

        run(main())

    @receiving
    def test_passes_errors_on(self, run: Run, receive: Receive) -> None:
        async def main() -> None:
            with socket.socket() as sock:
                sock.setblocking(False)
                with pytest.raises(OSError, match="not connected") as caught:
                    await receive(asyncio.get_running_loop(), sock)
                assert caught.value.errno == errno.ENOTCONN

        run(main())

    def test_a_second_waiter_takes_the_place_of_the_first(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                first = asyncio.ensure_future(loop.sock_recv(ours, 1))
                await turn()
                second = asyncio.ensure_future(loop.sock_recv(ours, 1))
                await turn()
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                theirs.send(b"x")
                assert await second == b"x"
                assert not loop.remove_reader(ours)

        run(main())

    def test_a_readers_watch_survives_the_one_it_replaced(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, _):
                waiting = asyncio.ensure_future(loop.sock_recv(ours, 1))
                await turn()
                loop.add_reader(ours, int)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert loop.remove_reader(ours)

        run(main())

    def test_datagrams(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with bound() as ours, bound() as theirs:
                assert await loop.sock_sendto(theirs, b"hello", ours.getsockname()) == 5
                assert await loop.sock_recvfrom(ours, 3) == (b"hel", theirs.getsockname())
                await loop.sock_sendto(theirs, b"", ours.getsockname())
                assert await loop.sock_recvfrom(ours, 3) == (b"", theirs.getsockname())
                buffer = bytearray(b"......")
                await loop.sock_sendto(theirs, b"hello", ours.getsockname())
                assert await loop.sock_recvfrom_into(ours, buffer, 2) == (2, theirs.getsockname())
                assert buffer == b"he...."

        run(main())


class TestSending:
    def test_sends_more_than_fits(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            data = bytes(range(256)) * 8192
            with pair() as (ours, theirs):
                sending = asyncio.ensure_future(loop.sock_sendall(ours, data))
                await turn()
                assert not sending.done()
                received = bytearray()
                while len(received) < len(data):
                    received += await loop.sock_recv(theirs, 65536)
                await sending
                assert received == data
                assert not loop.remove_writer(ours)

        run(main())

    @pytest.mark.parametrize("data", [b"hello", bytearray(b"hello"), memoryview(b"hello"), b""])
    def test_makes_no_future_when_there_is_room(self, run: Run, data: Any) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                loop.create_future = None  # type: ignore[method-assign,assignment]
                try:
                    await loop.sock_sendall(ours, data)
                finally:
                    del loop.create_future
                theirs.send(b"!")
                ours.shutdown(socket.SHUT_WR)
                assert await loop.sock_recv(theirs, 100) == bytes(data)

        run(main())

    @pytest.mark.weft_only  # asyncio takes the number of items for the number of bytes
    def test_counts_bytes_not_items(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            data = array("Q", range(100_000))
            with pair() as (ours, theirs):
                sending = asyncio.ensure_future(loop.sock_sendall(ours, data))
                received = bytearray()
                while len(received) < 8 * len(data):
                    received += await loop.sock_recv(theirs, 65536)
                await sending
                assert received == data.tobytes()

        run(main())

    def test_a_cancelled_one_leaves_no_watch(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, _):
                sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(1 << 22)))
                await turn()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                assert not loop.remove_writer(ours)

        run(main())

    def test_reading_and_writing_at_once(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                reading = asyncio.ensure_future(loop.sock_recv(ours, 100))
                writing = asyncio.ensure_future(loop.sock_sendall(ours, bytes(1 << 20)))
                await turn()
                writing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await writing
                theirs.send(b"hello")
                assert await reading == b"hello"

        run(main())

    def test_a_lost_peer(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(1 << 22)))
                await turn()
                theirs.close()
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    await sending
                assert not loop.remove_writer(ours)

        run(main())

    def test_datagrams_wait_for_room(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pair(socket.SOCK_DGRAM) as (ours, theirs):
                count = 0
                try:
                    while True:
                        ours.send(b"full")
                        count += 1
                except BlockingIOError:
                    pass
                await loop.sock_sendall(theirs, b"x")
                sending = asyncio.ensure_future(loop.sock_sendall(ours, b"last"))
                await turn()
                assert not sending.done()
                for _ in range(count):
                    assert theirs.recv(10) == b"full"
                await sending
                assert theirs.recv(10) == b"last"

        run(main())


class TestConnecting:
    def test_connects_and_accepts(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
                listener.setblocking(False)
                ours.setblocking(False)
                accepting = asyncio.ensure_future(loop.sock_accept(listener))
                await turn()
                await loop.sock_connect(ours, listener.getsockname())
                conn, address = await accepting
                with conn:
                    assert address == ours.getsockname()
                    assert conn.gettimeout() == 0
                    await loop.sock_sendall(ours, b"hello")
                    assert await loop.sock_recv(conn, 100) == b"hello"

        run(main())

    def test_accepts_what_is_there(self, run: Run) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setblocking(False)
                with socket.create_connection(listener.getsockname()) as client:
                    conn, address = await asyncio.get_running_loop().sock_accept(listener)
                    conn.close()
                    assert address == client.getsockname()

        run(main())

    def test_a_cancelled_accept_leaves_no_watch(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setblocking(False)
                accepting = asyncio.ensure_future(loop.sock_accept(listener))
                await turn()
                accepting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await accepting
                assert not loop.remove_reader(listener)

        run(main())

    def test_resolves_names(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
                ours.setblocking(False)
                resolve_to(loop, listener.getsockname())
                await loop.sock_connect(ours, ("name", 1))
                assert ours.getpeername() == listener.getsockname()

        run(main())

    def test_refused(self, run: Run) -> None:
        async def main() -> None:
            with refused() as address, socket.socket() as ours:
                ours.setblocking(False)
                with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
                    await asyncio.get_running_loop().sock_connect(ours, address)

        run(main())

    def test_a_cancelled_connect_leaves_no_watch(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with unreachable() as address, socket.socket() as ours:
                ours.setblocking(False)
                before = open_sockets()
                connecting = asyncio.ensure_future(loop.sock_connect(ours, address))
                await turn()
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
                assert not loop.remove_writer(ours)
                assert open_sockets() == before

        run(main())

    def test_unix(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ours:
                listener.bind(str(tmp_path / "s"))
                listener.listen()
                listener.setblocking(False)
                ours.setblocking(False)
                await loop.sock_connect(ours, str(tmp_path / "s"))
                conn, _ = await loop.sock_accept(listener)
                conn.close()
                assert await loop.sock_recv(ours, 1) == b""

        run(main())

    def test_ipv6(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
                for cut in (2, 4):
                    with socket.socket(socket.AF_INET6) as ours:
                        ours.setblocking(False)
                        await loop.sock_connect(ours, listener.getsockname()[:cut])
                        assert ours.getpeername() == listener.getsockname()

        run(main())


OPERATIONS: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
    "connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 1)),
    "accept": lambda loop, sock: loop.sock_accept(sock),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
class TestRefusals:
    def test_tls_sockets(self, run: Run, operation: Callable[[Any, Any], Awaitable[Any]]) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as plain:
                with server_context().wrap_socket(plain, server_side=True) as sock:
                    with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                        await operation(asyncio.get_running_loop(), sock)

        run(main())

    def test_blocking_sockets_in_debug_mode(self, run: Run, operation: Callable[[Any, Any], Awaitable[Any]]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            with socket.socket() as sock:
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    await operation(loop, sock)
            loop.set_debug(False)

        run(main())


def test_refuses_the_socket_of_a_transport(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (ours, _), socket.socket(fileno=ours.dup().detach()) as copy:
            handed_over = socket.socket(fileno=copy.detach())
            fd = handed_over.fileno()
            transport, protocol = await loop.create_connection(Recorder, sock=handed_over)
            alias = socket.socket(fileno=fd)
            try:
                alias.setblocking(False)
                with pytest.raises(RuntimeError, match=r"is used by transport"):
                    await loop.sock_recv(alias, 1)
                with pytest.raises(RuntimeError, match=r"is used by transport"):
                    await loop.sock_sendall(alias, bytes(1 << 22))
            finally:
                alias.detach()
            transport.close()
            await protocol.lost

    run(main())
