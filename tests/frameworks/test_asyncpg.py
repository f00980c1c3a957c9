"""asyncpg against a real PostgreSQL: queries, transactions, cursors, notifications, pools, and queries given up.

Its protocol is compiled and upgrades a connection to TLS by itself, with `start_tls`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

pytest.importorskip("asyncpg", reason="weft[frameworks] is not installed, or asyncpg has no wheel for this Python")

import asyncpg

from tests.frameworks.databases import Server
from tests.frameworks.kit import BODY, Run, digest, free_port, within
from tests.loop.kit import client_context

WAYS = ("tcp", "unix", "tls")


@pytest.fixture(params=WAYS)
def options(request: pytest.FixtureRequest, postgres: Server) -> dict[str, Any]:
    """Where and how to connect."""
    return options_for(request.param, postgres)


def options_for(way: str, postgres: Server) -> dict[str, Any]:
    host = {"tcp": postgres.host, "unix": str(postgres.directory), "tls": "localhost"}[way]
    context: ssl.SSLContext | bool = client_context() if way == "tls" else False
    return {"host": host, "port": postgres.port, "user": "weft", "database": "postgres", "ssl": context}


@pytest.fixture
def over_tcp(postgres: Server) -> dict[str, Any]:
    return options_for("tcp", postgres)


async def until_running(connection: Any, text: str) -> int:
    """Wait until another connection runs a query with this text; gives the process that does."""
    query = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()"
    while (pid := await connection.fetchval(query, f"%{text}%")) is None:
        await asyncio.sleep(0)
    return int(pid)


class TestQueries:
    def test_values_of_all_kinds(self, run: Run, options: dict[str, Any]) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(**options)
            assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
            row = await connection.fetchrow("SELECT $1::text AS a, $2::bytea AS b, $3::int[] AS c", "ä", b"\0", [1, 2])
            assert dict(row) == {"a": "ä", "b": b"\0", "c": [1, 2]}
            rows = await connection.fetch("SELECT generate_series(1, 20000) AS n")
            assert [row["n"] for row in rows] == list(range(1, 20001))
            assert digest(await connection.fetchval("SELECT $1::bytea", BODY)) == digest(BODY)
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.fetch("SELECT * FROM nowhere")
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()

        run(main())

    def test_tables_and_copy(self, run: Run, options: dict[str, Any]) -> None:
        records = [(n, f"name {n}") for n in range(5000)]

        async def main() -> None:
            connection = await asyncpg.connect(**options)
            await connection.execute("CREATE TEMP TABLE things (n int PRIMARY KEY, name text)")
            await connection.executemany("INSERT INTO things VALUES ($1, $2)", records[:500])
            assert await connection.copy_records_to_table("things", records=records[500:]) == "COPY 4500"
            assert [tuple(row) for row in await connection.fetch("TABLE things ORDER BY n")] == records
            lines = bytearray()

            async def take(piece: bytes) -> None:
                lines.extend(piece)

            await connection.copy_from_query("TABLE things ORDER BY n", output=take)
            assert lines.count(b"\n") == 5000
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute("INSERT INTO things VALUES (1, '')")
            await connection.close()

        run(main())


class TestTransactions:
    def test_commit_rollback_and_savepoint(self, run: Run, options: dict[str, Any]) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(**options)
            await connection.execute("CREATE TEMP TABLE counts (n int)")
            async with connection.transaction():
                await connection.execute("INSERT INTO counts VALUES (1)")
                with pytest.raises(ZeroDivisionError):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO counts VALUES (2)")
                        raise ZeroDivisionError
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO counts VALUES (3)")
                    raise ZeroDivisionError
            assert [row["n"] for row in await connection.fetch("TABLE counts")] == [1]
            await connection.close()

        run(main())

    def test_a_cursor(self, run: Run, options: dict[str, Any]) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(**options)
            async with connection.transaction():
                seen = [row[0] async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=30)]
                assert seen == list(range(1, 1001))
                cursor = await connection.cursor("SELECT generate_series(1, 1000)")
                await cursor.forward(990)
                assert [row[0] for row in await cursor.fetch(100)] == list(range(991, 1001))
            await connection.close()

        run(main())

    def test_a_cursor_that_is_left_early(self, run: Run, over_tcp: dict[str, Any]) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(**over_tcp)
            async with connection.transaction():
                async for row in connection.cursor("SELECT generate_series(1, 100000)", prefetch=10):
                    if row[0] == 15:
                        break
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()

        run(main())


class TestNotifications:
    def test_listen_and_notify(self, run: Run, options: dict[str, Any]) -> None:
        """They come without a query that waits for them."""

        async def main() -> None:
            listener, speaker = await asyncpg.connect(**options), await asyncpg.connect(**options)
            heard: asyncio.Queue[str] = asyncio.Queue()

            def on_notify(connection: Any, pid: int, channel: str, payload: str) -> None:
                assert (pid, channel) == (speaker.get_server_pid(), "news")
                heard.put_nowait(payload)

            await listener.add_listener("news", on_notify)
            for n in range(50):
                await speaker.execute("SELECT pg_notify('news', $1)", str(n))
            assert [await within(heard.get()) for _ in range(50)] == [str(n) for n in range(50)]
            await listener.remove_listener("news", on_notify)
            await listener.close()
            await speaker.close()

        run(main())


class TestPools:
    def test_few_connections_for_many_tasks(self, run: Run, options: dict[str, Any]) -> None:
        async def main() -> None:
            async with asyncpg.create_pool(min_size=2, max_size=5, **options) as pool:

                async def one(n: int) -> tuple[int, int]:
                    async with pool.acquire() as connection:
                        async with connection.transaction():
                            return await connection.fetchval("SELECT $1::int", n), connection.get_server_pid()

                results = await asyncio.gather(*map(one, range(200)))
                assert [n for n, _ in results] == list(range(200))
                assert 1 <= len({pid for _, pid in results}) <= 5
                assert pool.get_size() <= 5

        run(main())

    def test_waiting_for_a_connection_is_given_up(self, run: Run, over_tcp: dict[str, Any]) -> None:
        async def main() -> None:
            async with asyncpg.create_pool(min_size=1, max_size=1, **over_tcp) as pool:
                async with pool.acquire():
                    with pytest.raises(asyncio.TimeoutError):
                        await pool.acquire(timeout=0.01)
                    waiting = asyncio.ensure_future(pool.acquire())
                    await asyncio.sleep(0)
                    waiting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await waiting
                assert await within(pool.fetchval("SELECT 1")) == 1

        run(main())

    def test_a_pool_is_terminated(self, run: Run, over_tcp: dict[str, Any]) -> None:
        async def main() -> None:
            pool = await asyncpg.create_pool(min_size=2, max_size=2, **over_tcp)
            assert await pool.fetchval("SELECT 1") == 1
            pool.terminate()
            with pytest.raises(asyncpg.InterfaceError):
                await pool.fetchval("SELECT 1")

        run(main())


class TestGivingUp:
    def test_a_query_is_cancelled(self, run: Run, options: dict[str, Any]) -> None:
        """In the server too, and the connection goes on."""

        async def main() -> None:
            connection, other = await asyncpg.connect(**options), await asyncpg.connect(**options)
            for _ in range(3):
                query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(3600)"))
                assert await until_running(other, "pg_sleep") == connection.get_server_pid()
                query.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await query
                assert await within(connection.fetchval("SELECT 1")) == 1
            await connection.close()
            await other.close()

        run(main())

    def test_time_is_up(self, run: Run, options: dict[str, Any]) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(**options)
            with pytest.raises(asyncio.TimeoutError):
                await connection.execute("SELECT pg_sleep(3600)", timeout=0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connection.execute("SELECT pg_sleep(3600)")
            assert await within(connection.fetchval("SELECT 1")) == 1
            await connection.close()

        run(main())

    def test_in_a_pool(self, run: Run, over_tcp: dict[str, Any]) -> None:
        """What is cancelled gives its connection back, whichever moment it is hit at."""

        async def main() -> None:
            async with asyncpg.create_pool(min_size=3, max_size=3, **over_tcp) as pool:
                tasks = [asyncio.ensure_future(pool.fetchval("SELECT pg_sleep(0.001)")) for _ in range(60)]
                for turn, task in enumerate(tasks):
                    for _ in range(turn % 5):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert await within(asyncio.gather(*[pool.fetchval("SELECT 1") for _ in range(20)])) == [1] * 20
                assert pool.get_idle_size() == pool.get_size() <= 3

        run(main())

    def test_the_server_ends_the_connection(self, run: Run, options: dict[str, Any]) -> None:
        async def main() -> None:
            connection, other = await asyncpg.connect(**options), await asyncpg.connect(**options)
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(3600)"))
            await other.execute("SELECT pg_terminate_backend($1)", await until_running(other, "pg_sleep"))
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await within(query)
            await within(ended.wait())
            assert connection.is_closed()
            await other.close()

        run(main())

    def test_nobody_listens(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ConnectionRefusedError):
                await asyncpg.connect(host="127.0.0.1", port=free_port(), user="weft", database="x", ssl=False)

        run(main())

    def test_a_certificate_that_is_not_trusted(self, run: Run, postgres: Server) -> None:
        async def main() -> None:
            options = options_for("tls", postgres) | {"ssl": ssl.create_default_context()}
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncpg.connect(**options)

        run(main())
