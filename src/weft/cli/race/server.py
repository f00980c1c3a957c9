"""The embedded server of ``weft race``: answers every GET after a fixed latency, however many are waiting.

Invariant: it costs a contender nothing but the latency: one process of its own, one timer per request, one write per
answer, connections kept open. It tells its port on standard output, and ends when its standard input does.
Started by ``processes``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import cast

from weft.cli.race.processes import become_child

__all__ = ["main"]

BACKLOG = 4096  # all of 1000 clients may knock at once; the kernel's own limit (somaxconn) is 4096 on most systems
BODY = b'{"answer": "the same for everybody", "padding": "%s"}\n' % (b"." * 972)  # 1 KiB
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + b"%d\r\n\r\n" % len(BODY) + BODY
HEAD_LIMIT = 65536  # bytes; more than that without an end is no request


def main() -> None:
    """Serves on an ephemeral loopback port with the latency (seconds) that the command line names."""
    become_child()
    from weft import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(float(sys.argv[1])))


async def _serve(latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(latency), "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    orphaned = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), orphaned.set)  # readable means closed: nothing is ever sent
    await orphaned.wait()
    os._exit(0)  # nobody is left for whom to close connections with care


class _Answering(asyncio.Protocol):
    """One connection. Looks only for the end of each request's head: a GET has no body."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for head in heads:
            self._loop.call_later(self._latency, self._answer, b"\r\nconnection: close" in head.lower())
        if len(self._rest) > HEAD_LIMIT:
            self._transport.abort()

    def _answer(self, last: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)
            if last:
                self._transport.close()
