"""wrk, the load generator: how many requests a core can make at all, without Python.

It parses responses and counts them, and gives none to anyone. The invariant: its processor time is that of the whole
process, start included, over all requests that it counted. Called by ``bench.clients``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

from bench.clients.job import Done, Job, Kind

SHORTEST = 1  # seconds: its clock knows no fractions

POST = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = {body}
"""


def perform(job: Job) -> Done:
    """Do a job (``Kind.BUSY`` only).

    Raises:
        ValueError: it is of another kind.
        RuntimeError: wrk failed, or some answers were no success.
    """
    if job.kind is not Kind.BUSY:
        raise ValueError(f"wrk can keep a server busy, and not do a {job.kind.value}: leave it out of this case")
    command = ["wrk", "-t1", f"-c{job.concurrency}", f"-d{max(SHORTEST, round(job.seconds))}s"]
    with tempfile.TemporaryDirectory() as folder:
        if job.document is not None:
            script = Path(folder) / "post.lua"
            script.write_text(POST.format(body=json.dumps(job.encoded().decode())))
            command += ["-s", str(script)]
        start = perf_counter()
        with subprocess.Popen([*command, job.url], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            text = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    found = re.search(r"(\d+) requests in", text)
    if process.returncode != 0 or found is None or "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk ended with status {process.returncode}: {text}")
    return Done(int(found[1]), perf_counter() - start, usage.ru_utime, usage.ru_stime)
