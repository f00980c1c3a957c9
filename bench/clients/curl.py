"""pycurl: libcurl through ``CurlMulti`` with epoll, as its documentation advises for many transfers.

One request at a time is ``Curl.perform``, which needs no multi handle. The invariant: a handle is used again for the
next request, so that its connection is. Called by ``bench.clients``.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any

from bench.clients.job import Done, Job, Kind, Meter

EVENTS = 1024
LONGEST_WAIT = 0.1  # seconds between looks at the clock


def perform(job: Job) -> Done:
    """Do a job."""
    curl = import_module("pycurl")
    if job.kind is Kind.DOWNLOAD:
        return one_by_one(job, Transfer(curl, job, keep=False), lambda done: done == 1)
    if job.kind is Kind.BUSY and job.concurrency == 1:
        transfer = Transfer(curl, job)
        end = perf_counter() + job.warmup
        one_by_one(job, transfer, lambda done: perf_counter() >= end)
        end += job.seconds
        return one_by_one(job, transfer, lambda done: perf_counter() >= end)
    return Multi(curl, job).perform()


class Transfer:
    """A handle, and the body that it receives."""

    def __init__(self, curl: Any, job: Job, *, keep: bool = True) -> None:
        self.job = job
        self.handle = curl.Curl()
        self.chunks: list[bytes] = []
        self.received = 0
        self.handle.setopt(curl.URL, job.url)
        self.handle.setopt(curl.WRITEFUNCTION, self.chunks.append if keep else self.count)
        if job.authority:
            self.handle.setopt(curl.CAINFO, str(job.authority))
        if job.document is not None:
            self.handle.setopt(curl.HTTPHEADER, ["Content-Type: application/json"])
        self.fields = curl.POSTFIELDS

    def count(self, chunk: bytes) -> None:
        """Take a piece of a body that nobody wants."""
        self.received += len(chunk)

    def prepare(self) -> None:
        """Make the body of the next request."""
        if self.job.document is not None:
            self.handle.setopt(self.fields, self.job.encoded())

    def finish(self) -> None:
        """Check the answer, and be ready for the next."""
        self.job.check(len(b"".join(self.chunks)) + self.received)
        self.chunks.clear()
        self.received = 0


def one_by_one(job: Job, transfer: Transfer, enough: Callable[[int], bool]) -> Done:
    """Request after request on one handle until ``enough(done)``."""
    meter, done = Meter(), 0
    meter.start()
    while True:
        transfer.prepare()
        transfer.handle.perform()
        transfer.finish()
        done += 1
        if enough(done):
            return meter.stop(done)


class Multi:
    """Many transfers at once."""

    def __init__(self, curl: Any, job: Job) -> None:
        self.curl, self.job = curl, job
        self.multi = curl.CurlMulti()
        self.multi.setopt(curl.M_SOCKETFUNCTION, self.on_socket)
        self.multi.setopt(curl.M_TIMERFUNCTION, self.on_timer)
        self.multi.setopt(curl.M_MAXCONNECTS, job.concurrency)
        self.epoll = select.epoll()
        self.watched: set[int] = set()
        self.due: float | None = None
        self.transfers = [Transfer(curl, job) for _ in range(job.concurrency)]
        self.by_handle = {transfer.handle: transfer for transfer in self.transfers}

    def on_socket(self, what: int, fd: int, multi: object, data: object) -> None:
        """libcurl wants other events of a socket (CURLMOPT_SOCKETFUNCTION)."""
        if what == self.curl.POLL_REMOVE:
            if fd in self.watched:
                self.watched.discard(fd)
                self.epoll.unregister(fd)
            return
        events = select.EPOLLIN if what & self.curl.POLL_IN else 0
        events |= select.EPOLLOUT if what & self.curl.POLL_OUT else 0
        if fd in self.watched:
            self.epoll.modify(fd, events)
        else:
            self.watched.add(fd)
            self.epoll.register(fd, events)

    def on_timer(self, milliseconds: int) -> None:
        """libcurl wants to be called later, or (-1) not (CURLMOPT_TIMERFUNCTION)."""
        self.due = None if milliseconds < 0 else perf_counter() + milliseconds / 1000

    def perform(self) -> Done:
        """Keep all handles busy for the time of the job, or until each has been used once."""
        meter, again = Meter(), self.job.kind is Kind.BUSY
        if not again:
            meter.start()
        self.add(self.transfers)
        if not again:
            left = len(self.transfers)
            while left:
                left -= len(self.turn())
            return meter.stop(len(self.transfers))
        self.until(perf_counter() + self.job.warmup)
        meter.start()
        done = meter.stop(self.until(perf_counter() + self.job.seconds))
        self.remove(self.transfers)
        return done

    def until(self, end: float) -> int:
        """Start a transfer for each that ends; returns how many ended."""
        count = 0
        while perf_counter() < end:
            ended = self.turn()
            count += len(ended)
            self.add(ended)
        return count

    def add(self, transfers: list[Transfer]) -> None:
        """Start."""
        for transfer in transfers:
            transfer.prepare()
            self.multi.add_handle(transfer.handle)

    def remove(self, transfers: list[Transfer]) -> None:
        """Take handles out, whatever becomes of what they were doing."""
        for transfer in transfers:
            self.multi.remove_handle(transfer.handle)

    def turn(self) -> list[Transfer]:
        """Wait once, let libcurl do what can be done, and return the transfers that ended."""
        wait = LONGEST_WAIT if self.due is None else min(max(self.due - perf_counter(), 0), LONGEST_WAIT)
        for fd, events in self.epoll.poll(wait, EVENTS):
            readable = self.curl.CSELECT_IN if events & ~select.EPOLLOUT else 0
            writable = self.curl.CSELECT_OUT if events & select.EPOLLOUT else 0
            self.multi.socket_action(fd, readable | writable)
        if self.due is not None and self.due <= perf_counter():
            self.due = None
            self.multi.socket_action(self.curl.SOCKET_TIMEOUT, 0)
        ended: list[Transfer] = []
        more = 1
        while more:
            more, good, bad = self.multi.info_read(EVENTS)
            if bad:
                raise ConnectionError(f"{self.job.url}: {bad[0][2]}")
            ended.extend(self.by_handle[handle] for handle in good)
        self.remove(ended)
        for transfer in ended:
            transfer.finish()
        return ended
