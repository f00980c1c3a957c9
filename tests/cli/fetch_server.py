"""A small HTTP server on loopback for the tests of ``weft fetch``, in a thread with an asyncio loop of its own.

It answers by the path: ``/status/N``, ``/bytes/N``, ``/echo`` (the request as JSON), ``/redirect`` (to ``/``),
``/wait/...`` (when released), ``/cut`` (the connection ends within the body), ``/flaky/...`` (503 the first time);
anything else with the path as text, after ``delay`` seconds. It counts who asked for what.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Self

__all__ = ["Server"]

Answer = tuple[int, bytes, str]


class Server:
    """Use it in ``with``.

    Attributes:
        url: ``http://127.0.0.1:port``.
        asked: how often each path was asked for.
        most_under_way: requests at a time.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.asked: Counter[str] = Counter()
        self.most_under_way = self._under_way = 0
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="test-server")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def release(self) -> None:
        """Lets those who wait have their answer, now and from now on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def wait_until_asked(self, times: int, timeout: float = 30.0) -> None:
        """Waits until so many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked.total() >= times, timeout)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._released = asyncio.Event(), asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = [line.split(": ", 1) for line in lines if line]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        body = await reader.readexactly(length)
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            with self._changed:
                self.asked[path] += 1
                self._changed.notify_all()
            request = {"method": method, "headers": headers, "body": body.decode()}
            status, content, more = await self._answer(path, request)
        finally:
            self._under_way -= 1
        writer.write(f"HTTP/1.1 {status} Fine\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode())
        if path == "/cut":
            writer.write(content[:-1])
            return False
        writer.write(content)
        await writer.drain()
        return True

    async def _answer(self, path: str, request: object) -> Answer:
        word, _, value = path[1:].partition("/")
        if word == "status":
            return int(value), b"", ""
        if word == "bytes":
            return 200, b"x" * int(value), ""
        if word == "echo":
            return 200, json.dumps(request).encode(), "Content-Type: application/json\r\n"
        if word == "redirect":
            return 302, b"", "Location: /\r\n"
        if word == "wait":
            await self._released.wait()
        if word == "flaky" and self.asked[path] == 1:
            return 503, b"", ""
        await asyncio.sleep(self.delay)
        return 200, path.encode(), "Content-Type: text/plain\r\n"
