"""Connections that died while idle: not used where that can be known, and a repetition where it could not."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from typing import Any

import pytest

from tests.http.rawkit import OK, Peer, Recorded, Run, always, counts, playing, settled, within
from weft import http


async def answers_and_closes(peer: Peer) -> None:
    await peer.answer()
    await peer.close()


async def answers_and_resets(peer: Peer) -> None:
    await peer.answer()
    peer.reset()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("script", [answers_and_closes, answers_and_resets])
def test_a_connection_that_closed_while_idle_is_not_handed_out(run: Run, script: Any, method: str) -> None:
    async def main() -> None:
        async with playing(script, always()) as server, http.Client() as client:
            await within((await client.get(server.url())).read())
            await settled(client, 0, 0)
            assert await within((await client.request(method, server.url())).read()) == b"ok"
            assert len(server.peers) == 2

    run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_end_of_an_idle_connection_counts_at_once(run: Run, method: str) -> None:
    """A task that runs in the same turn of the loop as the end is seen does not get the connection any more."""

    async def main() -> None:
        async with playing(answers_and_closes, always()) as server, http.Client() as client:
            await within((await client.get(server.url())).read())
            (connection,) = client.transport.pool.connections  # type: ignore[attr-defined]
            while not connection.transport.is_closing():
                await asyncio.sleep(0)
            # The transport has not told that it is lost: it does so in the next turn.
            assert counts(client) == (0, 0, 0)
            assert await within((await client.request(method, server.url())).read()) == b"ok"

    run(main())


def closing_when_asked(how: str) -> Any:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.head()
        if how == "reset":
            peer.reset()
        else:
            await peer.close()

    return script


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated_once(run: Run, method: str, how: str) -> None:
    hooks = Recorded()

    async def main() -> None:
        async with playing(closing_when_asked(how), always()) as server, http.Client(hooks=hooks) as client:
            await within((await client.get(server.url())).read())
            answer = OK if method != "HEAD" else OK[:-2]
            assert answer
            response = await within(client.request(method, server.url("/again")))
            assert (response.status, await response.read()) == (200, b"" if method == "HEAD" else b"ok")
            await settled(client, 1, 1) if method != "HEAD" else None
            assert len(server.peers) == 2
            assert server.peers[1].received.startswith(f"{method} /again HTTP/1.1\r\n".encode())

    run(main())
    assert hooks.told == ["start", "connect", "first byte 200", "end 200 well"] * 2


def test_a_connection_that_was_idle_before_its_first_request_counts_as_used(run: Run) -> None:
    """It was made for a request that was cancelled meanwhile, and may have died since."""

    async def closes_when_asked(peer: Peer) -> None:
        await peer.head()
        await peer.close()

    async def resolver(host: str) -> tuple[list[str], float]:
        return ["127.0.0.1"], 60.0

    async def main() -> None:
        async with playing(closes_when_asked, always()) as server, http.Client(resolver=resolver) as client:
            url = f"http://a.test:{server.port}/"  # a name that must be looked up: the cancellation comes meanwhile
            unwanted = asyncio.ensure_future(client.get(url))
            while not counts(client)[2]:
                await asyncio.sleep(0)
            unwanted.cancel()
            await settled(client, 1, 1)
            assert await within((await client.get(url + "again")).read()) == b"ok"
            assert len(server.peers) == 2

    run(main())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_post_is_not_repeated(run: Run, how: str) -> None:
    async def main() -> None:
        async with playing(closing_when_asked(how)) as server, http.Client() as client:
            await within((await client.get(server.url())).read())
            with pytest.raises(http.PeerClosedError) as caught:
                await within(client.post(server.url(), content=b"x"))
            assert caught.value.was_reused
            await settled(client, 0, 0)

    run(main())


def test_a_body_that_can_be_read_once_is_not_repeated(run: Run) -> None:
    async def body() -> Any:
        yield b"x"

    async def main() -> None:
        async with playing(closing_when_asked("close")) as server, http.Client() as client:
            await within((await client.get(server.url())).read())
            with pytest.raises(http.PeerClosedError):
                await within(client.put(server.url(), content=body()))

    run(main())


def test_a_request_that_kills_every_connection_is_repeated_once(run: Run) -> None:
    """Connections that others free meanwhile do not prolong it: the server sees the request twice at most."""
    seen = []

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.head()
            if b"/poison" in head:
                seen.append(peer)
                await peer.close()
                return
            await peer.send(OK)

    async def main() -> None:
        limits = http.Limits(total=4)
        async with playing(*[script] * 30) as server, http.Client(limits=limits) as client:

            async def keep_busy() -> None:
                for _ in range(30):
                    await within((await client.get(server.url())).read())

            busy = [asyncio.ensure_future(keep_busy()) for _ in range(8)]
            await within((await client.get(server.url())).read())
            with pytest.raises(http.PeerClosedError):
                await within(client.get(server.url("/poison")))
            await asyncio.gather(*busy)
            assert len(seen) <= 2
            await settled(client, 4, 4)

    run(main())


def test_all_idle_connections_died_together(run: Run) -> None:
    """A server that restarted has dropped all of them; each request of a burst gets through."""

    async def main() -> None:
        old = [closing_when_asked("close")] * 5
        async with playing(*old, *[always()] * 5) as server, http.Client() as client:

            async def get() -> bytes:
                body: bytes = await (await client.get(server.url())).read()
                return body

            for _ in range(2):
                assert await within(asyncio.gather(*[get() for _ in range(5)])) == [b"ok"] * 5
            await settled(client, 5, 5)

    run(main())


def test_idle_connections_are_closed_after_a_while(run: Run) -> None:
    async def main() -> None:
        async with playing(always()) as server, http.Client(limits=http.Limits(keepalive=0.05)) as client:
            await within((await client.get(server.url())).read())
            await within(server.peers[0].ended.wait())
            await settled(client, 0, 0)

    run(main())


def test_what_cannot_be_repeated_gets_no_connection_that_the_kernel_knows_to_be_dead(run: Run) -> None:
    """Also when the loop was busy, and has not been told yet."""

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(65536):
                    pass
                connection.sendall(OK)
                answered.acquire()
            closed.release()

    answered, closed = threading.Semaphore(0), threading.Semaphore(0)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            server = threading.Thread(target=serve, args=[listener])
            server.start()
            async with http.Client() as client:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                assert await within((await client.get(url)).read()) == b"ok"
                assert counts(client) == (1, 1, 0)
                answered.release()
                assert closed.acquire(timeout=20)  # and the loop stands still meanwhile
                assert await within((await client.post(url, content=b"x" * 10)).read()) == b"ok"
                answered.release()
                await asyncio.to_thread(server.join)

    run(main())


def test_a_client_that_is_dropped_while_open_says_so(run: Run) -> None:
    async def main() -> None:
        async with playing(always()) as server:
            client = http.Client()
            await within((await client.get(server.url())).read())
            transport = client.transport
            with pytest.warns(ResourceWarning, match="Client open> was never closed: use it as `async with"):
                del client
                gc.collect()
            await transport.aclose()

    run(main())
