"""Streams over connections: what goes through them, both ways of flow control, how they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.http.dialkit import client_tls, server_tls
from tests.streams.conftest import KINDS, Kind
from tests.streams.kit import RESET, connected, end, pair, serving, shut, until

pytestmark = pytest.mark.time_limit(30)

NOISE = random.Random(1).randbytes(3 << 20)


async def echo(reader: Any, writer: Any) -> None:
    """Send back what comes, up to its end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    await end(writer)


async def exchange(reader: Any, writer: Any, data: bytes) -> bytes:
    """Send *data* and read as much at the same time."""

    async def send() -> None:
        for start in range(0, len(data), 100_000):
            writer.write(data[start : start + 100_000])
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        return bytes(await reader.readexactly(len(data)))
    finally:
        await sending


class TestThrough:
    def test_much_there_and_back(self, kind: Kind) -> None:
        async def main() -> None:
            async with serving(kind, echo) as port, connected(kind, port) as (reader, writer):
                assert await exchange(reader, writer, NOISE) == NOISE
                writer.write_eof()
                assert await reader.read() == b""
                assert reader.at_eof()

        kind.run(main())

    def test_to_the_end(self, kind: Kind) -> None:
        async def send(reader: Any, writer: Any) -> None:
            writer.writelines([NOISE[:1000], NOISE[1000:]])
            await end(writer)

        async def main() -> None:
            async with serving(kind, send) as port, connected(kind, port) as (reader, _):
                assert await reader.read() == NOISE

        kind.run(main())

    def test_lines(self, kind: Kind) -> None:
        lines = [b"%d " % number + b"x" * (number % 300) + b"\n" for number in range(5000)]

        async def send(reader: Any, writer: Any) -> None:
            writer.write(b"".join(lines))
            await end(writer)

        async def main() -> None:
            async with serving(kind, send) as port, connected(kind, port) as (reader, _):
                assert [line async for line in reader] == lines

        kind.run(main())

    def test_over_a_unix_socket(self, kind: Kind, tmp_path: Path) -> None:
        path = tmp_path / "socket"

        async def main() -> None:
            server = await kind.streams.start_unix_server(echo, path)
            reader, writer = await kind.streams.open_unix_connection(path)
            writer.write(b"through a file\n")
            assert await reader.readline() == b"through a file\n"
            await end(writer)
            await shut(server)

        kind.run(main())

    def test_over_tls(self, kind: Kind) -> None:
        async def main() -> None:
            async with serving(kind, echo, ssl=server_tls()) as port:
                options = {"ssl": client_tls(), "server_hostname": "localhost"}
                async with connected(kind, port, **options) as (reader, writer):
                    assert await exchange(reader, writer, NOISE) == NOISE
                    writer.write(b"one\ntwo\n")
                    assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]
                    assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
                    assert not writer.can_write_eof()

        kind.run(main())

    def test_tls_begins_in_the_middle(self, kind: Kind) -> None:
        async def serve(reader: Any, writer: Any) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"OK\n")
            await writer.start_tls(server_tls())
            await echo(reader, writer)

        async def main() -> None:
            async with serving(kind, serve) as port, connected(kind, port) as (reader, writer):
                writer.write(b"STARTTLS\n")
                assert await reader.readline() == b"OK\n"
                plain = writer.transport
                await writer.start_tls(client_tls(), server_hostname="localhost")
                assert writer.transport is not plain
                assert writer.get_extra_info("sslcontext") is not None
                assert await exchange(reader, writer, NOISE[:500_000]) == NOISE[:500_000]

        kind.run(main())

    def test_a_pipe(self, kind: Kind) -> None:
        async def main() -> None:
            receiving, sending = os.pipe()
            reader = kind.reader()
            protocol = kind.streams.StreamReaderProtocol(reader, loop=asyncio.get_running_loop())
            loop = asyncio.get_running_loop()
            pipe = open(receiving, "rb", 0)  # noqa: SIM115 - the transport closes it
            transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe)
            os.write(sending, b"one\ntwo")
            assert await reader.readline() == b"one\n"
            os.close(sending)
            assert await reader.read() == b"two"
            transport.close()
            await asyncio.sleep(0)

        kind.run(main())

    def test_what_is_known_of_the_connection(self, kind: Kind) -> None:
        async def main() -> None:
            async with pair(kind) as (reader, writer, _):
                assert isinstance(writer, asyncio.StreamWriter)
                assert isinstance(writer.transport, asyncio.Transport)
                assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
                assert writer.get_extra_info("socket").family == socket.AF_UNIX
                assert writer.get_extra_info("nothing", "of the kind") == "of the kind"
                assert writer.can_write_eof()
                assert not writer.is_closing()
                assert f"{writer!r}".startswith(f"<StreamWriter transport={writer.transport!r} reader=<StreamReader")
                writer.close()
                assert writer.is_closing()

        kind.run(main())


