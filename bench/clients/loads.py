"""The shapes of load for clients whose requests are awaited, written once for all of them.

A driver opens a session and gives its three ways to ask (``Requests``), each of which returns how many bytes the
body had. The invariant: every request is counted by the same few lines, whichever client makes it.
Called by ``bench.clients``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.clients.job import Done, Job, Kind, Meter

Ask = Callable[[], Awaitable[int]]


@dataclass(frozen=True)
class Requests:
    """What a session can do: fetch a whole body, send the job's document, and throw a body away as it comes."""

    get: Ask
    post: Ask
    download: Ask


Session = Callable[[Job], AbstractAsyncContextManager[Requests]]


async def perform(session: Session, job: Job) -> Done:
    """Do a job with a session of its own."""
    async with session(job) as requests:
        try:
            if job.kind is Kind.DOWNLOAD:
                return await herd(job, requests.download)
            ask = requests.get if job.document is None else requests.post
            return await (herd(job, ask) if job.kind is Kind.HERD else keep_busy(job, ask))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # one of a hundred that say the same, in one line


async def keep_busy(job: Job, ask: Ask) -> Done:
    """Keep ``job.concurrency`` requests under way; count those that end within ``job.seconds`` after the warm-up.

    It is over when its time is, and each has had an answer: some clients are slow to open a hundred connections.
    """
    count, warm, running = 0, 0, True
    meter = Meter()

    async def one_after_another() -> None:
        nonlocal count, warm
        job.check(await ask())
        warm += 1
        while running:
            job.check(await ask())
            count += 1

    async def window() -> Done:
        nonlocal running, count
        await asyncio.sleep(job.warmup)
        while warm < job.concurrency:
            await asyncio.sleep(job.warmup / 10)
        count = 0
        meter.start()
        await asyncio.sleep(job.seconds)
        done = meter.stop(count)
        running = False
        return done

    async with asyncio.TaskGroup() as group:
        for _ in range(job.concurrency):
            group.create_task(one_after_another())
        done = group.create_task(window())
    return done.result()


async def herd(job: Job, ask: Ask) -> Done:
    """Make ``job.concurrency`` requests at once, and wait for the last."""
    meter = Meter()

    async def once() -> None:
        job.check(await ask())

    meter.start()
    async with asyncio.TaskGroup() as group:
        for _ in range(job.concurrency):
            group.create_task(once())
    return meter.stop(job.concurrency)
