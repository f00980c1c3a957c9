"""The engine of ``weft fetch`` and the making of results, over a client without a network."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fetch_fakes import FakeClient
from weft.cli.fetch.engine import Engine, Feed
from weft.cli.fetch.http import Fetcher, _charset
from weft.cli.fetch.model import Item, Refused, Result, SinkError
from weft.cli.fetch.options import Options
from weft.cli.fetch.run import Outcome
from weft.cli.fetch.run import run as run_fetch
from weft.cli.fetch.sinks.files import Files
from weft.cli.fetch.sinks.lines import Lines
from weft.cli.fetch.sinks.writer import Writer
from weft.cli.fetch.source import Source
from weft.cli.fetch.stats import Stats

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ROOT = Path(__file__).parents[2]


def fetch_one(url: str, run: Run, files: Files | None = None, problem: str | None = None, **options: Any) -> Result:
    async def main() -> Result:
        return await Fetcher(FakeClient(), Options(**options), files)(Item(url, 3, problem))

    result: Result = run(main())
    return result


class TestFetcher:
    def test_success(self, run: Run) -> None:
        result = fetch_one("http://h/size/2500", run)
        assert (result.ok, result.status, result.size, result.final_url) == (True, 200, 2500, "http://h/size/2500")
        assert (result.body, result.charset, result.headers) == (b"x" * 2500, "utf-8", None)
        assert result.first_byte is not None
        assert 0 <= result.first_byte <= result.seconds

    def test_headers_where_they_are_wanted(self, run: Run) -> None:
        wanted = [("Content-Type", "text/plain; charset=utf-8")]
        assert fetch_one("http://h/", run, show_headers=True).headers == wanted
        assert fetch_one("http://h/", run, db="x").headers == wanted

    def test_an_error_of_the_server_is_a_failure_with_its_body(self, run: Run) -> None:
        result = fetch_one("http://h/status/404", run)
        assert (result.ok, result.status, result.error, result.body) == (False, 404, None, b"http://h/status/404")

    def test_no_answer(self, run: Run) -> None:
        result = fetch_one("http://h/fail", run)
        assert (result.ok, result.status, result.error) == (False, None, "ConnectionRefusedError")
        assert result.message == "nobody there"

    def test_half_a_body_is_no_body(self, run: Run) -> None:
        result = fetch_one("http://h/broken/1500", run)
        assert (result.ok, result.status, result.error) == (False, 200, "ConnectionResetError")
        assert (result.size, result.body) == (1500, None)

    def test_a_line_that_is_no_url(self, run: Run) -> None:
        result = fetch_one("junk", run, problem="not UTF-8")
        assert (result.error, result.message) == ("InvalidURLError", "not UTF-8")

    def test_too_large(self, run: Run) -> None:
        assert fetch_one("http://h/size/2000", run, max_size=2000).ok
        result = fetch_one("http://h/size/5000", run, max_size=2000)
        assert (result.error, result.message) == ("BodyTooLargeError", "the body is larger than --max-size 2000")
        assert result.size == 3000  # and no more was read

    def test_the_body_may_be_left_out(self, run: Run) -> None:
        result = fetch_one("http://h/size/2500", run, body="none")
        assert (result.ok, result.size, result.body) == (True, 2500, None)

    def test_to_a_file(self, run: Run, tmp_path: Path) -> None:
        files = Files(str(tmp_path))
        result = fetch_one("http://h/size/2500", run, files)
        assert result.file is not None
        assert (tmp_path / result.file).read_bytes() == b"x" * 2500
        assert result.body is None
        for url in ("http://h/status/500", "http://h/broken/1500", "http://h/fail"):
            assert fetch_one(url, run, files).file is None
        assert os.listdir(tmp_path) == [result.file]
        files.close()

    def test_what_is_asked_for(self, run: Run) -> None:
        async def main() -> None:
            client = FakeClient()
            await Fetcher(client, Options(method="PUT", data=b"1"))(Item("http://h/"))
            await Fetcher(client, Options())(Item("http://h/"))
            assert client.calls == [("PUT", "http://h/", {"content": b"1"}), ("GET", "http://h/", {})]

        run(main())

    @pytest.mark.parametrize(
        ("value", "charset"),
        [
            (None, None),
            ("text/html", None),
            ("text/html; charset=UTF-8", "UTF-8"),
            ('text/html;a=b; Charset="x y"', "x y"),
            ("text/html; charset=", None),
        ],
    )
    def test_charset(self, value: str | None, charset: str | None) -> None:
        assert _charset(value) == charset


def engine_of(
    urls: list[str], client: FakeClient, writers: list[Writer], concurrency: int = 5, **options: Any
) -> tuple[Engine, Stats]:
    stats = Stats()
    feed = Feed(Source(urls, None), stats, **options)
    return Engine(feed, Fetcher(client, Options()), writers, stats, concurrency), stats


class TestEngine:
    def test_all_are_fetched_so_many_at_once(self, run: Run) -> None:
        async def main() -> None:
            client = FakeClient()
            engine, stats = engine_of([f"http://h/{number}" for number in range(3000)], client, [])
            await engine.run()
            assert (stats.done, stats.in_flight, client.most_under_way) == (3000, 0, 5)
            assert len({url for _, url, _ in client.calls}) == 3000

        run(main())

    def test_few_urls_need_few_tasks(self, run: Run) -> None:
        async def main() -> None:
            client = FakeClient()
            engine, stats = engine_of(["http://h/slow"] * 3, client, [], concurrency=1000)
            running = asyncio.ensure_future(engine.run())
            while client.under_way < 3:
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) <= 6
            client.release.set()
            await running
            assert stats.done == 3

        run(main())

    def test_no_urls(self, run: Run) -> None:
        async def main() -> None:
            engine, stats = engine_of([], FakeClient(), [])
            await engine.run()
            assert stats.finished == 0

        run(main())

    def test_stop_ends_what_is_under_way_and_keeps_what_is_done(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            client = FakeClient()
            writer = Writer(Lines(str(tmp_path / "out")))
            urls = [f"http://h/{number}" for number in range(10)] + ["http://h/slow"] * 100
            engine, stats = engine_of(urls, client, [writer])
            running = asyncio.ensure_future(engine.run())
            while stats.done < 10 or client.under_way < 5:
                await asyncio.sleep(0)
            engine.stop()
            await running
            await writer.close()
            assert (client.under_way, stats.in_flight, stats.failed) == (0, 0, 0)
            assert len(client.calls) == 15
            assert len((tmp_path / "out").read_text().splitlines()) == 10

        run(main())

    def test_stop_before_it_starts(self, run: Run) -> None:
        async def main() -> None:
            engine, stats = engine_of(["http://h/"], FakeClient(), [])
            engine.stop()
            await engine.run()
            assert stats.finished == 0

        run(main())

    def test_a_sink_that_fails_ends_the_run(self, run: Run) -> None:
        async def main() -> None:
            writer = Writer(Lines("/dev/full"))
            engine, stats = engine_of([f"http://h/{number}" for number in range(10_000)], FakeClient(), [writer])
            with pytest.raises(SinkError, match="No space left"):
                await engine.run()
            assert 0 < stats.done < 10_000
            with pytest.raises(SinkError):
                await writer.close()

        run(main())

    def test_rate(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []

        class Bucket:
            def __init__(self, rate: float) -> None:
                pauses.append(rate)

            def reserve(self) -> float:
                pauses.append(0)
                return 0.0001

        monkeypatch.setattr("weft.cli.fetch.engine.TokenBucket", Bucket)

        async def main() -> None:
            engine, stats = engine_of(["http://h/"] * 20, FakeClient(), [], rate=7.0)
            await engine.run()
            assert stats.done == 20
            assert pauses == [7.0] + [0] * 20

        run(main())


def fetch(client: FakeClient | None = None, **options: Any) -> tuple[Outcome, FakeClient]:
    """Runs a whole command but for the command line; without signals."""
    used: list[FakeClient] = []

    def make(options: Options) -> FakeClient:
        used.append(client or FakeClient())
        return used[0]

    outcome = run_fetch(Options(quiet=True, **options), [], make)
    return outcome, used[0]


URLS = tuple(f"http://h/{name}" for name in ("1", "2", "status/404", "fail", "size/5000"))
GOOD = {"http://h/1", "http://h/2", "http://h/size/5000"}


@pytest.mark.weft_only
class TestRun:
    def test_all_sinks_at_once(self, tmp_path: Path) -> None:
        out, db, directory = (tmp_path / name for name in ("out", "db", "dir"))
        outcome, _ = fetch(urls=URLS, output=str(out), db=str(db), out_dir=str(directory))
        assert (outcome.stats.done, outcome.stats.failed, outcome.error) == (3, 2, None)
        records = {record["url"]: record for record in map(json.loads, out.read_text().splitlines())}
        assert set(records) == set(URLS)
        assert {url for url, record in records.items() if record["ok"]} == GOOD
        database = sqlite3.connect(db)
        rows = dict(database.execute("SELECT url, file FROM results WHERE ok"))
        database.close()
        assert rows == {url: records[url]["file"] for url in GOOD}
        assert set(os.listdir(directory)) == set(rows.values())

    @pytest.mark.parametrize("sinks", [("output",), ("db",), ("out_dir",), ("output", "db", "out_dir")])
    def test_resume_asks_only_for_what_is_missing(self, tmp_path: Path, sinks: tuple[str, ...]) -> None:
        options: dict[str, Any] = {name: str(tmp_path / name) for name in sinks}
        fetch(urls=URLS, **options)
        outcome, client = fetch(urls=(*URLS, "http://h/new"), resume=True, **options)
        assert sorted(url for _, url, _ in client.calls) == ["http://h/fail", "http://h/new", "http://h/status/404"]
        assert (outcome.stats.skipped, outcome.stats.done, outcome.stats.failed) == (3, 1, 2)

    def test_what_one_sink_lacks_is_fetched_for_all(self, tmp_path: Path) -> None:
        fetch(urls=("http://h/1", "http://h/2"), output=str(tmp_path / "out"))
        fetch(urls=("http://h/1",), db=str(tmp_path / "db"))
        _, client = fetch(
            urls=("http://h/1", "http://h/2"), output=str(tmp_path / "out"), db=str(tmp_path / "db"), resume=True
        )
        assert [url for _, url, _ in client.calls] == ["http://h/2"]

    def test_a_sink_that_cannot_be_opened_leaves_nothing_open(self, tmp_path: Path) -> None:
        (tmp_path / "db").write_text("no database" * 100)
        with pytest.raises(Refused, match="cannot use"):
            fetch(urls=URLS, output=str(tmp_path / "out"), db=str(tmp_path / "db"))

    def test_a_full_disk_is_told(self) -> None:
        outcome, _ = fetch(urls=URLS, output="/dev/full")
        assert str(outcome.error) == "cannot write /dev/full: No space left on device"

    def test_bad_lines_are_failures_with_their_number(self, tmp_path: Path) -> None:
        (tmp_path / "urls").write_bytes(b"http://h/1\n\xff\n# no\nhttp://h/2\n")
        outcome, _ = fetch(file=str(tmp_path / "urls"), output=str(tmp_path / "out"))
        assert (outcome.stats.done, outcome.stats.failed) == (2, 1)
        records = list(map(json.loads, (tmp_path / "out").read_text().splitlines()))
        assert [record["line"] for record in records if not record["ok"]] == [2]


MEMORY = """
import re, sys
from tests.cli.fetch_fakes import FakeClient
from weft.cli.fetch.options import Options
from weft.cli.fetch.run import run

