"""The HTTP clients under measurement: each does every job that a case gives it. No test asserts a time."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import bench.cases  # noqa: F401  registers every case
from bench.clients import FIELD, PERFORMERS, loads, wrk
from bench.clients.job import Done, Job, Kind, Meter, WrongAnswer
from bench.load import nginx
from bench.model import CASES, Case
from bench.store import ROOT

HTTP = [case for case in CASES.values() if case.group == "http"]

# One process per client does all its cases, very short: what they share is the import of the library.
DO_CASES = """
import json, sys
import bench.cases
from bench.model import CASES
contender, *names = sys.argv[1:]
print(json.dumps({name: CASES[name].measure(contender, 0.02) for name in names}))
"""

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def cases_of(name: str) -> list[Case]:
    """The cases in which a client takes part and which can run here; wrk, which takes a second each, does two."""
    cases = [case for case in HTTP if name in case.field.names and not case.missing()]
    return [case for case in cases if name != "wrk" or case.name in {"http.get-10", "http.post-100"}]


@needs_compiler
@pytest.mark.parametrize("name", FIELD.names)
def test_every_client_does_every_case_that_it_takes_part_in(name: str) -> None:
    if reason := PERFORMERS[name].missing():
        pytest.skip(f"{name}: {reason}")
    cases = cases_of(name)
    command = [sys.executable, "-c", DO_CASES, name, *(case.name for case in cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    samples = json.loads(done.stdout)
    for case in cases:
        assert {metric.key for metric in case.metrics} <= set(samples[case.name]), case.name
        assert samples[case.name][case.headline.key] > 0, case.name


@pytest.mark.skipif(bool(nginx.missing()), reason=nginx.missing() or "all is there")
def test_nginx_is_gone_when_it_has_served() -> None:
    with nginx.nginx(10) as server:
        assert server.authority.read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert not server.authority.exists()


def test_only_the_client_that_is_measured_is_imported() -> None:
    libraries = sorted({package for one in FIELD.everyone for package in one.versions()} - {"asyncio", "weft"})
    program = f"import sys, bench.cases; print([name for name in {libraries} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "aiohttp" in libraries
    assert done.stdout.strip() == "[]"


class TestLoads:
    """The shapes of load, with a client that asks nobody."""

    def perform(self, job: Job, length: int = 5) -> tuple[Done, list[str]]:
        asked: list[str] = []

        @asynccontextmanager
        async def session(job: Job) -> AsyncIterator[loads.Requests]:
            def asks(what: str) -> loads.Ask:
                async def ask() -> int:
                    asked.append(what)
                    await asyncio.sleep(0)
                    return length

                return ask

            yield loads.Requests(asks("get"), asks("post"), asks("download"))

        return asyncio.run(loads.perform(session, job)), asked

    def test_a_herd_asks_once_each(self) -> None:
        done, asked = self.perform(Job(Kind.HERD, "x", 5, 30))
        assert done.requests == 30
        assert asked == ["get"] * 30

    def test_a_download_is_one(self) -> None:
        done, asked = self.perform(Job(Kind.DOWNLOAD, "x", 5))
        assert done.requests == 1
        assert asked == ["download"]

    def test_a_document_is_posted(self) -> None:
        done, asked = self.perform(Job(Kind.BUSY, "x", 5, 3, 0.001, document={"a": 1}))
        assert set(asked) == {"post"}
        assert len(asked) >= 3
        assert done.cpu == pytest.approx(done.user + done.system)

    @pytest.mark.parametrize("kind", Kind)
    def test_a_wrong_answer_is_an_error_and_one_only(self, kind: Kind) -> None:
        with pytest.raises(WrongAnswer, match="a body of 4 bytes, not 5"):
            self.perform(Job(kind, "x", 5, 3, 0.001), length=4)

    def test_what_is_done_before_and_after_is_not_counted(self) -> None:
        job = Job(Kind.BUSY, "x", 5, 2, 0.005)
        done, asked = self.perform(job)
        assert 0 < done.requests < len(asked)


def test_wrk_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="not do a download"):
        wrk.perform(Job(Kind.DOWNLOAD, "x", 5))


def test_the_meter_counts_this_process_only_while_it_runs() -> None:
    meter = Meter()
    meter.start()
    done = meter.stop(7)
    assert done.requests == 7
    assert done.seconds > 0 and done.cpu >= 0
