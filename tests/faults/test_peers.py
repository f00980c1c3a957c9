"""Peers that reset, close one side, never read, leave a handshake or talk nonsense: the server and the others go on."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.loop.kit import Peers, Recorder, Run, address_of, client_context, finish, server_context

NOISE = random.Random(3).randbytes(1 << 20)


def reset(sock: socket.socket) -> None:
    """Close at once, with RST instead of FIN (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def reports() -> list[dict[str, Any]]:
    """From now on, what the running loop reports."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@asynccontextmanager
async def one_connection(**options: Any) -> AsyncIterator[tuple[Recorder, socket.socket]]:
    """A server's end of a connection, and the peer: a plain socket that does not block."""
    loop, peers = asyncio.get_running_loop(), Peers()
    server = await loop.create_server(peers, "127.0.0.1", 0, **options)
    peer = socket.create_connection(address_of(server))
    peer.setblocking(False)
    recorder = await peers.next()
    try:
        yield recorder, peer
    finally:
        peer.close()
        await finish(server, recorder.transport)


class TestResets:
    @pytest.mark.parametrize("state", ["idle", "data not read", "paused", "unsent data", "half-closed"])
    def test_is_told_once(self, run: Run, state: str) -> None:
        async def main() -> None:
            told = reports()
            async with one_connection() as (recorder, peer):
                if state == "data not read":
                    peer.send(b"data")
                elif state == "paused":
                    recorder.transport.pause_reading()
                    recorder.transport.write(NOISE * 8)
                elif state == "unsent data":
                    recorder.transport.write(NOISE * 8)
                elif state == "half-closed":
                    recorder.transport.write_eof()
                    assert await asyncio.get_running_loop().sock_recv(peer, 10) == b""
                reset(peer)
                error = await recorder.lost
                assert isinstance(error, ConnectionResetError | BrokenPipeError)
                if state != "half-closed":
                    recorder.transport.write(b"nobody hears this")
                recorder.transport.close()
            assert told == []

        run(main())

    def test_streams_raise(self, run: Run) -> None:
        async def main() -> None:
            done: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                errors = []
                for attempt in (reader.read(), writer.drain(), writer.wait_closed()):
                    try:
                        await attempt
                    except ConnectionError as error:
                        errors.append(type(error).__name__)
                writer.close()
                done.set_result(errors)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reset(socket.create_connection(address_of(server)))
            assert await done == ["ConnectionResetError"] * 3
            await finish(server)

        run(main())

    def test_a_hundred_at_once(self, run: Run) -> None:
        """Some before they are accepted, some after: the next client is served."""

        async def main() -> None:
            loop, peers, told = asyncio.get_running_loop(), Peers(), reports()
            server = await loop.create_server(peers, "127.0.0.1", 0)
            for number in range(100):
                peer = socket.create_connection(address_of(server))
                if number % 3:
                    peer.send(b"data")
                if number % 2:
                    await asyncio.sleep(0)
                reset(peer)
            with socket.create_connection(address_of(server)) as peer:
                peer.send(b"the next")
                while not any(one.data == b"the next" for one in peers):
                    await asyncio.sleep(0)
            for one in peers:
                await one.lost
            await finish(server)
            assert told == []

        run(main())


class TestHalfClosed:
    def test_the_peer_listens_on(self, run: Run) -> None:
        """``eof_received`` that returns true leaves the other direction open."""

        class Late(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport: Any = transport

            def eof_received(self) -> bool:
                self.transport.write(NOISE)
                asyncio.get_running_loop().call_soon(self.transport.close)
                return True

        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Late, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*address_of(server))
            writer.write_eof()
            assert await reader.read() == NOISE
            await finish(server, writer.transport)

        run(main())

    def test_we_listen_on(self, run: Run) -> None:
        async def main() -> None:
            async with one_connection() as (recorder, peer):
                loop = asyncio.get_running_loop()
                recorder.transport.write(NOISE)
                recorder.transport.write_eof()
                got = bytearray()
                while piece := await loop.sock_recv(peer, 1 << 16):
                    got += piece
                assert got == NOISE
                sending = asyncio.create_task(loop.sock_sendall(peer, NOISE))
                assert await recorder.receive(len(NOISE)) == NOISE
                await sending
                assert not recorder.eof
                peer.close()
                assert await recorder.lost is None

        run(main())


class TestNeverReads:
    def test_a_protocol_that_honours_pauses_is_bounded(self, run: Run) -> None:
        """Whatever the peer does, no more waits here than the mark and one write."""

        class Sender(Recorder):
            may = asyncio.Event()

            def pause_writing(self) -> None:
                self.may.clear()

            def resume_writing(self) -> None:
                self.may.set()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, peer = socket.socketpair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            peer.setblocking(False)
            Sender.may = asyncio.Event()
            Sender.may.set()
            transport, sender = await loop.create_connection(Sender, sock=ours)
            transport.set_write_buffer_limits(high=50_000)
            most = sent = 0

            async def send() -> None:
                nonlocal most, sent
                for at in range(0, len(NOISE), 1000):
                    await sender.may.wait()
                    transport.write(NOISE[at : at + 1000])
                    sent += len(NOISE[at : at + 1000])
                    most = max(most, transport.get_write_buffer_size())

            sending = asyncio.create_task(send())
            while sender.may.is_set():
                await asyncio.sleep(0)
            held = sent
            for _ in range(100):
                await asyncio.sleep(0)
            assert sent == held  # it waits, for as long as the peer does
            got = bytearray()
            while len(got) < len(NOISE):
                got += await loop.sock_recv(peer, 10_000)
            await sending
            assert got == NOISE
            assert most <= 51_000
            transport.close()
            await sender.lost
            peer.close()

        run(main())

    @pytest.mark.parametrize("how", ["abort", "cancel", "reset"])
    def test_can_be_left(self, run: Run, how: str) -> None:
        """A drain() that waits for such a peer ends when its task or the connection does."""

        async def main() -> None:
            ours, peer = socket.socketpair() if how != "reset" else await asyncio.to_thread(tcp_pair)
            _, writer = await asyncio.open_connection(sock=ours)
            writer.write(NOISE * 8)
            draining = asyncio.create_task(writer.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            if how == "abort":
                writer.transport.abort()
            elif how == "cancel":
                draining.cancel()
            else:
                reset(peer)
            (end,) = await asyncio.gather(draining, return_exceptions=True)
            expected: dict[str, type[Any]] = {"abort": type(None), "cancel": asyncio.CancelledError}
            assert isinstance(end, expected.get(how, ConnectionError))
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            peer.close()

        run(main())


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


def client_hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


class TestHandshakes:
    async def serve(self, first_words: list[bytes], how: str) -> None:
        """Say each of ``first_words`` to a TLS server and leave; afterwards it serves an honest client."""
        loop, peers, told = asyncio.get_running_loop(), Peers(), reports()
        server = await loop.create_server(peers, "127.0.0.1", 0, ssl=server_context())
        for words in first_words:
            peer = socket.create_connection(address_of(server))
            peer.setblocking(False)
            await loop.sock_sendall(peer, words)
            if how == "close":
                peer.close()
            elif how == "reset":
                await asyncio.sleep(0)
                reset(peer)
            else:  # wait until the server has had enough
                try:
                    while await loop.sock_recv(peer, 10_000):
                        pass
                except ConnectionResetError:
                    pass
                peer.close()
        options: dict[str, Any] = {"ssl": client_context(), "server_hostname": "localhost"}
        reader, writer = await asyncio.open_connection(*address_of(server), **options)
        while not (honest := peers[-1]).made.done():
            await asyncio.sleep(0)
        honest.transport.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
        await honest.lost
        assert sum(one.made.done() for one in peers) == 1
        for one in peers:
            one.made.cancel()
            one.lost.cancel()
        await finish(server)
        assert told == []

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_left_in_the_middle(self, run: Run, how: str) -> None:
        hello = client_hello()
        run(
            self.serve([hello[:length] for length in (0, 1, 4, 5, 6, len(hello) // 2, len(hello) - 1, len(hello))], how)
        )

    def test_nonsense(self, run: Run) -> None:
        hello, draw = client_hello(), random.Random(4)
        words = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            NOISE[:100],
            NOISE[:50_000],
            b"\x16\x03\x01\xff\xff" * 20_000,
        ]
        for _ in range(10):
            bent = bytearray(hello)
            bent[draw.randrange(5)] ^= 1 << draw.randrange(8)
            words.append(bytes(bent) + NOISE[:20_000])
        run(self.serve(words, "wait"))

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_client_whose_server_leaves(self, run: Run, how: str) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setblocking(False)
                loop = asyncio.get_running_loop()
                options: dict[str, Any] = {"ssl": client_context(), "server_hostname": "localhost"}
                connecting = asyncio.create_task(asyncio.open_connection(*listener.getsockname(), **options))
                sock, _ = await loop.sock_accept(listener)
                assert await loop.sock_recv(sock, 5)
                if how == "reset":
                    reset(sock)
                else:
                    sock.close()
                with pytest.raises(ConnectionError):
                    await connecting

        run(main())
