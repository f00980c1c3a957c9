"""HTTP clients: keep-alive requests, HTTPS, POST, a large download, and a herd of requests to a slow server.

The client is the measuring process itself, pinned to one core; the server (``bench/load/http_server.c``, nginx for TLS)
is another process on another core, fresh for every measurement. What a client does is in ``bench/clients``; this
file says what is asked for, and what becomes of it. The invariant: every answer's length is checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import clients, machine
from bench.clients.job import Done, Job, Kind, cpu_of, peak_mib, pin
from bench.field import Field
from bench.load import nginx, program
from bench.model import Aim, Case, Metric, Sample, nothing_missing, register
from bench.serve import serving

PAGE = 1024  # bytes of the page that the servers serve
GIB = 2**30
HERD = 10_000
DELAY_MS = 1000
DOCUMENT = {
    "id": 4711,
    "name": "a benchmark of HTTP clients",
    "tags": ["python", "asyncio", "http"],
    "price": 12.5,
    "stock": {"here": 3, "there": None},
    "active": True,
}
RECEIPT = len('{"received": 123}')  # to a document of 100 to 999 bytes

FIELD = clients.FIELD
PYTHON = tuple(name for name in FIELD.rivals if name.partition("/")[0] in {"aiohttp", "httpx2"})


@dataclass(frozen=True)
class Server:
    """Where a server is, and the process that it is."""

    base: str
    pid: int
    authority: Path | None = None


@contextlib.contextmanager
def plain() -> Iterator[Server]:
    """The server in C."""
    with serving([program("http_server")], core=machine.cores()[1]) as server:
        yield Server(f"http://127.0.0.1:{server.address['port']}", server.pid)


@contextlib.contextmanager
def secure() -> Iterator[Server]:
    """nginx with TLS."""
    with nginx.nginx(PAGE, core=machine.cores()[1]) as server:
        yield Server(f"https://127.0.0.1:{server.port}", server.pid, server.authority)


@dataclass(frozen=True)
class Measured:
    """A job that was done, and how much the server's core had to do meanwhile (0 to 1)."""

    job: Job
    done: Done
    server_busy: float


def measured(contender: str, server: Server, job: Job) -> Measured:
    """Do a job with one client while the server's processor time is watched."""
    pin(machine.cores()[0])
    before = cpu_of(server.pid)
    done = clients.perform(contender, job)
    whole = done.seconds + (job.warmup if job.kind is Kind.BUSY else 0)
    return Measured(job, done, (cpu_of(server.pid) - before) / whole)


# -- what is measured of requests one after another

RATES = (
    Metric("cpu_us", "CPU µs/request"),
    Metric("rate", "requests/s", more_is_better=True, compared=True),
    Metric("user_us", "of it user µs"),
    Metric("system_us", "of it system µs"),
    Metric("client_busy", "client core busy"),
    Metric("server_busy", "server core busy"),
)


def rates(measured: Measured) -> Sample:
    """A sample of ``RATES``."""
    done = measured.done
    requests = max(done.requests, 1)
    return {
        "cpu_us": done.cpu / requests * 1e6,
        "rate": done.requests / done.seconds,
        "user_us": done.user / requests * 1e6,
        "system_us": done.system / requests * 1e6,
        "client_busy": done.cpu / done.seconds,
        "server_busy": measured.server_busy,
    }


COUNTED = (
    "over connections that are kept, as many under way at once as the name says, each followed by the next as soon as "
    "its body is there. Requests are counted in a window of 0.4 s that opens after 0.1 s, and when each connection has "
    "had an answer (wrk: 1 s from its start); the processor time, user and system, is that of the whole client process "
    "in that window."
)
GET = f"GET requests for a page of 1 KiB, {COUNTED}"
GET_TLS = "The same requests to nginx, with TLS 1.3 and a certificate that is verified."
POST = "The same with POST requests, each of which encodes a small document as JSON anew."


def register_rate(
    name: str,
    title: str,
    concurrency: int,
    *,
    field: Field = FIELD,
    aims: tuple[Aim, ...] = (),
    quick: bool = False,
    post: bool = False,
    tls: bool = False,
) -> None:
    """Register a case that keeps so many requests under way."""

    def measure(contender: str, seconds: float) -> Sample:
        with (secure if tls else plain)() as server:
            job = Job(
                Kind.BUSY,
                server.base + "/",
                RECEIPT if post else PAGE,
                concurrency,
                seconds,
                document=DOCUMENT if post else None,
                authority=server.authority,
            )
            return rates(measured(contender, server, job))

    how = GET_TLS if tls else POST if post else GET
    missing: Callable[[], str] = nginx.missing if tls else nothing_missing
    register(Case(f"http.{name}", title, how, field, RATES, measure, 0.4, quick, aims, missing))


