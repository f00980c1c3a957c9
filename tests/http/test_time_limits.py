"""Each of the five time limits, what counts into which, and how many connections there may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http.rawkit import OK, Peer, Run, always, counts, playing, settled, within
from tests.loop.kit import unreachable
from weft import http

SHORT = 0.05

NONE = {"total": None, "connect": None, "pool": None, "first_byte": None, "idle": None}


def only(**limits: float) -> http.Timeout:
    return http.Timeout(**(NONE | limits))


async def whole(client: http.Client, url: str, **options: Any) -> bytes:
    async with client.get(url, **options) as response:
        data: bytes = await response.read()
        return data


def stalling(*pieces: bytes) -> Any:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
STALLS = [
    ("total", [], http.TotalTimeoutError),
    ("total", [HEAD], http.TotalTimeoutError),
    ("total", [HEAD, b"some"], http.TotalTimeoutError),
    ("first_byte", [], http.FirstByteTimeoutError),
    ("first_byte", [HEAD[:20]], http.FirstByteTimeoutError),
    ("idle", [HEAD], http.IdleTimeoutError),
    ("idle", [HEAD, b"some"], http.IdleTimeoutError),
    ("idle", [b"HTTP/1.1 200 OK\r\n\r\n", b"some"], http.IdleTimeoutError),
]


@pytest.mark.parametrize("name, pieces, kind", STALLS)
@pytest.mark.parametrize("of_the_client", [True, False])
def test_a_server_that_stalls(run: Run, name: str, pieces: Any, kind: Any, of_the_client: bool) -> None:
    async def main() -> None:
        limit = only(**{name: SHORT})
        for_client: dict[str, Any]
        for_request: dict[str, Any]
        for_client, for_request = ({"timeout": limit}, {}) if of_the_client else ({}, {"timeout": limit})
        async with playing(stalling(*pieces), always()) as server, http.Client(**for_client) as client:
            with pytest.raises(http.HTTPTimeoutError) as caught:
                await within(whole(client, server.url("/x"), **for_request))
            assert type(caught.value) is kind
            assert isinstance(caught.value, TimeoutError)
            assert caught.value.url == server.url("/x")
            await settled(client, 0, 0)
            assert await within(whole(client, server.url(), timeout=None)) == b"ok"

    run(main())


def test_the_limit_on_connecting(run: Run) -> None:
    async def main() -> None:
        with unreachable() as (host, port):
            url = f"http://{host}:{port}/"
            async with http.Client(timeout=only(connect=SHORT)) as client:
                with pytest.raises(http.ConnectTimeoutError) as caught:
                    await within(client.get(url))
                assert caught.value.url == url
                assert isinstance(caught.value, http.ConnectError)
                await settled(client, 0, 0)
            async with http.Client(timeout=only(total=SHORT)) as client:
                with pytest.raises(http.TotalTimeoutError):
                    await within(client.get(url))
                assert counts(client)[2] == 0

    run(main())


def test_the_wait_for_a_slot_has_its_own_limit(run: Run) -> None:
    async def main() -> None:
        async with playing(stalling()) as server, http.Client(limits=http.Limits(total=1)) as client:
            first = asyncio.create_task(whole(client, server.url(), timeout=None))
            await server.asked()
            with pytest.raises(http.PoolTimeoutError) as caught:
                await within(whole(client, server.url("/x"), timeout=only(pool=SHORT)))
            assert caught.value.blame == "caller"
            assert caught.value.url == server.url("/x")
            assert counts(client) == (1, 0, 0)
            first.cancel()

    run(main())


@pytest.mark.parametrize("redirects", [False, True])
def test_the_wait_for_a_slot_is_in_no_other_limit(run: Run, redirects: bool) -> None:
    """With a total limit that is shorter than the wait, the request is made all the same, and those that follow."""
    total = 0.3

    async def main() -> None:
        go = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await go.wait()
            await peer.send(OK)
            if redirects:
                await peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
            await peer.answer()

        async with playing(script) as server, http.Client(limits=http.Limits(total=1)) as client:
            first = asyncio.create_task(whole(client, server.url(), timeout=None))
            await server.asked()
            second = asyncio.create_task(whole(client, server.url(), timeout=only(total=total)))
            await settled(client, 1, 0, 1)
            asyncio.get_running_loop().call_later(2 * total, go.set)
            assert await within(asyncio.gather(first, second)) == [b"ok"] * 2

    run(main())


def test_the_total_limit_counts_over_redirects(run: Run) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        async with playing(script) as server, http.Client(max_redirects=10**9) as client:
            with pytest.raises(http.TotalTimeoutError):
                await within(whole(client, server.url(), timeout=only(total=0.2)))
            await settled(client, 0, 0)

    run(main())


def test_a_server_that_reads_is_not_silent(run: Run) -> None:
    """While a body goes up, the first byte of the answer is not due."""
    limit = 0.2

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def body() -> Any:
            end = loop.time() + 3 * limit
            while loop.time() < end:
                yield b"x" * 100
                await asyncio.sleep(limit / 20)

        async with playing(always()) as server, http.Client() as client:
            call = client.post(server.url(), content=body(), timeout=only(first_byte=limit))
            assert await within((await within(call)).read()) == b"ok"

    run(main())


def test_a_server_that_does_not_read_is_silent(run: Run) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await over.wait()

    async def main() -> None:
        async with playing(script) as server, http.Client() as client:
            with pytest.raises(http.FirstByteTimeoutError):
                await within(client.post(server.url(), content=b"x" * 50_000_000, timeout=only(first_byte=SHORT)))
            await settled(client, 0, 0)
            over.set()

    over = asyncio.Event()
    run(main())


def test_a_reader_that_pauses_is_not_a_silent_server(run: Run) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        await peer.send(b"x" * 10_000_000)

    async def main() -> None:
        async with playing(script) as server, http.Client(timeout=only(idle=0.1)) as client:
            async with client.get(server.url()) as response:
                size = len(await response.chunk())
                await asyncio.sleep(0.5)  # the reader's own business, longer than the limit
                async for piece in response:
                    size += len(piece)
            assert size == 10_000_000

    run(main())


@pytest.mark.parametrize("limits, most", [({"total": 3}, 3), ({"per_host": 2}, 2), ({"total": 3, "per_host": 2}, 2)])
def test_there_are_never_more_connections_than_allowed(run: Run, limits: dict[str, int], most: int) -> None:
    now = {"busy": 0, "most": 0}

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            now["busy"] += 1
            now["most"] = max(now.values())
            for _ in range(5):
                await asyncio.sleep(0)
            now["busy"] -= 1
            await peer.send(OK)

    async def main() -> None:
        async with playing(*[script] * most) as server, http.Client(limits=http.Limits(**limits)) as client:
            assert await within(asyncio.gather(*[whole(client, server.url()) for _ in range(40)])) == [b"ok"] * 40
            assert now["most"] == most
            await settled(client, most, most)

    run(main())


def test_the_limit_in_all_goes_over_hosts(run: Run) -> None:
    """An idle connection to one host makes room for another host, and whoever waits longest comes first."""

    async def main() -> None:
        async with (
            playing(*[always()] * 20) as one,
            playing(*[always()] * 20) as two,
            http.Client(limits=http.Limits(total=2)) as client,
        ):
            for _ in range(3):
                calls = [whole(client, server.url()) for server in (one, two) * 10]
                assert await within(asyncio.gather(*calls)) == [b"ok"] * 20
                assert counts(client)[0] <= 2
            await settled(client, 2, 2)

    run(main())


def test_a_burst_where_nobody_listens(run: Run) -> None:
    """Every one of those who wait is told, and nothing is left."""

    async def main() -> None:
        async with playing() as server:
            url = server.url()
        async with http.Client(limits=http.Limits(total=3)) as client:
            results = await within(asyncio.gather(*[whole(client, url) for _ in range(20)], return_exceptions=True))
            assert {type(result) for result in results} == {http.ConnectError}
            assert counts(client) == (0, 0, 0)

    run(main())
