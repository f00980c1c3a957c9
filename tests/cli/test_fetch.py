"""``weft fetch`` as users run it: a process of its own, a real client, a real server on loopback."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Command, start_command
from tests.cli.fetch_server import Server

pytestmark = pytest.mark.weft_only

LIMIT = 30  # seconds; far more than any of these runs takes
ROUNDS = 4  # interrupts for each kind of sink: two by each signal


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``weft fetch`` and lets the test talk with it."""
    processes = []

    def call(*arguments: str) -> subprocess.Popen[str]:
        processes.append(start_command([sys.executable, "-m", "weft", "fetch", *arguments], tmp_path, {}))
        return processes[-1]

    yield call
    for process in processes:
        with process:
            process.kill()


def records_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestRequests:
    def test_one_url(self, weft: Command, server: Server) -> None:
        done = weft("fetch", f"{server.url}/hello")
        assert done.returncode == 0, done.stderr
        (record,) = records_of(done.stdout)
        assert (record["ok"], record["status"], record["body"]) == (True, 200, "/hello")
        assert record["url"] == record["final_url"] == f"{server.url}/hello"
        assert 0 < record["first_byte"] <= record["seconds"]
        assert re.match(r"1 done, 0 failed; 6 B in .*\nlatency: least ", done.stderr)

    def test_quiet(self, weft: Command, server: Server) -> None:
        assert weft("fetch", "-q", f"{server.url}/hello").stderr == ""

    def test_method_headers_and_body(self, weft: Command, server: Server) -> None:
        done = weft("fetch", "-q", f"{server.url}/echo", "-X", "PUT", "-H", "X-A: 1", "--json", '{"a":1}')
        seen = json.loads(records_of(done.stdout)[0]["body"])
        headers = [(name.lower(), value) for name, value in seen["headers"]]
        assert (seen["method"], seen["body"]) == ("PUT", '{"a":1}')
        assert ("x-a", "1") in headers
        assert ("content-type", "application/json") in headers

    def test_a_header_twice(self, weft: Command, server: Server) -> None:
        done = weft("fetch", "-q", f"{server.url}/echo", "-H", "X-A: 1", "-H", "X-A: 2")
        headers = json.loads(records_of(done.stdout)[0]["body"])["headers"]
        assert [value for name, value in headers if name.lower() == "x-a"] == ["1", "2"]

    def test_redirects(self, weft: Command, server: Server) -> None:
        (followed,) = records_of(weft("fetch", "-q", f"{server.url}/redirect").stdout)
        assert (followed["status"], followed["final_url"]) == (200, f"{server.url}/")
        (kept,) = records_of(weft("fetch", "-q", "--no-redirects", "--show-headers", f"{server.url}/redirect").stdout)
        assert (kept["ok"], kept["status"]) == (True, 302)
        assert ["Location", "/"] in kept["headers"]

    def test_retries(self, weft: Command, server: Server) -> None:
        assert weft("fetch", f"{server.url}/flaky/1").returncode == 0
        assert server.asked["/flaky/1"] == 2
        assert weft("fetch", f"{server.url}/flaky/2", "--retries", "0").returncode == 1
        assert server.asked["/flaky/2"] == 1

    def test_timeout(self, weft: Command, server: Server) -> None:
        done = weft("fetch", f"{server.url}/wait/x", "--timeout", "50ms", "--retries", "0")
        (record,) = records_of(done.stdout)
        assert (done.returncode, record["error"]) == (1, "TotalTimeoutError")

    def test_first_byte_timeout(self, weft: Command, server: Server) -> None:
        done = weft("fetch", f"{server.url}/wait/x", "--first-byte-timeout", "50ms", "--retries", "0")
        assert records_of(done.stdout)[0]["error"] == "FirstByteTimeoutError"

    def test_concurrency(self, weft: Command, server: Server) -> None:
        server.delay = 0.02
        urls = [f"{server.url}/{number}" for number in range(40)]
        assert weft("fetch", *urls, "-c", "4").returncode == 0
        assert server.most_under_way == 4

    def test_per_host(self, weft: Command, server: Server) -> None:
        server.delay = 0.02
        urls = [f"{server.url}/{number}" for number in range(20)]
        assert weft("fetch", *urls, "--per-host", "2").returncode == 0
        assert server.most_under_way <= 2


