"""Pipes as transports."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loop.kit import Recorder, Run


@pytest.fixture
def pipe() -> Iterator[tuple[Any, Any]]:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as read_end, open(writer, "wb", buffering=0) as write_end:
        yield read_end, write_end


class TestReadPipe:
    def test_reads_to_the_end(self, run: Run, pipe: tuple[Any, Any]) -> None:
        async def main() -> None:
            read_end, write_end = pipe
            transport, protocol = await asyncio.get_running_loop().connect_read_pipe(Recorder, read_end)
            assert protocol.made.result() is transport
            assert transport.get_extra_info("pipe") is read_end
            write_end.write(b"hello")
            assert await protocol.receive(5) == b"hello"
            write_end.close()
            assert await protocol.lost is None
            assert protocol.eof
            assert read_end.closed

        run(main())

    def test_a_socket_is_as_good(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                transport, protocol = await asyncio.get_running_loop().connect_read_pipe(Recorder, ours)
                theirs.send(b"hello")
                assert await protocol.receive(5) == b"hello"
                transport.close()
                await protocol.lost

        run(main())

    def test_refuses_files(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            with open(tmp_path / "file", "w+b") as file:
                with pytest.raises(ValueError, match=r"Pipe transport is"):
                    await asyncio.get_running_loop().connect_read_pipe(Recorder, file)
                assert not file.closed

        run(main())

    def test_cancellation_closes_the_pipe(self, run: Run, pipe: tuple[Any, Any]) -> None:
        async def main() -> None:
            connecting = asyncio.ensure_future(asyncio.get_running_loop().connect_read_pipe(Recorder, pipe[0]))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            while not pipe[0].closed:
                await asyncio.sleep(0)

        run(main())


class TestWritePipe:
    def test_writes_to_the_end(self, run: Run, pipe: tuple[Any, Any]) -> None:
        async def main() -> None:
            read_end, write_end = pipe
            transport, protocol = await asyncio.get_running_loop().connect_write_pipe(Recorder, write_end)
            transport.write(b"hello")
            transport.close()
            assert await protocol.lost is None
            assert read_end.read() == b"hello"
            assert write_end.closed

        run(main())

    def test_notices_that_nobody_reads(self, run: Run, pipe: tuple[Any, Any]) -> None:
        async def main() -> None:
            transport, protocol = await asyncio.get_running_loop().connect_write_pipe(Recorder, pipe[1])
            pipe[0].close()
            await protocol.lost
            assert transport.is_closing()

        run(main())

    def test_refuses_files(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            with open(tmp_path / "file", "w+b") as file:
                with pytest.raises(ValueError, match=r"Pipe transport is"):
                    await asyncio.get_running_loop().connect_write_pipe(Recorder, file)
                assert not file.closed

        run(main())
