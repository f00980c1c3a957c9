"""redis.asyncio against a real Redis: commands, pipelines, messages, and calls that block or are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("redis", reason="weft[frameworks] is not installed: no redis")

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.frameworks.databases import Server
from tests.frameworks.kit import BODY, Run, digest, free_port, within

ONCE = Retry(NoBackoff(), 0)
NewClient = Callable[..., Any]


@pytest.fixture(params=["tcp", "unix"])
def new_client(request: pytest.FixtureRequest, redis_server: Server) -> NewClient:
    """Makes a client of an empty database; it must be made in the loop, and closes with its block."""

    def new_client(**options: Any) -> Any:
        if request.param == "tcp":
            return Redis(host=redis_server.host, port=redis_server.port, **options)
        return Redis(unix_socket_path=redis_server.socket, **options)

    return new_client


class TestCommands:
    def test_values(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as client:
                await client.flushdb()
                assert await client.ping()
                await client.set("key", "välue")
                assert await client.get("key") == "välue".encode()
                assert await client.incrby("count", 5) == 5
                assert await client.hset("hash", mapping={"a": 1, "b": 2}) == 2
                assert await client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
                assert sorted([key async for key in client.scan_iter()]) == [b"count", b"hash", b"key"]
                with pytest.raises(ResponseError):
                    await client.incr("hash")
                assert await client.get("nothing") is None

        run(main())

    def test_large_values(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as client:
                await client.set("large", BODY)
                assert digest(await client.get("large")) == digest(BODY)
                await client.delete("large")

        run(main())

    def test_a_pipeline(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as client:
                await client.flushdb()
                async with client.pipeline(transaction=False) as pipe:
                    for n in range(2000):
                        pipe.set(f"key{n}", n).get(f"key{n}")
                    results = await pipe.execute()
                assert results[1::2] == [b"%d" % n for n in range(2000)]

        run(main())

    def test_a_transaction_that_collides(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as client:
                await client.set("watched", 1)
                async with client.pipeline() as pipe:
                    await pipe.watch("watched")
                    await client.set("watched", 2)
                    pipe.multi()
                    pipe.set("watched", 3)
                    with pytest.raises(WatchError):
                        await pipe.execute()
                assert await client.get("watched") == b"2"

        run(main())


class TestMessages:
    def test_publish_and_subscribe(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client(decode_responses=True) as client, client.pubsub() as channel:
                await channel.subscribe("news")
                await channel.psubscribe("other.*")
                heard: list[tuple[str, str]] = []
                ready = asyncio.Event()

                async def listen() -> None:
                    subscribed = 0
                    async for message in channel.listen():
                        if message["type"] in {"subscribe", "psubscribe"}:
                            subscribed += 1
                            if subscribed == 2:
                                ready.set()
                        elif message["data"] == "end":
                            return
                        else:
                            heard.append((message["channel"], message["data"]))

                listening = asyncio.ensure_future(listen())
                await within(ready.wait())
                for n in range(100):
                    await client.publish("news" if n % 2 else "other.one", str(n))
                await client.publish("news", "end")
                await within(listening)
                assert heard == [("news" if n % 2 else "other.one", str(n)) for n in range(100)]

        run(main())


class TestWaiting:
    def test_a_blocking_pop_gets_what_comes(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as client:
                await client.delete("queue")
                popping = asyncio.ensure_future(client.blpop(["queue"], timeout=0))
                while not (await client.info("clients"))["blocked_clients"]:
                    await asyncio.sleep(0)
                await client.rpush("queue", "thing")
                assert tuple(await within(popping)) == (b"queue", b"thing")

        run(main())

    def test_a_blocking_pop_is_cancelled(self, run: Run, new_client: NewClient) -> None:
        """What was pushed after it is not lost, and the client is as good as before."""

        async def main() -> None:
            async with new_client() as client:
                await client.delete("queue")
                for n in range(5):
                    popping = asyncio.ensure_future(client.blpop(["queue"], timeout=0))
                    while not (await client.info("clients"))["blocked_clients"]:
                        await asyncio.sleep(0)
                    popping.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await popping
                    while (await client.info("clients"))["blocked_clients"]:
                        await asyncio.sleep(0)
                    await client.rpush("queue", n)
                    assert await client.lpop("queue") == b"%d" % n

        run(main())

    def test_time_is_up(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as client:
                await client.delete("queue")
                assert await client.blpop(["queue"], timeout=0.01) is None
            async with new_client(socket_timeout=0.05, retry=ONCE) as client:
                with pytest.raises(RedisTimeoutError):
                    await client.blpop(["queue"], timeout=0)

        run(main())


class TestConnections:
    def test_many(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client(max_connections=100) as client:
                await client.flushdb()

                async def one(n: int) -> Any:
                    await client.incr("all")
                    await client.set(f"own{n}", n)
                    return await client.get(f"own{n}")

                assert await asyncio.gather(*map(one, range(100))) == [b"%d" % n for n in range(100)]
                assert await client.get("all") == b"100"

        run(main())

    def test_few_for_many(self, run: Run, redis_server: Server) -> None:
        async def main() -> None:
            pool = BlockingConnectionPool(host=redis_server.host, port=redis_server.port, max_connections=3, timeout=60)
            async with Redis(connection_pool=pool) as client:
                await client.delete("count")
                results = await asyncio.gather(*[client.incr("count") for _ in range(300)])
                assert sorted(results) == list(range(1, 301))
                assert len(await client.client_list()) <= 3
            await pool.aclose()

        run(main())

    def test_the_server_hangs_up(self, run: Run, new_client: NewClient) -> None:
        async def main() -> None:
            async with new_client() as other, new_client(single_connection_client=True, retry=ONCE) as client:
                number = await client.client_id()
                await other.client_kill_filter(_id=number)
                with pytest.raises(RedisConnectionError):
                    await client.blpop(["queue"], timeout=0)
                # And the next call makes a new connection.
                assert await client.ping()
                assert await client.client_id() != number

        run(main())

    def test_nobody_listens(self, run: Run) -> None:
        async def main() -> None:
            async with Redis(host="127.0.0.1", port=free_port(), retry=ONCE) as client:
                with pytest.raises(RedisConnectionError):
                    await client.ping()

        run(main())