class TestFailures:
    def test_each_is_told_and_the_rest_goes_on(self, weft: Command, server: Server, tmp_path: Path) -> None:
        lines = [f"{server.url}/1", "not a url", f"{server.url}/status/404", "http://127.0.0.1:1/", f"{server.url}/cut",
                 "ftp://h/", f"{server.url}/2", "http://[::1/", "http://h:99999/", "http://a b/"]  # fmt: skip
        (tmp_path / "urls").write_text("\n".join(lines))
        done = weft("fetch", "-f", "urls", "--retries", "0")
        assert done.returncode == 1
        records = {record["line"]: record for record in records_of(done.stdout)}
        assert sorted(records) == list(range(1, len(lines) + 1))
        assert [number for number, record in records.items() if record["ok"]] == [1, 7]
        assert records[3]["status"] == 404
        assert records[4]["error"] == "ConnectError"
        assert (records[5]["status"], records[5]["error"]) == (200, "IncompleteBodyError")
        assert {records[number]["error"] for number in (2, 6, 8, 9, 10)} == {"InvalidURLError"}
        assert "2 done, 8 failed" in done.stderr
        assert "5 × InvalidURLError" in done.stderr
        assert "line 2: not a url: " in done.stderr

    def test_results_that_cannot_be_written(self, weft: Command, server: Server) -> None:
        done = weft("fetch", f"{server.url}/1", "-o", "/dev/full", "-q")
        assert (done.returncode, done.stderr) == (1, "weft fetch: cannot write /dev/full: No space left on device\n")

    def test_nobody_reads_the_rest(self, server: Server, start: Callable[..., subprocess.Popen[str]]) -> None:
        process = start("-f", "-")
        assert process.stdin
        assert process.stdout
        process.stdout.close()
        process.stdin.write("".join(f"{server.url}/{number}\n" for number in range(100)))
        process.stdin.close()
        assert process.wait(LIMIT) == -signal.SIGPIPE
        assert process.stderr
        assert process.stderr.read() == ""


class TestClosedStreams:
    """A process can be started without its standard streams, and the numbers then become other files'."""

    @pytest.mark.parametrize(
        ("streams", "arguments", "status", "text"),
        [
            (">&-", "http://h/", 2, "cannot write standard output: it is closed"),
            ("<&-", "-f -", 2, "cannot read -: Bad file descriptor"),
            ("<&-", "http://h/ -d @-", 2, "cannot read -: Bad file descriptor"),
            ("2>&-", "ftp://h/ -o out", 1, ""),
        ],
    )
    def test_is_no_accident(self, tmp_path: Path, streams: str, arguments: str, status: int, text: str) -> None:
        command = f"exec {sys.executable} -m weft fetch {arguments} {streams}"
        process = start_command(["sh", "-c", command], tmp_path, {})
        output, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, output) == (status, "")
        assert errors == (f"weft fetch: {text}\n" if text else "")


class TestStandardInput:
    def test_urls_are_fetched_as_they_come(self, server: Server, start: Callable[..., subprocess.Popen[str]]) -> None:
        process = start("-f", "-", "-q")
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(f"{server.url}/{number}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["body"] == f"/{number}"
        process.stdin.close()
        assert process.wait(LIMIT) == 0

    def test_interrupted_while_it_waits(self, server: Server, start: Callable[..., subprocess.Popen[str]]) -> None:
        process = start("-f", "-", "-q")
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{server.url}/1\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130


def finished(kind: str, path: Path, urls: list[str]) -> set[str]:
    """What is found whole where a run wrote."""
    if kind == "-o":
        return {record["url"] for record in records_of(path.read_text()) if record["ok"]} if path.exists() else set()
    if kind == "--db":
        if not path.exists():
            return set()
        database = sqlite3.connect(path)
        try:
            return {url for (url,) in database.execute("SELECT url FROM results WHERE ok AND body IS NOT NULL")}
        except sqlite3.OperationalError:  # killed before the table was made
            return set()
        finally:
            database.close()
    from weft.cli.fetch.sinks.files import file_name

    whole = set()
    for url in urls:
        file = path / file_name(url)
        if file.exists():
            assert file.read_text() == "/" + url.rpartition("/")[2]
            whole.add(url)
    return whole


class TestInterrupts:
    @pytest.mark.parametrize("kind", ["-o", "--db", "--out-dir"])
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    @pytest.mark.time_limit(300)
    def test_at_any_moment_nothing_that_finished_is_lost(
        self,
        tmp_path: Path,
        start: Callable[..., subprocess.Popen[str]],
        weft: Command,
        kind: str,
        number: signal.Signals,
    ) -> None:
        with Server(delay=0.003) as server:
            urls = [f"{server.url}/{index}" for index in range(400)]
            (tmp_path / "urls").write_text("\n".join(urls))
            target = tmp_path / "results"
            arguments = ["-f", "urls", kind, "results", "-c", "20", "--resume"]
            before: set[str] = set()
            for _ in range(ROUNDS):
                asked = server.asked.total()
                process = start(*arguments)
                server.wait_until_asked(asked + random.randint(1, 80))
                process.send_signal(number)
                _, errors = process.communicate(timeout=LIMIT)
                assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), errors
                if kind == "-o" and number == signal.SIGKILL:
                    cut_to_lines(target)
                now = finished(kind, target, urls)
                assert now >= before
                if number != signal.SIGKILL:
                    assert told_as_done(errors) == len(now) - len(before)
                before = now
            assert len(before) < len(urls)
            server.asked.clear()
            done = weft("fetch", *arguments)
            assert done.returncode == 0, done.stderr
            assert f"{len(before)} skipped" in done.stderr or not before
            assert finished(kind, target, urls) == set(urls)
            assert server.asked == {url.removeprefix(server.url): 1 for url in urls if url not in before}

    def test_what_is_under_way_is_given_up_at_once(
        self, tmp_path: Path, server: Server, start: Callable[..., subprocess.Popen[str]]
    ) -> None:
        process = start(*(f"{server.url}/wait/{number}" for number in range(50)), f"{server.url}/quick", "-o", "out")
        server.wait_until_asked(51)
        while not (tmp_path / "out").read_text():
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert "stopped by SIGINT; --resume goes on from here" in errors
        assert [record["body"] for record in records_of((tmp_path / "out").read_text())] == ["/quick"]

    def blocked(self, server: Server, start: Callable[..., subprocess.Popen[str]]) -> subprocess.Popen[str]:
        """A run whose results nobody reads, and that has more of them than a pipe holds."""
        process = start(*(f"{server.url}/bytes/{50_000 + number}" for number in range(20)), "-c", "20")
        server.wait_until_asked(20)
        return process

    def test_while_results_are_written(self, server: Server, start: Callable[..., subprocess.Popen[str]]) -> None:
        process = self.blocked(server, start)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert len(records_of(output)) == told_as_done(errors)

    def test_a_second_signal_ends_it_on_the_spot(
        self, server: Server, start: Callable[..., subprocess.Popen[str]]
    ) -> None:
        process = self.blocked(server, start)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        assert process.returncode in (-signal.SIGINT, 130)  # 130: no result was on its way yet

    def test_a_signal_that_is_ignored_stays_so(self, server: Server, tmp_path: Path) -> None:
        command = f"trap '' INT; exec {sys.executable} -m weft fetch {server.url}/wait/x -o out"
        process = start_command(["sh", "-c", command], tmp_path, {})
        server.wait_until_asked(1)
        process.send_signal(signal.SIGINT)
        server.release()
        _, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, told_as_done(errors)) == (0, 1)


