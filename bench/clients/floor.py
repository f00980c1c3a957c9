"""The floor of the herd: the system calls that so many requests at once need, made by a program in C.

The invariant: it counts the same answers as a client, and gives none to anyone. Called by ``bench.clients``.
"""

from __future__ import annotations

import json
import subprocess
from urllib.parse import urlsplit

from bench.clients.job import Done, Job, Kind
from bench.load import program


def perform_busy(job: Job) -> Done:
    """The same, computing for 50 µs between connecting and sending: what is left for a client's own work."""
    return perform(job, 50)


def perform(job: Job, work: int = 0) -> Done:
    """Do a job (``Kind.HERD`` only), computing for ``work`` µs in each request.

    Raises:
        ValueError: it is of another kind.
        RuntimeError: the program failed, or an answer was not as expected.
    """
    if job.kind is not Kind.HERD:
        raise ValueError(f"the floor in C can be a herd, and not do a {job.kind.value}: leave it out of this case")
    url = urlsplit(job.url)
    command = [str(program("http_herd")), str(url.port), url.path, str(job.concurrency), str(job.length), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"http_herd ended with status {done.returncode}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return Done(found["requests"], found["seconds"], found["user"], found["system"])
