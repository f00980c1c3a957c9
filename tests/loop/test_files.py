"""``sendfile`` and ``sock_sendfile``: what arrives, where the file stands then, and a transport as it was before."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.loop.kit import (
    DATA,
    Peers,
    Recorder,
    Run,
    address_of,
    client_context,
    finish,
    server_context,
)
from weft import versions

tls_or_not = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    (tmp_path / "data").write_bytes(DATA)
    with open(tmp_path / "data", "rb") as opened:
        yield opened


@pytest.fixture
def long(tmp_path: Path) -> Iterator[BinaryIO]:
    """A file of 64 MiB that takes no room: more than any socket's buffers."""
    with open(tmp_path / "long", "w+b") as opened:
        opened.truncate(1 << 26)
        yield opened


class Connection:
    """A client's end and a server's end; the client sends."""

    def __init__(self, client: Recorder, peer: Recorder) -> None:
        self.client = client
        self.peer = peer

    @property
    def transport(self) -> asyncio.Transport:
        return self.client.transport

    async def arrived(self, count: int) -> bytes:
        """Everything that the client has sent, which is *count* bytes."""
        data = await self.peer.receive(count)
        assert len(data) == count
        return data

    async def arrived_up_to(self, end: bytes) -> bytearray:
        while not self.peer.data.endswith(end):
            self.peer.arrived.clear()
            await self.peer.arrived.wait()
        return self.peer.data

    async def still_works(self) -> None:
        """Both ways."""
        self.transport.write(b"post")
        await self.arrived_up_to(b"post")
        self.peer.transport.write(b"reply")
        assert await self.client.receive(5) == b"reply"


@asynccontextmanager
async def connected(tls: bool) -> AsyncIterator[Connection]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(peers := Peers(), "127.0.0.1", 0, ssl=server_context() if tls else None)
    options: dict[str, Any] = {"ssl": client_context(), "server_hostname": "localhost"} if tls else {}
    _, client = await loop.create_connection(Recorder, *address_of(server), **options)
    peer = await peers.next()
    try:
        yield Connection(client, peer)
    finally:
        client.transport.close()
        peer.transport.close()
        await asyncio.gather(client.lost, peer.lost)
        await finish(server)


def assert_nothing_watched() -> None:
    """Descriptors made now, with the lowest free numbers, are not taken for ones that were closed while watched."""
    loop = asyncio.get_running_loop()
    one, two = socket.socketpair()
    with one, two:
        assert not loop.remove_writer(one)
        assert not loop.remove_writer(two)


class Unsupported(asyncio.Transport):
    """Of a loop that cannot send files."""

    def is_closing(self) -> bool:
        return False


def overfill(transport: asyncio.Transport) -> None:
    """Write until the kernel takes no more."""
    while not transport.get_write_buffer_size():
        transport.write(bytes(1 << 20))


