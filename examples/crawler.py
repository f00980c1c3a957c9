"""A small crawler on aiohttp: walks a site to a depth, with a bounded number of workers, and prints what it found.

Without a URL it starts web_service.py in a process of its own, on a free port, and walks that.

    python examples/crawler.py
    weft run examples/crawler.py http://127.0.0.1:8000/ --depth 2 --workers 8
"""

import argparse
import asyncio
import re
import sys
from pathlib import Path
from urllib.parse import urljoin, urlsplit

try:
    import aiohttp
except ImportError as missing:
    sys.exit(f"crawler.py needs {missing.name}: pip install aiohttp")


# Enough for a site that one knows; for the others there is html.parser.
LINK = re.compile(r"""<a\s[^>]*href=["']([^"'#]+)""", re.IGNORECASE)


class Crawler:
    """A queue of addresses, and workers that take from it and add to it."""

    def __init__(self, session: aiohttp.ClientSession, start: str, depth: int) -> None:
        self.session, self.host, self.depth = session, urlsplit(start).netloc, depth
        self.queue: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.seen: set[str] = set()
        self.rows: list[str] = []
        self.busy = self.busiest = 0
        self.add(0, start)

    def add(self, depth: int, url: str) -> None:
        """Puts an address into the queue: once, if it is near enough and on the same host."""
        if depth <= self.depth and url not in self.seen and urlsplit(url).netloc == self.host:
            self.seen.add(url)
            self.queue.put_nowait((depth, url))

    async def visit(self, depth: int, url: str) -> None:
        """Fetches one page, and adds what it links to."""
        links: list[str] = []
        try:
            async with self.session.get(url) as response:
                status = str(response.status)
                if response.ok and response.content_type == "text/html":
                    links = LINK.findall(await response.text(errors="replace"))
        except (aiohttp.ClientError, TimeoutError) as error:
            status = type(error).__name__
        self.rows.append(f"{depth:5}  {status:>6}  {len(links):5}  {urlsplit(url).path}")
        for link in links:
            self.add(depth + 1, urljoin(url, link))

    async def work(self) -> None:
        """Takes addresses until it is cancelled: a worker cannot know whether another is about to add more."""
        while True:
            depth, url = await self.queue.get()
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            await self.visit(depth, url)
            self.busy -= 1
            self.queue.task_done()


async def crawl(start: str, depth: int, workers: int) -> None:
    """Walks the site, and prints the table."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        crawler = Crawler(session, start, depth)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(crawler.work()) for _ in range(workers)]
            await crawler.queue.join()
            for task in tasks:
                task.cancel()
    print("depth  status  links  path", *sorted(crawler.rows), sep="\n")
    print(f"{len(crawler.rows)} addresses to a depth of {depth}, never more than {crawler.busiest} at a time")


async def crawl_own_service(depth: int, workers: int) -> None:
    """Runs web_service.py for as long as it is walked."""
    command = [sys.executable, str(Path(__file__).with_name("web_service.py")), "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = (await process.stdout.readline()).decode()  # serving on URL ...
        if not said:
            sys.exit("crawler.py: the web service did not start")
        await crawl(said.split()[2], depth, workers)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Walks a site and prints what it found.")
    parser.add_argument("url", nargs="?", help="where to begin (a service of its own)")
    parser.add_argument("--depth", type=int, default=3, help="how many links away from there (3)")
    parser.add_argument("--workers", type=int, default=4, help="how many pages at a time (4)")
    options = parser.parse_args()
    walk = crawl(options.url, options.depth, options.workers) if options.url else None
    asyncio.run(walk or crawl_own_service(options.depth, options.workers))
