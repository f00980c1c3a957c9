"""A pool in which nothing moves says so, and the list of public suffixes is not read on the loop."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from tests.http.rawkit import Peer, Run, playing, settled, within
from weft import http
from weft.http import cookies

LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"


class Said(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.event.set()


def test_unread_responses_that_hold_every_connection(run: Run) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(LARGE + bytes(4_000_000))

    async def main() -> None:
        said = Said()
        logger = logging.getLogger("weft.http")
        logger.addHandler(said)
        try:
            limits = http.Limits(total=1, keepalive=0.05)
            async with playing(script) as server, http.Client(limits=limits) as client:
                response = await within(client.get(server.url()))
                second = asyncio.create_task(client.get(server.url()))
                await within(said.event.wait())
                second.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await second
                response.release()
                await settled(client, 0, 0)
        finally:
            logger.removeHandler(said)
        assert len(said.texts) == 1
        assert said.texts[0].startswith("1 requests wait for a connection, and all 1 have been in use")

    run(main())


def test_the_list_of_suffixes_is_read_in_a_thread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("publicsuffixlist", reason="not installed: publicsuffixlist (weft[http])")
    import publicsuffixlist

    threads = []
    real = publicsuffixlist.PublicSuffixList

    def watched() -> object:
        threads.append(threading.current_thread())
        return real()

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.answer(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Domain=example.com\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            for _ in range(2):
                await within((await client.get(server.url())).read())
        assert [thread is threading.main_thread() for thread in threads] == [False]

    cookies.load_public_suffixes.cache_clear()
    monkeypatch.setattr(publicsuffixlist, "PublicSuffixList", watched)
    try:
        run(main())
    finally:
        cookies.load_public_suffixes.cache_clear()


def test_connections_that_are_not_kept(run: Run) -> None:
    """``keepalive=0``: a connection for each request."""

    async def script(peer: Peer) -> None:
        await peer.answer()

    async def main() -> None:
        limits = http.Limits(keepalive=0)
        async with playing(script, script) as server, http.Client(limits=limits) as client:
            for _ in range(2):
                assert await within((await client.get(server.url())).read()) == b"ok"
                await settled(client, 0, 0)
            assert len(server.peers) == 2

    run(main())