def make(options):
    client = FakeClient()
    client.keep_calls = False
    return client

out, db = sys.argv[2:4]
options = Options(file=sys.argv[1], output=out, db=db, quiet=True, resume="resume" in sys.argv)
outcome = run(options, [], make)
assert outcome.error is None, outcome.error
# Not ru_maxrss: that begins with the peak of the process which started this one.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print(outcome.stats.done, outcome.stats.skipped, peak)
"""


def peak(count: int, folder: Path, *words: str) -> tuple[int, int, int]:
    """Fetches so many URLs in a process of its own; how many it fetched, skipped, and its peak of memory in KiB."""
    urls = folder / f"urls-{count}"
    if not urls.exists():
        with urls.open("w") as stream:
            stream.writelines(f"http://h/{number}/{'x' * 40}\n" for number in range(count))
    names = [str(folder / f"{kind}-{count}") for kind in ("out", "db")]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(urls), *names, *words],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fetched, skipped, kibibytes = map(int, done.stdout.split())
    return fetched, skipped, kibibytes


@pytest.mark.weft_only
@pytest.mark.time_limit(600)
def test_memory_does_not_grow_with_the_number_of_urls(tmp_path: Path) -> None:
    few, many = 2_000, 60_000
    assert peak(few, tmp_path)[:2] == (few, 0)
    first = peak(few, tmp_path, "resume")
    assert first[:2] == (0, few)
    base = peak(2_001, tmp_path)[2]
    fetched, _, memory = peak(many, tmp_path)
    assert fetched == many
    assert memory - base < 24 << 10  # KiB. The results in the file alone take 20 MiB, as objects ten times that.
    _, skipped, memory = peak(many, tmp_path, "resume")
    assert skipped == many
    assert memory - base < 24 << 10
