"""``weft fetch --workers`` as users run it: the same outputs and figures, by several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Command, start_command
from tests.cli.fetch_server import Server
from weft.cli.fetch.model import Refused
from weft.cli.fetch.options import parse

pytestmark = pytest.mark.weft_only

LIMIT = 30  # seconds; far more than any of these runs takes


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def records_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def shown(records: list[dict[str, Any]]) -> list[Any]:
    """What does not change from run to run, in the order of the URLs."""
    fields = ("url", "ok", "line", "status", "final_url", "size", "body", "error")
    return sorted(([record.get(field) for field in fields] for record in records), key=str)


def children_of(pid: int) -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(name))
    return found


class TestOutputs:
    def test_the_same_as_by_one_process(self, weft: Command, server: Server, tmp_path: Path) -> None:
        paths = ["/hello", "/status/404", "/bytes/3000", "/redirect", *(f"/page/{number}" for number in range(60))]
        (tmp_path / "urls").write_text("\n".join([f"{server.url}{path}" for path in paths] + ["not a URL"]) + "\n")
        alone = weft("fetch", "-f", "urls", "--retries", "0")
        shared = weft("fetch", "-f", "urls", "--retries", "0", "--workers", "2")
        assert alone.returncode == shared.returncode == 1
        assert shown(records_of(shared.stdout)) == shown(records_of(alone.stdout))
        assert re.match(r"63 done, 2 failed; 3.* in .*\n  1 × ", shared.stderr)

    def test_files_and_a_database(self, weft: Command, server: Server, tmp_path: Path) -> None:
        urls = [f"{server.url}/page/{number}" for number in range(30)]
        done = weft("fetch", *urls, "--workers", "2", "--out-dir", "pages", "--db", "pages.db")
        assert done.returncode == 0, done.stderr
        bodies = sorted(path.read_text() for path in (tmp_path / "pages").iterdir())
        assert bodies == sorted(f"/page/{number}" for number in range(30))
        with closing(sqlite3.connect(tmp_path / "pages.db")) as database:
            rows = database.execute("SELECT url, file FROM results WHERE ok").fetchall()
        assert sorted(url for url, _ in rows) == sorted(urls)
        assert {file for _, file in rows} == set(os.listdir(tmp_path / "pages"))

    def test_resume_and_rate(self, weft: Command, server: Server, tmp_path: Path) -> None:
        urls = [f"{server.url}/page/{number}" for number in range(20)]
        assert weft("fetch", *urls[:10], "-o", "out", "--workers", "2").returncode == 0
        done = weft("fetch", *urls, "-o", "out", "--workers", "2", "--resume", "--rate", "1000")
        assert "10 done, 0 failed, 10 skipped" in done.stderr
        assert [record["url"] for record in records_of((tmp_path / "out").read_text())[:10]] != urls[10:]
        assert max(server.asked.values()) == 1

    def test_a_sink_that_cannot_be_written(self, weft: Command, server: Server) -> None:
        done = weft("fetch", f"{server.url}/a", "-o", "/dev/full", "--workers", "1")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr


class TestEnds:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stopped_and_resumed(self, weft: Command, server: Server, tmp_path: Path, number: int) -> None:
        urls = [f"{server.url}/page/{number}" for number in range(40)] + [f"{server.url}/wait/{n}" for n in range(8)]
        (tmp_path / "urls").write_text("\n".join(urls) + "\n")
        options = ("-f", "urls", "-o", "out", "--workers", "2", "-c", "60")
        with start_command([sys.executable, "-m", "weft", "fetch", *options], tmp_path, {}) as process:
            try:
                _wait_for(lambda: (tmp_path / "out").exists() and len(_lines(tmp_path / "out")) == 40)
                workers = children_of(process.pid)
                process.send_signal(number)
                _, errors = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
        assert process.returncode == 128 + number
        assert f"stopped by {signal.Signals(number).name}; --resume goes on from here" in errors
        assert len(workers) == 2
        assert [pid for pid in workers if os.path.exists(f"/proc/{pid}")] == []
        (tmp_path / "urls").write_text("\n".join(urls[:40]) + "\n")
        assert "0 done, 0 failed, 40 skipped" in weft("fetch", *options, "--resume").stderr


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--workers", "2", "--cluster", "tcp://h:1"], "exclude each other"),
            (["--cluster", "somewhere"], "is not an address such as tcp://scheduler:8786"),
            (["--cluster", "tcp://h:1", "--out-dir", "x"], "on the machines of the cluster"),
            (["--workers", "4", "-c", "3"], "-c 3 cannot be shared out among --workers 4"),
            (["--workers", "4", "--per-host", "3"], "--per-host 3 cannot be shared out"),
            (["--workers", "0"], "at least 1"),
        ],
    )
    def test_what_makes_no_sense(self, arguments: list[str], words: str) -> None:
        with pytest.raises(Refused, match=re.escape(words)):
            parse(["http://h/", *arguments])

    def test_a_cluster_without_dask(self, weft: Command, tmp_path: Path) -> None:
        (tmp_path / "distributed.py").write_text("raise ImportError('not here')")
        done = weft("fetch", "http://h/", "--cluster", "tcp://127.0.0.1:9", PYTHONPATH=str(tmp_path))
        assert done.returncode == 1
        assert "weft fetch: a cluster needs Dask: pip install 'weft[cluster]'" in done.stderr
