"""What goes wrong on the wire: for each way the one error, with its URL, whose fault it is, and the cause."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.http.rawkit import OK, Peer, Run, always, counts, once, playing, settled, within
from tests.loop.kit import refused
from weft import http


async def failing(url: str, **options: Any) -> http.HTTPError:
    """The error of a GET, after which the client has no connection left."""
    async with http.Client(timeout=http.Timeout(None, None, None, None, None)) as client:
        with pytest.raises(http.HTTPError) as caught:
            async with client.get(url, **options) as response:
                await within(response.read())
        await settled(client, 0, 0)
    return caught.value


def check(error: http.HTTPError, kind: type[http.HTTPError], blame: str, url: str) -> None:
    assert type(error) is kind
    assert error.blame == blame
    assert error.url == url
    assert str(error).startswith(f"{url}: ")
    assert str(error).count(url) == 1


def test_nobody_listens(run: Run) -> None:
    with refused() as (_, port):
        url = f"http://127.0.0.1:{port}/x"
        error = run(failing(url))
    check(error, http.ConnectError, "network", url)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert error.errno == error.__cause__.errno


def test_a_name_without_address(run: Run) -> None:
    async def resolver(host: str) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> http.HTTPError:
        async with http.Client(resolver=resolver) as client:
            with pytest.raises(http.HTTPError) as caught:
                await client.get("http://nowhere.example/x")
            assert counts(client) == (0, 0, 0)
        return caught.value

    error = run(main())
    check(error, http.ResolveError, "network", "http://nowhere.example/x")
    assert isinstance(error.__cause__, socket.gaierror)


async def close(peer: Peer) -> None:
    await peer.request()
    await peer.close()


async def reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def half_close(peer: Peer) -> None:
    await peer.request()
    peer.writer.write_eof()


@pytest.mark.parametrize("end", [close, reset, half_close])
def test_no_answer(run: Run, end: Any) -> None:
    async def main() -> None:
        async with playing(end) as server:
            error = await failing(server.url("/x"))
            check(error, http.PeerClosedError, "peer", server.url("/x"))
            if end is reset:
                assert isinstance(error.__cause__, ConnectionResetError)

    run(main())


HALF_HEADS = [b"H", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r"]
HALF_BODIES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("part", [*HALF_HEADS, *HALF_BODIES])
def test_half_an_answer(run: Run, part: bytes, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(part)
        if end == "close":
            await peer.close()
        else:
            peer.reset()

    async def main() -> None:
        async with playing(script) as server:
            error = await failing(server.url())
            check(error, http.IncompleteBodyError, "peer", server.url())
            assert isinstance(error.__cause__, ConnectionResetError if end == "reset" else type(None))

    run(main())


def test_a_body_until_close_that_is_reset_is_not_complete(run: Run) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        peer.reset()

    async def main() -> None:
        async with playing(script) as server:
            check(await failing(server.url()), http.IncompleteBodyError, "peer", server.url())

    run(main())


NOT_HTTP = [
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n",
]


@pytest.mark.parametrize("cut", [None, 9, 25])
@pytest.mark.parametrize("answer", NOT_HTTP)
def test_what_is_not_http(run: Run, answer: bytes, cut: int | None) -> None:
    """It is an error, and nothing of it comes with the next response, which has a connection of its own."""

    async def main() -> None:
        pieces = [answer] if cut is None else [answer[:cut], answer[cut:]]
        async with playing(once(*pieces), always()) as server, http.Client() as client:
            with pytest.raises(http.PeerProtocolError) as caught:
                async with client.get(server.url("/x")) as response:
                    await within(response.read())
            check(caught.value, http.PeerProtocolError, "peer", server.url("/x"))
            assert await within((await client.get(server.url())).read()) == b"ok"
            await settled(client, 1, 1)

    run(main())


@pytest.mark.parametrize("surplus", [b"x", OK, b"HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("together", [True, False])
def test_what_nobody_asked_for_is_not_the_next_answer(run: Run, surplus: bytes, together: bool) -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"

    async def main() -> None:
        pieces = [first + surplus] if together else [first, surplus]
        async with playing(once(*pieces), always()) as server, http.Client() as client:
            assert await within((await client.get(server.url())).read()) == b"first"
            await server.peers[0].ended.wait()  # the client has closed it
            assert await within((await client.get(server.url())).read()) == b"ok"
            assert len(server.peers) == 2

    run(main())


def test_a_request_that_cannot_be_sent_opens_no_connection(run: Run) -> None:
    async def main() -> None:
        async with playing() as server, http.Client() as client:
            for headers in ({"X": "a\r\nb"}, {"a b": "c"}, {"X": "\0"}):
                with pytest.raises(http.InvalidHeaderError) as caught:
                    await client.get(server.url(), headers=headers)
                assert caught.value.blame == "caller"
                assert caught.value.url == server.url()
            with pytest.raises(http.InvalidHeaderError):
                await client.request("GET /", server.url())
            for url in (
                "ftp://127.0.0.1/",
                "/x",
                "http://",
                "http://a b/",
                "http://127.0.0.1:99999/",
                "http://a\r\nb/",
            ):
                with pytest.raises(http.InvalidURLError):
                    await client.get(url)
            assert counts(client) == (0, 0, 0)

    run(main())


def test_a_closed_client(run: Run) -> None:
    async def main() -> None:
        async with playing(always()) as server:
            client = http.Client()
            await client.get(server.url())
            await client.aclose()
            with pytest.raises(http.ClientClosedError) as caught:
                await client.get(server.url())
            assert caught.value.blame == "caller"
            assert caught.value.url == server.url()
            await client.aclose()

    run(main())


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_closing_the_client_ends_what_is_under_way(run: Run, part: bytes) -> None:
    """Whoever waits for a head, or for a connection, is told that the client was closed, and by whose fault."""

    async def main() -> None:
        started = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(part)
            started.set()

        client = http.Client(limits=http.Limits(total=1))
        async with playing(script) as server:
            first = asyncio.ensure_future(client.get(server.url("/1"))._coroutine)
            await started.wait()
            second = asyncio.ensure_future(client.get(server.url("/2"))._coroutine)
            await settled(client, 1, 0, 1)
            await client.aclose()
            for task, path in ((first, "/1"), (second, "/2")):
                with pytest.raises(http.ClientClosedError) as caught:
                    await within(task)
                assert caught.value.url == server.url(path)

    run(main())


def test_closing_the_client_while_a_body_goes_up(run: Run) -> None:
    """The body's source is closed, its task ends, and whoever waits is told."""
    state: dict[str, Any] = {"closed": False}

    async def body() -> Any:
        try:
            while True:
                yield b"x" * 100
                await asyncio.sleep(0)
        finally:
            state["closed"] = True

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.reader.read(1000)
        started.set()

    started = asyncio.Event()

    async def main() -> None:
        client = http.Client()
        async with playing(script) as server:
            task = asyncio.ensure_future(client.post(server.url(), content=body())._coroutine)
            await started.wait()
            before = asyncio.all_tasks()
            await client.aclose()
            assert state["closed"]
            with pytest.raises(http.ClientClosedError):
                await within(task)
            assert not {one for one in asyncio.all_tasks() if "send_body" in repr(one)}
            assert before

    run(main())
