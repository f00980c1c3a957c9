"""A request that is cancelled, wherever it waits: what is left is exactly what the others need."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from tests.http.dialkit import CancelledAt, client_tls, server_tls
from tests.http.rawkit import OK, Peer, Run, always, counts, playing, settled, within
from tests.loop.kit import unreachable
from weft import http

BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000


async def whole(client: http.Client, url: str, **options: Any) -> bytes:
    async with client.request("POST" if options else "GET", url, **options) as response:
        data: bytes = await response.read()
        return data


def pieces() -> Any:
    async def body() -> Any:
        for _ in range(3):
            yield b"x" * 1000
            await asyncio.sleep(0)

    return body()


async def polite(peer: Peer) -> None:
    """Answers slowly, in pieces, as often as it is asked."""
    while True:
        await peer.request()
        await peer.send(BODY[:10], BODY[10:60], BODY[60:100_000], BODY[100_000:])


@pytest.mark.parametrize("how", CancelledAt.HOW)
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("uploads", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_cancelled_at_every_await(run: Run, how: str, secure: bool, uploads: bool, warm: bool) -> None:
    """With one connection allowed, the next request would wait for ever if the slot of the cancelled one were lost."""

    async def at(number: int) -> bool:
        scripts = [polite] * 4
        tls = server_tls() if secure else None
        limits = http.Limits(total=1)
        async with (
            playing(*scripts, tls=tls) as server,
            http.Client(limits=limits, tls=client_tls() if secure else True, http2=False) as client,
        ):
            url = server.url(scheme="https" if secure else "http").replace("127.0.0.1", "localhost")
            if warm:
                await within(whole(client, url))
            options = {"content": pieces()} if uploads else {}
            step = CancelledAt(whole(client, url, **options), number, how)
            with contextlib.suppress(asyncio.CancelledError):
                await within(step)
            assert client.transport.pool.count <= 1  # type: ignore[attr-defined]
            assert len(await within(whole(client, url))) == 200_000
            await settled(client, 1, 1)
        return step.reached

    async def main() -> None:
        number = 0
        while await at(number):
            number += 1
        assert number >= 2  # for the head and the body at least

    run(main())


def test_cancelled_while_connecting(run: Run) -> None:
    """The dial goes on for whoever comes next: cancelling a request does not throw away half a connection."""

    async def main() -> None:
        with unreachable() as (host, port):
            async with http.Client(limits=http.Limits(total=1)) as client:
                task = asyncio.create_task(whole(client, f"http://{host}:{port}/"))
                await settled(client, 1, 0, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert counts(client) == (1, 0, 0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_cancelled_while_waiting_for_a_slot(run: Run) -> None:
    """Of three who wait, the second goes: the others are served, in their order."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await go.wait()
            await peer.send(OK)
            await peer.answer(times=2)

        go = asyncio.Event()
        async with playing(script) as server, http.Client(limits=http.Limits(total=1)) as client:
            first = asyncio.create_task(whole(client, server.url("/0")))
            await server.asked()
            tasks = [asyncio.create_task(whole(client, server.url(f"/{number}"))) for number in (1, 2, 3)]
            await settled(client, 1, 0, 3)
            tasks[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[1]
            assert counts(client)[2] == 2
            go.set()
            assert await within(asyncio.gather(first, tasks[0], tasks[2])) == [b"ok"] * 3
            paths = [line.split()[1] for line in server.peers[0].received.split(b"\r\n") if line.startswith(b"GET")]
            assert paths == [b"/0", b"/1", b"/3"]
            await settled(client, 1, 1)

    run(main())


def test_cancelled_together_with_the_connection_being_handed_over(run: Run) -> None:
    """Who is cancelled with a connection in his hands passes it on."""

    async def main() -> None:
        async with playing(always()) as server, http.Client(limits=http.Limits(total=1)) as client:
            async with client.get(server.url()) as response:
                waiting = [asyncio.create_task(whole(client, server.url())) for _ in range(2)]
                await settled(client, 1, 1, 0)  # the first is complete, and nobody has begun
                for _ in range(2):
                    await asyncio.sleep(0)
                await response.read()
            await within(asyncio.gather(*waiting))
            (connection,) = client.transport.pool.connections  # type: ignore[attr-defined]
            bucket = connection.bucket
            taken = bucket.take()
            waiting = [asyncio.create_task(whole(client, server.url())) for _ in range(2)]
            await settled(client, 1, 0, 2)
            client.transport.pool.changed(taken)  # type: ignore[attr-defined]
            waiting[0].cancel()
            assert await within(waiting[1]) == b"ok"
            assert waiting[0].cancelled()
            await settled(client, 1, 1)

    run(main())


def test_a_storm_of_cancellations(run: Run) -> None:
    """Requests to two hosts over few connections, each cancelled somewhere: every slot comes back."""

    async def main() -> None:
        async with (
            playing(*[polite] * 200) as one,
            playing(*[polite] * 200) as two,
            http.Client(limits=http.Limits(total=3, per_host=2)) as client,
        ):
            urls = [one.url(), two.url()]

            async def step(number: int) -> None:
                how = CancelledAt.HOW[number % 3]
                options = {"content": pieces()} if number % 5 == 0 else {}
                await CancelledAt(whole(client, urls[number % 2], **options), number % 7, how)

            tasks = [asyncio.create_task(step(number)) for number in range(150)]
            await within(asyncio.gather(*tasks, return_exceptions=True))
            assert {type(task.exception()) for task in tasks if not task.cancelled()} <= {type(None)}
            for url in urls:
                assert len(await within(whole(client, url))) == 200_000
            pool = client.transport.pool  # type: ignore[attr-defined]
            await settled(client, pool.count, pool.count)
            assert pool.count <= 3

    run(main())
