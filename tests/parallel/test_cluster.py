"""``weft.map`` over a Dask cluster: a real scheduler and real workers on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fetch_server import Server

pytestmark = [
    pytest.mark.weft_only,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("distributed", "cloudpickle")),
        reason="not installed: distributed (weft[cluster])",
    ),
]

ROOT = Path(__file__).parents[2]
LIMIT = 60  # seconds; a worker takes two to start, and ten times that on a busy machine

# Dask gives a task up as soon as a worker has died of it (it would try three more): what follows is up to weft.
SETTINGS = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers of one thread each, which are replaced when they die."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    environment = {**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    log = (folder / "log").open("w")
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0", *common]]
    commands += [["worker", "--nthreads", "1", "--local-directory", str(folder), *common]] * 2
    processes = []
    try:
        for words in commands:
            command = [sys.executable, "-m", "dask", *words]
            processes.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, process_group=0)
            )
        deadline = time.monotonic() + LIMIT
        while not file.exists() or not file.read_text().strip():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            os.killpg(process.pid, 9)  # a nanny and its worker
            process.wait()
        log.close()


@pytest.fixture(scope="module")
def answers(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``tests/parallel/dask_program.py`` says."""
    command = [
        sys.executable,
        "-m",
        "tests.parallel.dask_program",
        cluster,
        str(tmp_path_factory.mktemp("notes") / "x"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestCluster:
    @pytest.mark.parametrize("function", ["plain", "coroutines", "by_value"])
    def test_results(self, answers: Any, function: str) -> None:
        assert answers[function] == [number**2 for number in range(300)]

    def test_a_client_of_the_user(self, answers: Any) -> None:
        assert answers["clients"] == [[number**2 for number in range(9)]] * 3

    def test_failures(self, answers: Any) -> None:
        assert answers["failures"] == ["item 7 (7) failed: ValueError: seven", "ValueError", 7, 29]

    def test_a_worker_that_is_killed_loses_nothing(self, answers: Any) -> None:
        assert answers["killed"] == [list(range(200)), True]

    def test_an_item_that_kills_workers_is_reported(self, answers: Any) -> None:
        assert answers["poisoned"] == [0, 1, 2, "KilledWorker", 4, 5, 6, 7]

    def test_leaving_early_leaves_no_task(self, answers: Any) -> None:
        assert answers["tasks_left"] == []

    def test_nobody_answers(self, answers: Any) -> None:
        assert answers["nobody"].startswith("no Dask scheduler answers at tcp://127.0.0.1:9: ")

    def test_weft_fetch(self, cluster: str, tmp_path: Path) -> None:
        with Server() as server:
            urls = [f"{server.url}/page/{number}" for number in range(30)]
            command = [sys.executable, "-m", "weft", "fetch", *urls, "--cluster", cluster]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
            assert (done.returncode, server.asked.total()) == (0, 30), done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert sorted(record["url"] for record in records) == sorted(urls)