def cut_to_lines(path: Path) -> None:
    """Leaves out the line that the crash cut short, as the resumed run will."""
    if path.exists():
        text = path.read_text()
        path.write_text(text[: text.rfind("\n") + 1])


def told_as_done(errors: str) -> int:
    match = re.search(r"^(\d+) done", errors, flags=re.MULTILINE)
    assert match is not None, errors
    return int(match[1])


class TestDisplay:
    def test_on_a_terminal(self, tmp_path: Path, server: Server) -> None:
        text = self.watch(tmp_path, server, "-o", "out")
        assert "50 in flight" in text
        assert re.search(r"\r\x1b\[K51 done, 0 failed; ", text)  # the line is gone when the summary comes

    def test_not_among_results_on_the_same_terminal(self, tmp_path: Path, server: Server) -> None:
        assert "in flight" not in self.watch(tmp_path, server, stdout=True)

    def test_not_when_quiet(self, tmp_path: Path, server: Server) -> None:
        assert self.watch(tmp_path, server, "-q", "-o", "out") == ""

    def watch(self, tmp_path: Path, server: Server, *arguments: str, stdout: bool = False) -> str:
        """What a terminal shows of a run that waits until the display had its chance."""
        urls = [f"{server.url}/wait/{number}" for number in range(50)] + [f"{server.url}/quick"]
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "weft", "fetch", *urls, *arguments]
        shown = b""
        with subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=theirs if stdout else subprocess.DEVNULL,
            stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        ) as process:  # fmt: skip
            os.close(theirs)
            server.wait_until_asked(51)
            waits = "-q" not in arguments and not stdout
            try:
                while data := os.read(ours, 10_000) if waits else b"":
                    shown += data
                    if b"50 in flight" in shown:
                        break
                server.release()
                while data := os.read(ours, 10_000):
                    shown += data
            except OSError:  # how Linux says that nobody has the terminal open any more
                pass
            finally:
                os.close(ours)
                server.release()
            assert process.wait(LIMIT) == 0
        return shown.decode()


class TestLargeBodies:
    def test_go_to_disk_as_they_come(self, weft: Command, server: Server, tmp_path: Path) -> None:
        size = 30_000_000
        done = weft("fetch", f"{server.url}/bytes/{size}", "--out-dir", "dir", "-o", "out")
        assert done.returncode == 0, done.stderr
        (record,) = records_of((tmp_path / "out").read_text())
        assert record["size"] == size
        assert (tmp_path / "dir" / record["file"]).stat().st_size == size

    def test_are_refused_where_they_would_be_held(self, weft: Command, server: Server) -> None:
        done = weft("fetch", f"{server.url}/bytes/2000000", "--max-size", "1M")
        assert (done.returncode, records_of(done.stdout)[0]["error"]) == (1, "BodyTooLargeError")
