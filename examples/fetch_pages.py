"""A page fetcher on aiohttp: N pages from a server, all asked for at once.

Without a URL it starts a little server itself, on loopback and in the same loop, which takes 50 ms for each answer.

    python examples/fetch_pages.py
    weft run examples/fetch_pages.py --pages 100
    weft run examples/fetch_pages.py https://example.org/ --pages 3
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

try:
    import aiohttp
    from aiohttp import web
except ImportError as missing:
    sys.exit(f"fetch_pages.py needs {missing.name}: pip install aiohttp")


class Page(NamedTuple):
    """What came of one request."""

    number: int
    status: int
    size: int  # bytes
    seconds: float


async def answer(request: web.Request) -> web.Response:
    """The little server's answer: some text, longer from page to page."""
    await asyncio.sleep(0.05)
    return web.Response(text="weft " * int(request.query["page"]))


@asynccontextmanager
async def little_server() -> AsyncIterator[str]:
    """Serves inside the block, on a free port; gives the URL."""
    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


async def fetch(session: aiohttp.ClientSession, url: str, number: int) -> Page:
    """One page; the body is read to its end."""
    started = time.perf_counter()
    async with session.get(url, params={"page": str(number)}) as response:
        body = await response.read()
        return Page(number, response.status, len(body), time.perf_counter() - started)


async def fetch_all(url: str, count: int) -> None:
    """All pages at once: one session, which holds the connections, and one task for each page."""
    started = time.perf_counter()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(session, url, number)) for number in range(1, count + 1)]
    took = time.perf_counter() - started
    pages = [task.result() for task in tasks]
    for page in pages:
        print(f"page {page.number:3}: status {page.status}, {page.size:5} bytes, {page.seconds * 1e3:4.0f} ms")
    print(f"{len(pages)} pages, {sum(page.size for page in pages)} bytes")
    print(f"together they took {took:.2f} s; one after another {sum(page.seconds for page in pages):.2f} s")


async def main(url: str | None, count: int) -> None:
    """Fetches from the URL, or from a server of its own."""
    if url:
        await fetch_all(url, count)
    else:
        async with little_server() as own:
            await fetch_all(own, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetches pages, all at once.")
    parser.add_argument("url", nargs="?", help="where to fetch (a server of its own); ?page=N is added")
    parser.add_argument("--pages", type=int, default=20, help="how many (20)")
    options = parser.parse_args()
    asyncio.run(main(options.url, options.pages))