async def turn(times: int = 3) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class TestSendfile:
    @tls_or_not
    @pytest.mark.parametrize(
        ("offset", "count", "expected"),
        [
            (0, None, DATA),
            (1000, None, DATA[1000:]),
            (0, 1000, DATA[:1000]),
            (1000, 70_000, DATA[1000:71_000]),
            (len(DATA) - 5, 100, DATA[-5:]),
            (len(DATA), None, b""),
        ],
    )
    def test_sends_a_part(
        self, run: Run, file: BinaryIO, tls: bool, offset: int, count: int | None, expected: bytes
    ) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                sent = await asyncio.get_running_loop().sendfile(connection.transport, file, offset, count)
                assert sent == len(expected)
                assert await connection.arrived(sent) == expected
                if sent or versions.SENDFILE_ALWAYS_SEEKS:
                    assert file.tell() == offset + sent
                await connection.still_works()

        run(main())

    @tls_or_not
    def test_keeps_the_order_of_writes(self, run: Run, file: BinaryIO, tls: bool) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                connection.peer.transport.pause_reading()
                sock = connection.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # so that it leaves in many steps
                overfill(connection.transport)
                # Below these marks the protocol may write again, but a file must still wait.
                size = connection.transport.get_write_buffer_size()
                connection.transport.set_write_buffer_limits(high=size // 2, low=size // 2)
                connection.transport.write(b"before")
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, file))
                await turn()
                connection.peer.transport.resume_reading()
                await sending
                connection.transport.write(b"after")
                assert (await connection.arrived_up_to(b"after")).endswith(b"before" + DATA + b"after")

        run(main())

    @tls_or_not
    def test_an_empty_file(self, run: Run, tmp_path: Path, tls: bool) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                with open(tmp_path / "empty", "w+b") as empty:
                    assert await asyncio.get_running_loop().sendfile(connection.transport, empty) == 0
                await connection.still_works()

        run(main())

    def test_reading_goes_on_afterwards(self, run: Run, long: BinaryIO) -> None:
        async def main() -> None:
            async with connected(False) as connection:
                connection.peer.transport.pause_reading()
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, long))
                await turn()
                connection.peer.transport.write(b"meanwhile")
                await turn(10)
                assert connection.client.data == b""
                connection.peer.transport.resume_reading()
                await sending
                assert await connection.client.receive(9) == b"meanwhile"

        run(main())

    def test_stays_paused_if_it_was(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            async with connected(False) as connection:
                connection.transport.pause_reading()
                await asyncio.get_running_loop().sendfile(connection.transport, file)
                assert not connection.transport.is_reading()
                assert connection.transport.get_protocol() is connection.client

        run(main())

    def test_nobody_writes_meanwhile(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with connected(False) as connection:
                connection.peer.transport.pause_reading()
                overfill(connection.transport)
                count = connection.transport.get_write_buffer_size()
                sending = asyncio.ensure_future(loop.sendfile(connection.transport, file))
                await turn()
                assert not sending.done()
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    connection.transport.write(b"x")
                connection.peer.transport.resume_reading()
                assert await sending == len(DATA)
                assert count
                connection.transport.write(b"x")

        run(main())

    @pytest.mark.weft_only  # asyncio fails, and forgets whose descriptor it is
    def test_one_at_a_time(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with connected(False) as connection:
                connection.peer.transport.pause_reading()
                overfill(connection.transport)
                sending = asyncio.ensure_future(loop.sendfile(connection.transport, file))
                await turn()
                with pytest.raises(RuntimeError):
                    await loop.sendfile(connection.transport, file)
                connection.peer.transport.resume_reading()
                assert await sending == len(DATA)
                await connection.still_works()

        run(main())

    def test_files_that_the_kernel_cannot_send(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with connected(False) as connection:
                with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                    await loop.sendfile(connection.transport, io.BytesIO(DATA), fallback=False)
                memory = io.BytesIO(DATA)
                assert await loop.sendfile(connection.transport, memory, 10, 200_000) == 200_000
                assert await connection.arrived(200_000) == DATA[10:200_010]
                assert memory.tell() == 200_010
                await connection.still_works()

        run(main())

    def test_tls_needs_the_fallback(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            async with connected(True) as connection:
                with pytest.raises(RuntimeError, match="fallback is disabled"):
                    await asyncio.get_running_loop().sendfile(connection.transport, file, fallback=False)

        run(main())

    def test_refuses_what_cannot_be_sent(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            async with connected(False) as connection:
                with open(file.name) as text, pytest.raises(ValueError, match="binary mode"):
                    await loop.sendfile(connection.transport, text)
                for count, error in ((0, ValueError), (-1, ValueError), ("1", TypeError)):
                    with pytest.raises(error, match="count must be a positive integer"):
                        await loop.sendfile(connection.transport, file, 0, count)
                for offset, error in ((-1, ValueError), ("1", TypeError)):
                    with pytest.raises(error, match="offset must be a non-negative integer"):
                        await loop.sendfile(connection.transport, file, offset)
                with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
                    await loop.sendfile(Unsupported(), file)
                await connection.still_works()
                connection.transport.close()
                with pytest.raises(RuntimeError, match="Transport is closing"):
                    await loop.sendfile(connection.transport, file)

        run(main())

    @pytest.mark.parametrize("turns", range(4))
    @tls_or_not
    def test_the_peer_goes_away(self, run: Run, file: BinaryIO, tls: bool, turns: int) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                connection.peer.transport.pause_reading()
                overfill(connection.transport)
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, file))
                await turn(turns)
                connection.peer.transport.abort()
                with pytest.raises(ConnectionError):
                    await sending
                connection.transport.abort()
                await connection.client.lost

        run(main())

    @pytest.mark.weft_only  # asyncio waits for ever
    @tls_or_not
    def test_the_transport_is_aborted(self, run: Run, long: BinaryIO, tls: bool) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                connection.peer.transport.pause_reading()
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, long))
                while tls and not connection.transport.get_write_buffer_size():
                    await asyncio.sleep(0.001)  # not 0: the executor needs the interpreter too
                await turn(10)
                connection.transport.abort()
                with pytest.raises(ConnectionError):
                    await sending
                assert await connection.client.lost is None
                assert long.tell()

        run(main())

    @tls_or_not
    def test_cancellation_gives_the_transport_back(self, run: Run, long: BinaryIO, tls: bool) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                connection.peer.transport.pause_reading()
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, long))
                while tls and not connection.transport.get_write_buffer_size():
                    await asyncio.sleep(0.001)  # not 0: the executor needs the interpreter too
                await turn(10)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                assert connection.transport.get_protocol() is connection.client
                assert connection.transport.is_reading()
                assert_nothing_watched()
                connection.peer.transport.resume_reading()
                connection.transport.write(b"the end")
                await connection.arrived_up_to(b"the end")

        run(main())

    @pytest.mark.weft_only  # asyncio leaves the file where it was
    @tls_or_not
    def test_cancellation_tells_how_much_was_sent(self, run: Run, long: BinaryIO, tls: bool) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                loop = asyncio.get_running_loop()
                loop.set_default_executor(ThreadPoolExecutor(1))
                connection.peer.transport.pause_reading()
                sending = asyncio.ensure_future(loop.sendfile(connection.transport, long))
                _, high = connection.transport.get_write_buffer_limits()
                while tls and connection.transport.get_write_buffer_size() < high:
                    await asyncio.sleep(0.001)
                await loop.run_in_executor(None, int)  # the next piece has been read, but must wait
                await turn(10)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                connection.peer.transport.resume_reading()
                connection.transport.write(b"the end")
                assert long.tell() == len(await connection.arrived_up_to(b"the end")) - len(b"the end")

        run(main())

    @pytest.mark.weft_only  # asyncio leaves the transport unwritable
    def test_cancellation_before_the_first_byte(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            async with connected(False) as connection:
                connection.peer.transport.pause_reading()
                overfill(connection.transport)
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, file))
                await turn()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                assert file.tell() == 0
                assert connection.transport.is_reading()
                connection.transport.write(b"the end")
                connection.peer.transport.resume_reading()
                await connection.arrived_up_to(b"the end")

        run(main())


