"""Fifty pages with weft's HTTP client, three ways: one after another, all at once, and at most ten at a time.

The pages come from a little server of its own, on loopback and in the same loop, which takes 20 ms for each.

    python examples/http_client.py
    weft run examples/http_client.py --pages 200 --limit 20
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from weft.http import Client, Limits

busy = 0  # requests that the server works on
busiest = 0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The little server: one connection, request by request. Page N is N times a word."""
    global busy, busiest
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            busy += 1
            busiest = max(busiest, busy)
            await asyncio.sleep(0.02)  # say, a database
            busy -= 1
            body = b"weft " * int(head.split()[1].removeprefix(b"/pages/"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client has closed its connection
    finally:
        writer.close()


@asynccontextmanager
async def little_server() -> AsyncIterator[str]:
    """Serves inside the block, on a free port; gives the URL."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def fetch(client: Client, number: int) -> int:
    """One page: how many bytes it has."""
    response = await client.get(f"pages/{number}", raise_for_status=True)
    return len(await response.read())


async def one_after_another(url: str, count: int) -> list[int]:
    """A loop that waits for each page before it asks for the next: one connection is enough."""
    async with Client(url) as client:
        return [await fetch(client, number) for number in range(1, count + 1)]


async def all_at_once(url: str, count: int) -> list[int]:
    """A coroutine for each page: as many connections as it takes."""
    async with Client(url, limits=Limits(total=None)) as client:
        return await asyncio.gather(*(fetch(client, number) for number in range(1, count + 1)))


async def a_few_at_a_time(url: str, count: int, limit: int) -> list[int]:
    """A task for each page, and a bounded number of connections: who finds none waits in line."""
    async with Client(url, limits=Limits(total=limit)) as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(client, number)) for number in range(1, count + 1)]
    return [task.result() for task in tasks]


async def measure(name: str, way: Callable[[], Awaitable[list[int]]]) -> list[int]:
    """Fetches in one way, and prints how long it took."""
    global busiest
    busiest = 0
    started = time.perf_counter()
    sizes = await way()
    took = time.perf_counter() - started
    print(f"{name:20} {took * 1e3:6.0f} ms, the server had {busiest:3} at a time")
    return sizes


async def main(count: int, limit: int) -> None:
    """Fetches the same pages three times."""
    async with little_server() as url:
        first = await measure("one after another", lambda: one_after_another(url, count))
        second = await measure("all at once", lambda: all_at_once(url, count))
        third = await measure(f"{limit} at a time", lambda: a_few_at_a_time(url, count, limit))
    verdict = "the same" if first == second == third else "something else"
    print(f"{count} pages, {sum(first)} bytes, three times {verdict}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetches pages of its own server, three ways.")
    parser.add_argument("--pages", type=int, default=50, help="how many (50)")
    parser.add_argument("--limit", type=int, default=10, help="connections in the third way (10)")
    options = parser.parse_args()
    asyncio.run(main(options.pages, options.limit))
