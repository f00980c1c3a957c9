"""What an HTTP client is asked to do in a measurement, and what it has done.

The invariant: processor time is that of the whole process, all threads of a client included, and nothing of what
came before ``Meter.start`` (imports, making the client, warming up) is in it. Called by the drivers in this package
and by ``bench.cases.http``.
"""

from __future__ import annotations

import json
import os
import resource
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import clock_gettime, perf_counter, process_time
from typing import Any


class Kind(Enum):
    """The shape of the load."""

    BUSY = "busy"  # so many at once, each followed by the next, for some seconds
    HERD = "herd"  # so many at once, each once
    DOWNLOAD = "download"  # one large body, thrown away as it comes


@dataclass(frozen=True)
class Job:
    """A load.

    Attributes:
        url: what is asked for.
        length: how many bytes the body of each answer has; anything else is an error.
        concurrency: how many requests are under way at once.
        seconds: how long the counting lasts (``Kind.BUSY``).
        document: is sent as JSON by POST; None for GET.
        authority: the file of the certificate that the server is to be trusted for (PEM).
    """

    kind: Kind
    url: str
    length: int
    concurrency: int = 1
    seconds: float = 0.0
    document: dict[str, Any] | None = None
    authority: Path | None = None

    @property
    def warmup(self) -> float:
        """How long requests are made before they are counted, in seconds, at least."""
        return self.seconds / 4

    def tls(self) -> ssl.SSLContext | None:
        """A context that trusts the server, for clients that take one; None where there is no TLS."""
        return ssl.create_default_context(cafile=str(self.authority)) if self.authority else None

    def encoded(self) -> bytes:
        """The document as clients without a JSON argument send it: made anew for each request, as they must."""
        return json.dumps(self.document).encode()

    def check(self, length: int) -> None:
        """Compare a body with what was expected.

        Raises:
            WrongAnswer: its length is another.
        """
        if length != self.length:
            raise WrongAnswer(f"{self.url}: a body of {length} bytes, not {self.length}")


class WrongAnswer(Exception):
    """What came back is not what the server of the benchmark sends."""


@dataclass(frozen=True)
class Done:
    """What was done: requests, and what they took, in seconds of the clock and of the processor."""

    requests: int
    seconds: float
    user: float
    system: float

    @property
    def cpu(self) -> float:
        """User and system time, in seconds."""
        return self.user + self.system


class Meter:
    """Measures this process between ``start`` and ``stop``."""

    def start(self) -> None:
        """Begin."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._ticks = usage.ru_utime, usage.ru_stime
        self._begun = perf_counter(), process_time()

    def stop(self, requests: int) -> Done:
        """The end: what has been spent since ``start`` on so many requests."""
        seconds, cpu = perf_counter() - self._begun[0], process_time() - self._begun[1]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        user, system = usage.ru_utime - self._ticks[0], usage.ru_stime - self._ticks[1]
        # The process clock is exact; how the kernel splits it may come from ticks.
        share = user / (user + system) if user + system > 0 else 0.0
        return Done(requests, seconds, cpu * share, cpu * (1 - share))


def peak_mib() -> float:
    """The largest resident set of this process so far, in MiB (``VmHWM``: ``ru_maxrss`` knows what was before exec)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM: the peak of the resident set is not known here")


def cpu_of(pid: int) -> float:
    """The processor seconds of another process (clock_getcpuclockid(3), which Python has for threads only)."""
    return clock_gettime((~pid << 3) | 2)


def pin(core: int) -> None:
    """Keep this process, and the threads that its client will start, on one core."""
    os.sched_setaffinity(0, {core})