class Flow(Recorder):
    """Insists on pauses and resumptions that take turns."""

    paused = False

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False

    @classmethod
    def take_over(cls, connection: Connection) -> Flow:
        flow = cls()
        flow.made, flow.lost = connection.client.made, connection.client.lost
        connection.transport.set_protocol(flow)
        return flow


@pytest.mark.weft_only  # asyncio resumes what it has not paused, and forgets what it has
class TestFlowControl:
    """The program's protocol is never told of a pause twice, or of an end of none; it knows of one that lasts."""

    @tls_or_not
    def test_a_pause_that_ends_during_the_transfer(self, run: Run, file: BinaryIO, tls: bool) -> None:
        async def main() -> None:
            async with connected(tls) as connection:
                flow = Flow.take_over(connection)
                connection.peer.transport.pause_reading()
                while not flow.paused:
                    connection.transport.write(bytes(1 << 20))
                    await turn()
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, file))
                await turn()
                connection.peer.transport.resume_reading()
                await sending
                while connection.transport.get_write_buffer_size():
                    await asyncio.sleep(0)
                assert not flow.paused

        run(main())

    def test_a_pause_that_lasts_beyond_the_transfer(self, run: Run, long: BinaryIO) -> None:
        async def main() -> None:
            async with connected(True) as connection:
                flow = Flow.take_over(connection)
                connection.peer.transport.pause_reading()
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(connection.transport, long))
                low, high = connection.transport.get_write_buffer_limits()
                before = -1  # until the kernel, too, is full: what it takes later could end the pause
                while (size := connection.transport.get_write_buffer_size()) < high or size != before:
                    before = size
                    await asyncio.sleep(0.05)
                assert not flow.paused
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                assert flow.paused
                connection.peer.transport.resume_reading()
                while flow.paused:
                    await asyncio.sleep(0)
                assert connection.transport.get_write_buffer_size() <= low

        run(main())
