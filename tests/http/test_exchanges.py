"""Exchanges that end well though they look odd, and readers that go away: what comes, and who has the connection."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from tests.frameworks.kit import digest
from tests.http.dialkit import until_sockets
from tests.http.rawkit import OK, Peer, Run, always, counts, once, playing, settled, within
from tests.loop.kit import open_sockets
from weft import http

EMPTY = [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Encoding: gzip\r\n\r\n"),
    ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ("GET", b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n"),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Encoding: gzip\r\n\r\n"),
    ("GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
]


@pytest.mark.parametrize("method, answer", EMPTY)
def test_no_body(run: Run, method: str, answer: bytes) -> None:
    """The response is complete with its head, and the connection takes the next request."""

    async def script(peer: Peer) -> None:
        await peer.answer(answer)
        await peer.answer()

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            response = await within(client.request(method, server.url()))
            assert response.status == int(answer[9:12])
            assert counts(client) == (1, 1, 0)
            assert await within(response.read()) == b""
            assert await within((await client.get(server.url())).read()) == b"ok"

    run(main())


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


@pytest.mark.parametrize("pieces", [[INTERIM + OK], [INTERIM, OK], [INTERIM[:30], INTERIM[30:] + OK[:5], OK[5:]]])
def test_interim_responses_are_passed_over(run: Run, pieces: list[bytes]) -> None:
    async def main() -> None:
        async with playing(once(*pieces)) as server, http.Client() as client:
            response = await within(client.get(server.url()))
            assert (response.status, await response.read(), dict(response.headers)) == (
                200, b"ok", {"Content-Length": "2"},
            )  # fmt: skip
            assert counts(client) == (1, 1, 0)

    run(main())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nfoo\r\n3\r\nbar\r\n0\r\nX-Sum: 6\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_cut_of_the_packets_changes_nothing(run: Run, size: int) -> None:
    async def main() -> None:
        pieces = [CHUNKED[start : start + size] for start in range(0, len(CHUNKED), size)]
        async with playing(once(*pieces)) as server, http.Client() as client:
            response = await within(client.get(server.url()))
            assert await within(response.read()) == b"foobar"
            assert dict(response.trailers) == {"X-Sum": "6"}
            assert counts(client) == (1, 1, 0)

    run(main())


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_body_until_the_connection_closes(run: Run, head: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head, b"one ", b"two")
        await peer.close()

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            assert await within((await client.get(server.url())).read()) == b"one two"
            await settled(client, 0, 0)

    run(main())


KEPT = [
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", True),
]


@pytest.mark.parametrize("answer, is_kept", KEPT)
def test_who_keeps_the_connection(run: Run, answer: bytes, is_kept: bool) -> None:
    async def main() -> None:
        async with playing(once(answer)) as server, http.Client() as client:
            assert await within((await client.get(server.url())).read()) == b"ok"
            await settled(client, int(is_kept), int(is_kept))

    run(main())


LONG = 100_000_000


def never_ends(length: int = LONG) -> Any:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nsome" % length)

    return script


@pytest.mark.parametrize("how", ["close", "block", "session", "collected", "never awaited"])
def test_a_reader_that_goes_away_gives_its_slot_back(run: Run, how: str) -> None:
    async def leave(client: http.Client, url: str) -> None:
        if how == "close":
            (await client.get(url)).close()
        elif how == "block":
            async with client.get(url):
                pass
        elif how == "session":
            async with client.get(url) as response:
                async for piece in response:
                    assert piece == b"some"
                    break
        elif how == "collected":
            await client.get(url)
            gc.collect()
        else:
            client.get(url).close()

    async def main() -> None:
        async with playing(never_ends(), always()) as server, http.Client(limits=http.Limits(total=1)) as client:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await within(leave(client, server.url()))
            assert [entry.category for entry in caught] == [ResourceWarning] * (how == "collected")
            if how == "never awaited":
                assert counts(client) == (0, 0, 0)
                return
            assert await within((await client.get(server.url())).read()) == b"ok"
            await settled(client, 1, 1)
            assert len(server.peers) == 2

    run(main())


def test_a_short_rest_is_read_so_that_the_connection_lives(run: Run) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsome")
        await read.wait()
        await peer.send(b"more")
        await peer.answer()

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            async with client.get(server.url()):
                pass
            assert counts(client) == (1, 0, 0)
            read.set()
            await settled(client, 1, 1)
            assert await within((await client.get(server.url())).read()) == b"ok"

    read = asyncio.Event()
    run(main())


def test_a_slow_reader_holds_the_server_back(run: Run) -> None:
    """What the server may send ahead is bounded, whatever the length of the body, and all of it arrives."""
    body = bytes(range(251)) * 100_000  # 25 MB
    progress = {"sent": 0}

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 100_000):
            peer.writer.write(body[start : start + 100_000])
            await peer.writer.drain()
            progress["sent"] += 100_000

    async def standstill() -> int:
        while True:
            before = progress["sent"]
            await asyncio.sleep(0.1)  # with both ends in this loop, nothing can be under way for so long
            if progress["sent"] == before:
                return before

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            async with client.get(server.url()) as response:
                first = await within(response.chunk())
                assert await within(standstill()) < 15_000_000
                pieces = [first] + [piece async for piece in response]
            assert digest(b"".join(pieces)) == digest(body)
            assert counts(client) == (1, 1, 0)

    run(main())


def test_an_answer_before_the_body_has_gone_up(run: Run) -> None:
    """The answer counts, the rest of the body stays here, and the connection is not used again."""
    state: dict[str, Any] = {"sent": 0, "closed": False}

    async def body() -> Any:
        try:
            while True:
                state["sent"] += 1
                yield b"x" * 65536
        finally:
            state["closed"] = True

    async def early(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch")
        # It reads nothing more, and does not close.
        await state["over"].wait()

    async def main() -> None:
        state["over"] = asyncio.Event()
        async with playing(early, always()) as server, http.Client(limits=http.Limits(total=1)) as client:
            before = open_sockets()
            async with client.post(server.url(), content=body()) as response:
                assert (response.status, await within(response.read())) == (413, b"much")
            assert await within((await client.get(server.url())).read()) == b"ok"
            await settled(client, 1, 1)
            assert state["closed"]
            await until_sockets(before + 3)  # the server's of the first connection stays, ours does not
            state["over"].set()

    run(main())


def test_an_answer_to_a_long_body_in_memory(run: Run) -> None:
    """As the one before, for a body that leaves with its head: its rest must not keep the connection."""

    async def early(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nmuch")
        await over.wait()

    async def main() -> None:
        async with playing(early, always()) as server, http.Client(limits=http.Limits(total=1)) as client:
            async with client.post(server.url(), content=b"x" * 50_000_000) as response:
                assert (response.status, await within(response.read())) == (413, b"much")
            assert await within((await client.get(server.url())).read()) == b"ok"
            over.set()

    over = asyncio.Event()
    run(main())


def test_an_error_in_the_body_is_the_error_of_the_request(run: Run) -> None:
    async def body() -> Any:
        yield b"first"
        raise KeyError("second")

    async def script(peer: Peer) -> None:
        assert b"transfer-encoding: chunked" in (await peer.head()).lower()
        rest = await peer.gone()
        assert rest in (b"", b"5\r\nfirst\r\n")  # and no end of the body

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            with pytest.raises(KeyError, match="second"):
                await within(client.post(server.url(), content=body()))
            await settled(client, 0, 0)

    run(main())


@pytest.mark.parametrize("pieces, text", [([b"abc"], "ended 2 bytes before"), ([b"abc", b"def"], "longer than")])
def test_a_body_of_another_length_than_its_header_says(run: Run, pieces: list[bytes], text: str) -> None:
    """``Content-Length`` is taken from the caller's headers where the body does not tell."""

    async def body() -> Any:
        for piece in pieces:
            yield piece

    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert b"Content-Length: 5\r\n" in head
        assert b"chunked" not in head
        await peer.gone()

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            with pytest.raises(http.BodyError, match=text) as caught:
                await within(client.put(server.url(), content=body(), headers={"Content-Length": "5"}))
            assert caught.value.url == server.url()
            await settled(client, 0, 0)

    run(main())
