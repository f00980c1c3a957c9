"""Tunnels for tests: over asyncio's streams, and a peer in memory that a test plays itself."""

from __future__ import annotations

import asyncio
from typing import Any

from weft.http.wsframes import Deflate, Frames, Message


class StreamTunnel:
    """Over ``asyncio.open_connection``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> bytes:
        return await self.reader.read(65536)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def drain(self) -> None:
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()

    def get_extra_info(self, name: str) -> Any:
        return self.writer.get_extra_info(name)


class Peer:
    """A tunnel whose other end is the test: it says what comes, and sees what was sent."""

    def __init__(self, deflate: Deflate | None = None) -> None:
        self.frames = Frames(deflate=deflate, client=False)
        self.got: list[Message] = []
        self.closed = self.aborted = 0
        self.broken: Exception | None = None
        self.reads = 0
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.answers_close = True
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._changed = asyncio.Event()

    # -- the test's side

    def say(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    async def until(self, count: int) -> list[Message]:
        """What was sent, once that are so many messages."""
        while len(self.got) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.got

    async def until_ended(self) -> None:
        while not (self.closed or self.aborted):
            self._changed.clear()
            await self._changed.wait()

    # -- the tunnel

    async def read(self) -> bytes:
        self.reads += 1
        if self.broken is not None:
            raise self.broken
        if (self.closed or self.aborted) and self._queue.empty():
            return b""
        return await self._queue.get()

    def write(self, data: bytes) -> None:
        for message in self.frames.feed(data):
            self.got.append(message)
            if message.type == 8 and self.frames.may_close and self.answers_close:
                self.say(self.frames.close(message.data))
        self._changed.set()

    async def drain(self) -> None:
        if self.broken is not None:
            raise self.broken
        await self.may_write.wait()

    def close(self) -> None:
        self.closed += 1
        self.say(b"")
        self._changed.set()

    def abort(self) -> None:
        self.aborted += 1
        self.say(b"")
        self._changed.set()

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.1", 80)}.get(name)