class TestFlow:
    def test_a_reader_that_is_slow_stops_the_peer(self, kind: Kind) -> None:
        async def main() -> None:
            async with pair(kind, limit=1000, buffers=4096) as (reader, writer, peer):
                sent = 0

                def is_full() -> bool:
                    nonlocal sent
                    try:
                        sent += peer.send(NOISE[sent : sent + 4096])
                    except BlockingIOError:
                        return not writer.transport.is_reading()
                    return False

                await until(is_full)
                assert sent < 1_000_000
                assert await reader.readexactly(sent) == NOISE[:sent]
                assert writer.transport.is_reading()
                peer.send(b"more")
                assert await reader.read(100) == b"more"

        kind.run(main())

    def test_drain_waits_for_a_peer_that_is_slow(self, kind: Kind) -> None:
        async def main() -> None:
            async with pair(kind, buffers=4096) as (_, writer, peer):
                await writer.drain()  # nothing to wait for
                writer.transport.set_write_buffer_limits(high=10_000, low=1000)
                writer.write(NOISE[:200_000])
                drains = [asyncio.create_task(writer.drain()) for _ in range(5)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not any(drain.done() for drain in drains)
                drains[0].cancel()
                got = bytearray()

                def is_drained() -> bool:
                    with contextlib.suppress(BlockingIOError):
                        got.extend(peer.recv(65536))
                    return all(drain.done() for drain in drains)

                await until(is_drained)
                assert [drain.cancelled() for drain in drains] == [True, False, False, False, False]
                await until(lambda: is_drained() and len(got) == 200_000)
                assert got == NOISE[:200_000]

        kind.run(main())

    @pytest.mark.parametrize("resets", [False, True])
    def test_drain_hears_that_the_connection_is_lost(self, kind: Kind, resets: bool) -> None:
        async def main() -> None:
            peers: list[Any] = []

            async def serve(reader: Any, writer: Any) -> None:
                peers.append(writer)

            async with serving(kind, serve) as port, connected(kind, port) as (_, writer):
                await until(lambda: peers)
                writer.write(NOISE)
                writer.write(NOISE)
                drains = [asyncio.create_task(writer.drain()) for _ in range(3)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not any(drain.done() for drain in drains)
                if resets:
                    sock = peers[0].get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    peers[0].transport.abort()
                else:
                    writer.transport.abort()
                results = await asyncio.gather(*drains, return_exceptions=True)
                if resets:
                    assert {type(result) for result in results} <= {ConnectionResetError, BrokenPipeError}
                else:
                    assert results == [None] * 3
                with pytest.raises(ConnectionError):
                    await writer.drain()
                await end(peers[0])

        kind.run(main())

    def test_drain_after_close_gives_way_and_raises(self, kind: Kind) -> None:
        async def main() -> None:
            async with pair(kind) as (_, writer, _peer):
                writer.close()
                with pytest.raises(ConnectionResetError, match="Connection lost"):
                    for _ in range(5):
                        await writer.drain()

        kind.run(main())


class TestEnds:
    def test_half_of_it(self, kind: Kind) -> None:
        async def main() -> None:
            async with pair(kind) as (reader, writer, peer):
                peer.send(b"the last words")
                peer.shutdown(socket.SHUT_WR)
                assert await reader.read() == b"the last words"
                writer.write(b"still there")
                await writer.drain()
                writer.write_eof()
                with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                    writer.write(b"x")
                await asyncio.sleep(0)
                assert peer.recv(100) == b"still there"
                assert peer.recv(100) == b""

        kind.run(main())

    def test_a_reset(self, kind: Kind) -> None:
        async def main() -> None:
            accepted: list[Any] = []

            async def serve(reader: Any, writer: Any) -> None:
                accepted.append((reader, writer))

            async with serving(kind, serve) as port:
                with socket.create_connection(("127.0.0.1", port)) as peer:
                    await until(lambda: accepted)
                    reader, writer = accepted.pop()
                    waiting = asyncio.create_task(reader.readline())
                    closing = [asyncio.create_task(writer.wait_closed()) for _ in range(2)]
                    peer.sendall(b"some")
                    await until(lambda: reader._buffer)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                for task in (waiting, *closing):
                    with pytest.raises(ConnectionResetError):
                        await task
                for read in (reader.read(), reader.readline(), reader.readexactly(1), writer.drain()):
                    with pytest.raises(ConnectionResetError):
                        await read
                with pytest.raises(ConnectionResetError):
                    await writer.wait_closed()

        kind.run(main())

    def test_all_who_wait_for_the_end(self, kind: Kind) -> None:
        async def main() -> None:
            async with pair(kind) as (reader, writer, _):
                waits = [asyncio.create_task(writer.wait_closed()) for _ in range(3)]
                reading = asyncio.create_task(reader.read())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if kind.ours:  # with asyncio's, one who is cancelled cancels it for all
                    waits[0].cancel()
                writer.close()
                results = await asyncio.gather(*waits, return_exceptions=True)
                assert results[1:] == [None, None]
                assert await reading == b""
                await writer.wait_closed()

        kind.run(main())

    def test_who_drops_a_writer_is_warned_and_the_peer_hears_of_it(self, kind: Kind) -> None:
        async def main() -> None:
            ours, peer = socket.socketpair()
            peer.settimeout(10)
            with peer:
                reader, writer = await kind.streams.open_unix_connection(sock=ours)
                with pytest.warns(ResourceWarning, match="unclosed <StreamWriter transport=<"):
                    del writer
                    gc.collect()
                assert await reader.read() == b""
                await asyncio.sleep(0)
                assert peer.recv(10) == b""

        kind.run(main())

    def test_a_loop_that_is_closed_first(self, kind: Kind) -> None:
        async def main() -> Any:
            ours, peer = socket.socketpair()
            peer.close()
            return await kind.streams.open_unix_connection(sock=ours)

        with pytest.warns(ResourceWarning) as caught:
            reader, writer = kind.run(main())
            del reader, writer
            gc.collect()
        assert any("loop is closed" in str(warning.message) for warning in caught)

    def test_nobody_listens(self, kind: Kind) -> None:
        async def main() -> None:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                with pytest.raises(ConnectionRefusedError):
                    await kind.streams.open_connection("127.0.0.1", sock.getsockname()[1])
            with pytest.raises(ValueError, match="Limit cannot be <= 0"):
                await kind.streams.open_connection("127.0.0.1", 1, limit=0)

        kind.run(main())


class TestCancelled:
    @pytest.mark.parametrize("seed", range(3))
    def test_no_byte_is_lost(self, kind: Kind, seed: int) -> None:
        chance = random.Random(seed)
        data = NOISE[:30_000].replace(b"\n", b"\n\n")

        def any_read(reader: Any) -> Any:
            size = chance.randrange(1, 500)
            if chance.random() < 0.5:
                return chance.choice([reader.read, reader.readexactly])(size)
            return reader.readline() if chance.random() < 0.5 else reader.readuntil(b"\n\n")

        async def main() -> None:
            async with pair(kind, limit=2**20) as (reader, _, peer):
                got = bytearray()
                sent = 0
                while len(got) < len(data):
                    if sent < len(data) and chance.random() < 0.7:
                        sent += peer.send(data[sent : sent + chance.randrange(1, 800)])
                        if sent == len(data):
                            peer.shutdown(socket.SHUT_WR)
                    task = asyncio.ensure_future(any_read(reader))
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                    if sent < len(data):
                        task.cancel()
                    try:
                        got += await task
                    except asyncio.CancelledError:
                        pass
                    except asyncio.IncompleteReadError as error:
                        got += error.partial
                assert bytes(got) == data

        kind.run(main())


@pytest.mark.parametrize("name", ["weft", "asyncio on weft"])
def test_what_came_before_tls_began_belongs_to_the_handshake(name: str) -> None:
    kind = KINDS[name]

    async def main() -> None:
        failed: list[BaseException] = []

        async def serve(reader: Any, writer: Any) -> None:
            try:
                assert await reader.readline() == b"PROXY\n"
                await until(lambda: reader._buffer)
                await writer.start_tls(server_tls())
                await echo(reader, writer)
            except BaseException as error:
                failed.append(error)
                raise

        async with serving(kind, serve) as port:
            sock = socket.create_connection(("127.0.0.1", port))
            # The header and the ClientHello in one packet: what TLS writes is caught, and sent behind the header.
            sock.setblocking(False)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_tls().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, b"PROXY\n" + outgoing.read())
            incoming.write(await asyncio.wait_for(loop.sock_recv(sock, 65536), 10))
            sock.close()
        assert incoming.pending > 0
        assert [type(error) for error in failed if not isinstance(error, OSError)] == []

    kind.run(main())
