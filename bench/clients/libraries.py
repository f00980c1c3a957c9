"""How each client library is asked for the same things, as its documentation shows it.

A client is made as a user would, with its defaults, except that it trusts the certificate of the job, and that as many
connections are allowed as there are requests under way where the default is less. The invariant: a library is imported
by its own driver only. Called by ``bench.clients``, which names the drivers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from bench.clients.job import Job
from bench.clients.loads import Requests


@asynccontextmanager
async def weft_http(job: Job) -> AsyncIterator[Requests]:
    """``weft.http``, on whichever loop it finds."""
    http: Any = import_module("weft.http")
    limits = http.Limits(total=job.concurrency, per_host=job.concurrency)
    async with http.Client(limits=limits, tls=job.tls() or True) as client:

        async def get() -> int:
            response = await client.get(job.url)
            return len(await response.read())

        async def post() -> int:
            response = await client.post(job.url, json=job.document)
            return len(await response.read())

        async def download() -> int:
            received = 0
            async with client.get(job.url) as response:
                async for chunk in response:
                    received += len(chunk)
            return received

        yield Requests(get, post, download)


@asynccontextmanager
async def aiohttp(job: Job) -> AsyncIterator[Requests]:
    """aiohttp, one session."""
    library: Any = import_module("aiohttp")
    connector = library.TCPConnector(limit=job.concurrency, ssl=job.tls() or True)
    async with library.ClientSession(connector=connector) as session:

        async def get() -> int:
            async with session.get(job.url) as response:
                return len(await response.read())

        async def post() -> int:
            async with session.post(job.url, json=job.document) as response:
                return len(await response.read())

        async def download() -> int:
            received = 0
            async with session.get(job.url) as response:
                async for chunk in response.content.iter_any():
                    received += len(chunk)
            return received

        yield Requests(get, post, download)


@asynccontextmanager
async def httpx(job: Job, name: str = "httpx") -> AsyncIterator[Requests]:
    """httpx, one ``AsyncClient`` with its default limits: 100 connections, 20 kept; keeping 100 is six times slower."""
    library: Any = import_module(name)
    async with library.AsyncClient(timeout=60.0, verify=job.tls() or True) as client:

        async def get() -> int:
            return len((await client.get(job.url)).content)

        async def post() -> int:
            return len((await client.post(job.url, json=job.document)).content)

        async def download() -> int:
            received = 0
            async with client.stream("GET", job.url) as response:
                async for chunk in response.aiter_bytes():
                    received += len(chunk)
            return received

        yield Requests(get, post, download)


@asynccontextmanager
async def httpx2(job: Job) -> AsyncIterator[Requests]:
    """httpx2, whose interface is that of httpx."""
    async with httpx(job, "httpx2") as requests:
        yield requests


@asynccontextmanager
async def pyreqwest(job: Job) -> AsyncIterator[Requests]:
    """pyreqwest: reqwest, hyper and tokio, one thread beside the loop by default."""
    builder: Any = import_module("pyreqwest.client").ClientBuilder()
    if job.authority:
        builder = builder.add_root_certificate_pem(job.authority.read_bytes())
    async with builder.build() as client:

        async def get() -> int:
            response = await client.get(job.url).build().send()
            return len(await response.bytes())

        async def post() -> int:
            response = await client.post(job.url).body_json(job.document).build().send()
            return len(await response.bytes())

        async def download() -> int:
            received = 0
            async with client.get(job.url).build_streamed() as response:
                while chunk := await response.body_reader.read_chunk():
                    received += len(chunk)
            return received

        yield Requests(get, post, download)


@asynccontextmanager
async def wreq(job: Job) -> AsyncIterator[Requests]:
    """wreq: hyper and tokio with BoringSSL."""
    library: Any = import_module("wreq")
    options = {"tls_verify": job.authority} if job.authority else {}
    client = library.Client(pool_max_idle_per_host=job.concurrency, **options)

    async def get() -> int:
        response = await client.get(job.url)
        return len(await response.bytes())

    async def post() -> int:
        response = await client.post(job.url, json=job.document)
        return len(await response.bytes())

    async def download() -> int:
        received = 0
        async with client.get(job.url) as response, response.stream() as chunks:
            async for chunk in chunks:
                received += len(chunk)
        return received

    yield Requests(get, post, download)
    client.close()
