"""httpx's AsyncClient, against Starlette over real sockets: streams, its pool, timeouts, and requests given up."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

for name in ("httpx", "uvicorn", "starlette"):
    pytest.importorskip(name, reason=f"weft[frameworks] is not installed: no {name}")

import httpx

from tests.frameworks.kit import BODY, Run, digest, free_port, pieces, within
from tests.frameworks.serving import serving
from tests.loop.kit import client_context

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def client(**options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(**{"verify": client_context(), "timeout": 30, "trust_env": False, **options})


class TestStreams:
    @TLS
    def test_both_ways(self, run: Run, tls: bool) -> None:
        async def main() -> None:
            async with serving(tls) as here, client() as session:
                # What comes down goes up again, piece by piece.
                async with session.stream("GET", here.url("download")) as down:
                    up = await session.post(here.url("upload"), content=down.aiter_bytes(10_000))
                assert up.text == digest(BODY)
                async with session.stream("POST", here.url("echo"), content=b"one\ntwo\n") as answer:
                    assert [line async for line in answer.aiter_lines()] == ["one", "two"]
                files = {"file": ("name", BODY)}
                assert BODY in (await session.post(here.url("echo"), files=files)).content

        run(main())

    @TLS
    def test_a_stream_that_is_left_early(self, run: Run, tls: bool) -> None:
        async def main() -> None:
            limits = httpx.Limits(max_connections=1)
            async with serving(tls) as here, client(limits=limits) as session:
                for _ in range(3):
                    async with session.stream("GET", here.url("endless")) as answer:
                        async for _ in answer.aiter_raw():
                            break
                    # The only connection that the pool allows is free again.
                    assert (await session.get(here.url("about"))).status_code == 200
                await here.heard("download broken off")

        run(main())


class TestPool:
    @TLS
    def test_few_connections_for_many_requests(self, run: Run, tls: bool) -> None:
        async def main() -> None:
            limits = httpx.Limits(max_connections=4)
            async with serving(tls) as here, client(limits=limits) as session:
                asked = [session.post(here.url("echo"), content=b"%d" % n) for n in range(60)]
                assert [one.content for one in await asyncio.gather(*asked)] == [b"%d" % n for n in range(60)]
                assert len(here.server.server_state.connections) <= 4

        run(main())

    def test_a_connection_is_used_again(self, run: Run) -> None:
        async def main() -> None:
            async with serving() as here, client() as session:
                for _ in range(10):
                    assert (await session.get(here.url("about"))).status_code == 200
                    assert len(here.server.server_state.connections) == 1

        run(main())


class TestGivingUp:
    def test_time_is_up(self, run: Run) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                url = f"http://127.0.0.1:{silent.getsockname()[1]}"
                async with client(timeout=httpx.Timeout(30, read=0.02)) as session:
                    with pytest.raises(httpx.ReadTimeout):
                        await session.get(url)
                async with client(timeout=httpx.Timeout(30, write=0.02)) as session:
                    with pytest.raises(httpx.WriteTimeout):
                        await session.post(url, content=pieces(BODY * 8))

        run(main())

    def test_requests_are_cancelled(self, run: Run) -> None:
        """At whatever moment it hits them, the client can be used afterwards."""

        async def main() -> None:
            async with serving() as here, client() as session:
                for turns in range(25):
                    asking = asyncio.ensure_future(session.post(here.url("echo"), content=b"x"))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    asking.cancel()
                    await asyncio.wait([asking])
                assert (await within(session.get(here.url("about")))).status_code == 200

        run(main())

    def test_nobody_listens(self, run: Run) -> None:
        async def main() -> None:
            async with client() as session:
                with pytest.raises(httpx.ConnectError):
                    await session.get(f"http://127.0.0.1:{free_port()}")

        run(main())

    def test_a_certificate_that_is_not_trusted(self, run: Run) -> None:
        async def main() -> None:
            async with serving(tls=True) as here, client(verify=True) as session:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await session.get(here.url("about"))

        run(main())
