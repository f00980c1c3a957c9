"""``sock_sendfile``: what arrives, and where the file stands afterwards."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.loop.kit import DATA, Run, server_context
from weft import versions


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


async def turn(times: int = 3) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class TestSockSendfile:
    @staticmethod
    async def receive(sock: socket.socket, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            received += await asyncio.get_running_loop().sock_recv(sock, 65536)
        return bytes(received)

    @pytest.mark.parametrize(
        ("offset", "count", "expected"),
        [(0, None, DATA), (5, 70_000, DATA[5:70_005]), (len(DATA) - 5, 100, DATA[-5:]), (len(DATA), None, b"")],
    )
    def test_sends_a_part(self, run: Run, file: BinaryIO, offset: int, count: int | None, expected: bytes) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.setblocking(False)
                sent, received = await asyncio.gather(
                    loop.sock_sendfile(ours, file, offset, count), self.receive(theirs, len(expected))
                )
                assert sent == len(expected)
                assert received == expected
                if sent or versions.SENDFILE_ALWAYS_SEEKS:
                    assert file.tell() == offset + sent
                assert not loop.remove_writer(ours)

        run(main())

    def test_a_file_that_has_been_read(self, run: Run) -> None:
        """From 3.14 on the offset counts where the kernel cannot send the file too; before, 0 meant "from here"."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.setblocking(False)
                memory = io.BytesIO(b"read not")
                memory.read(5)
                expected = b"read not" if versions.SENDFILE_ALWAYS_SEEKS else b"not"
                assert await loop.sock_sendfile(ours, memory) == len(expected)
                assert await self.receive(theirs, len(expected)) == expected

        run(main())

    def test_files_that_the_kernel_cannot_send(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.setblocking(False)
                with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                    await loop.sock_sendfile(ours, io.BytesIO(DATA), fallback=False)
                memory = io.BytesIO(DATA)
                sent, received = await asyncio.gather(
                    loop.sock_sendfile(ours, memory, 10), self.receive(theirs, len(DATA) - 10)
                )
                assert sent == len(DATA) - 10
                assert received == DATA[10:]
                assert memory.tell() == len(DATA)

        run(main())

    def test_a_pipe_goes_by_hand(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.setblocking(False)
                reader, writer = os.pipe()
                with open(reader, "rb", buffering=0) as pipe:
                    os.write(writer, b"through a pipe")
                    os.close(writer)
                    # Its size is 0, so the kernel is not asked: what asyncio does with a pipe is nothing.
                    assert await loop.sock_sendfile(ours, pipe) == 0
                    assert pipe.read() == b"through a pipe"

        run(main())

    def test_cancellation_leaves_no_watch(self, run: Run, long: BinaryIO) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                sending = asyncio.ensure_future(loop.sock_sendfile(ours, long))
                await turn(10)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                await turn()
                assert not loop.remove_writer(ours)

        run(main())

    @pytest.mark.weft_only  # asyncio leaves the file where it was
    def test_cancellation_tells_how_much_was_sent(self, run: Run, long: BinaryIO) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                with ours:
                    ours.setblocking(False)
                    sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendfile(ours, long))
                    await turn(10)
                    sending.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await sending
                received = 0
                while chunk := theirs.recv(1 << 20):
                    received += len(chunk)
                assert received == long.tell() > 0

        run(main())

    def test_refuses_other_sockets(self, run: Run, file: BinaryIO) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                    await loop.sock_sendfile(sock, file)
            loop.set_debug(True)
            with socket.socket() as sock:
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    await loop.sock_sendfile(sock, file)
            with socket.create_server(("127.0.0.1", 0)) as plain:
                with server_context().wrap_socket(plain, server_side=True) as tls:
                    tls.setblocking(False)
                    with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                        await loop.sock_sendfile(tls, file)
            loop.set_debug(False)

        run(main())