register_rate(
    "get-100",
    "GET 1 KiB, 100 at once",
    100,
    quick=True,
    aims=(
        Aim(5.0, "aiohttp/uvloop", "rate"),
        Aim(5.0, "aiohttp/uvloop"),
        Aim(2.0, "pyreqwest/uvloop", "rate"),
        Aim(2.0, "pyreqwest/uvloop"),
        Aim(0.65, "bare/uvloop"),  # 17 µs where it takes 11
    ),
)
register_rate(
    "get-10",
    "GET 1 KiB, 10 at once",
    10,
    field=FIELD.without("httpx/asyncio", "httpx2/asyncio", "aiohttp/asyncio", "bare/weft"),
)
register_rate(
    "get-1",
    "GET 1 KiB, one at a time",
    1,
    field=FIELD.without("httpx/asyncio", "bare/weft"),
    aims=tuple(Aim(1.0, name) for name in PYTHON),
)
register_rate(
    "https-100",
    "HTTPS GET 1 KiB, 100 at once",
    100,
    field=FIELD.without("httpx/asyncio"),
    aims=(Aim(2.5, "aiohttp/asyncio"), Aim(2.5, "aiohttp/uvloop")),
    tls=True,
)
register_rate(
    "post-100",
    "POST JSON, 100 at once",
    100,
    field=FIELD.without("httpx/asyncio", "httpx2/asyncio", "aiohttp/asyncio", "bare/weft"),
    post=True,
)

# -- a large body

DOWNLOAD = (
    Metric("mib_s", "MiB/s", more_is_better=True),
    Metric("cpu_ms", "CPU ms/GiB", compared=True),
    Metric("peak_mib", "peak memory MiB", compared=True),
    Metric("client_busy", "client core busy"),
    Metric("server_busy", "server core busy"),
)


def measure_download(contender: str, scale: float) -> Sample:
    """One GET of 1 GiB, read piece by piece through the client's interface for that and thrown away: bytes per second,
    the processor time of the client, and the largest resident set of its process, interpreter and libraries included.
    """
    size = int(GIB * scale)
    with plain() as server:
        found = measured(contender, server, Job(Kind.DOWNLOAD, f"{server.base}/bytes/{size}", size))
    done = found.done
    return {
        "mib_s": size / 2**20 / done.seconds,
        "cpu_ms": done.cpu * 1e3 * GIB / size,
        "peak_mib": peak_mib(),
        "client_busy": done.cpu / done.seconds,
        "server_busy": found.server_busy,
    }


register(
    Case(
        "http.download",
        "download of 1 GiB",
        " ".join((measure_download.__doc__ or "").split()),
        FIELD.without("wrk", "httpx/asyncio", "bare/weft"),
        DOWNLOAD,
        measure_download,
        seconds=1.0,
        quick=True,
        aims=(Aim(2.0, "aiohttp/uvloop"), Aim(2.0, "aiohttp/asyncio"), Aim(50.0, key="peak_mib")),
    )
)

# -- a herd

CROWDED = FIELD.without("wrk", "httpx/asyncio", "httpx2/asyncio", "aiohttp/asyncio", "aiohttp/weft", "bare/weft")

CROWD = (
    Metric("seconds", "seconds in all"),
    Metric("cpu_us", "CPU µs/request", compared=True),
    Metric("peak_mib", "peak memory MiB"),
)


def measure_herd(contender: str, scale: float) -> Sample:
    """10,000 GET requests are started at once by a client that has no connection yet, to a server that takes 1 s to
    answer each, with 10,000 connections allowed: from the first request to the last body.
    """
    crowd, delay = max(int(HERD * scale), 1), int(DELAY_MS * scale)
    with plain() as server:
        job = Job(Kind.HERD, f"{server.base}/delay/{delay}", PAGE, crowd)
        done = measured(contender, server, job).done
    return {"seconds": done.seconds, "cpu_us": done.cpu / crowd * 1e6, "peak_mib": peak_mib()}


register(
    Case(
        "http.herd",
        "10,000 requests to a 1 s server",
        " ".join((measure_herd.__doc__ or "").split()),
        CROWDED.with_floors(*clients.FLOORS, *CROWDED.floors),
        CROWD,
        measure_herd,
        seconds=1.0,
        aims=(Aim(2.0),),
    )
)
