"""The examples show what they say: each is run as a user would run it, under ``python`` and under ``weft run``.

What is checked is the output, never how long it took. The line that ``examples/README.md`` promises of an example must
be among what it prints.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen
from urllib.request import urlopen

import pytest

from tests.cli.commands import Completed, finish_command, start_command

FOLDER = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
LINES = 110  # Short enough to be read at one go.

# Exactly what runs it, so that a warning of the loop's own fails the test.
WAYS = {"python": ["-W", "error"], "weft run": ["-W", "error", "-m", "weft", "run"]}
LOOPS = {"python": "asyncio.unix_events._UnixSelectorEventLoop", "weft run": "weft.loop.EventLoop"}


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skips where one of the packages could not be had for this Python."""
    missing = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (weft[examples])")


def promised() -> dict[str, str]:
    """The line that the README promises of each example."""
    rows = re.findall(
        r"^\| \[(\w+)\.py\]\(\1\.py\) \| .+ \| `(.+)` \|$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    return dict(rows)


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    """How the example is run; every test that asks is run both ways."""
    return str(request.param)


Start = Callable[..., Popen[str]]
Run = Callable[..., list[str]]


@pytest.fixture
def start(way: str, tmp_path: Path) -> Start:
    """Starts an example, in a directory that is not its own."""

    def start(name: str, *arguments: str, **env: str) -> Popen[str]:
        # One of them computes in coroutines to show what comes of it; on a slow machine weft.watch would have a word.
        quiet = {"WEFT_STALL_THRESHOLD": "off", **env}
        return start_command([sys.executable, *WAYS[way], str(FOLDER / f"{name}.py"), *arguments], tmp_path, quiet)

    return start


@pytest.fixture
def run(start: Start) -> Run:
    """Runs an example that ends by itself, and gives its lines; among them is the promised one."""

    def run(name: str, *arguments: str) -> list[str]:
        lines = ended_well(finish_command(start(name, *arguments), ""))
        assert promised()[name] in lines or arguments
        return lines

    return run


def ended_well(done: Completed, status: int = 0) -> list[str]:
    """The lines of an example that ended as it should, without a word on stderr."""
    assert (done.returncode, done.stderr) == (status, ""), done.stdout
    return done.stdout.splitlines()


class TestGeneratorConsumer:
    def test_it_is_primed_fed_and_closed(self, run: Run) -> None:
        lines = run("generator_consumer")
        assert "producer: TypeError: can't send non-None value to a just-started generator" in lines
        assert [line for line in lines if line.startswith("consumer: got")] == [
            "consumer: got 1, the sum is 1",
            "consumer: got 2, the sum is 3",
            "consumer: got 3, the sum is 6",
        ]
        assert lines[-2:] == ["consumer: closed, the sum was 6", "producer: the consumer is GEN_CLOSED"]

    def test_producer_and_consumer_alternate(self, run: Run) -> None:
        told = [line for line in run("generator_consumer") if re.search(r"sends \d|got \d|says 'ok", line)]
        assert [line.partition(":")[0] for line in told] == ["producer", "consumer", "producer"] * 3


class TestQueueConsumer:
    def test_every_item_goes_through_once(self, run: Run) -> None:
        lines = run("queue_consumer")
        got = [int(number) for number in re.findall(r"consumer \d: got (\d+)", "\n".join(lines))]
        assert sorted(got) == list(range(1, 9))
        assert lines[-3:] == ["consumer 1: stopped", "consumer 2: stopped", "8 items went through, the sum is 36"]

    def test_the_queue_never_holds_more_than_two(self, run: Run) -> None:
        held = re.findall(r"(\d+) more are in the queue", "\n".join(run("queue_consumer")))
        assert len(held) == 8
        assert set(map(int, held)) <= {0, 1, 2}


class TestTaskStates:
    WAYS_TO_A_TASK = ("ensure_future", "loop.create_task", "asyncio.create_task")

    def test_the_states(self, run: Run) -> None:
        lines = run("task_states")
        for name in self.WAYS_TO_A_TASK:
            told = [
                line.split()[-1]
                for line in lines
                if line.startswith(f"{name} ") and re.search("made|runs|waits|returned", line)
            ]
            assert told == ["pending", "running", "pending", "done"], name
        assert [line.split()[-1] for line in lines if line.startswith("victim")] == ["pending", "cancelled"]

    def test_the_type_is_the_same_three_times(self, run: Run, way: str) -> None:
        types = re.findall(r"^(\S+) +is a (\S+)$", "\n".join(run("task_states")), re.MULTILINE)
        assert [name for name, _ in types] == list(self.WAYS_TO_A_TASK)
        (kind,) = {kind for _, kind in types}
        assert kind.partition(".")[0] == {"python": "_asyncio", "weft run": "weft"}[way]


class TestDoneCallbacks:
    def test_each_end_is_told(self, run: Run) -> None:
        lines = run("done_callbacks")
        assert {"good: returned 3.0", "stopped: was cancelled"} < set(lines)

    def test_a_broken_callback_stops_nobody(self, run: Run) -> None:
        lines = run("done_callbacks")
        place = lines.index("exception handler: LookupError('a mistake in a callback')")
        assert lines[place - 1 : place + 2 : 2] == [
            "good: returned 3.0",
            "good: the last callback, after the broken one",
        ]

    def test_removed_and_late(self, run: Run) -> None:
        lines = run("done_callbacks")
        assert lines[0] == "removed 1 callback"
        assert not any(line.startswith("never") for line in lines)
        assert lines[-2:] == ["late: added to a task that is done", "late: returned 3.0"]


class TestSleepers:
    def test_all_of_them_wake(self, run: Run) -> None:
        text = "\n".join(lines := run("sleepers", "--scale", "0.02"))
        assert promised()["sleepers"] in lines
        lengths = [(int(count), int(length)) for count, length in re.findall(r"(\d+) slept (\d) s", text)]
        assert sum(count for count, _ in lengths) == 200
        assert {length for _, length in lengths} == set(range(1, 8))  # by chance not: once in 10^12 runs
        alone = sum(count * length for count, length in lengths) * 0.02
        assert re.search(rf"together they took [\d.]+ s; one after another {alone:.2f} s", text)

    def test_their_number_can_be_chosen(self, run: Run) -> None:
        assert "1000 of 1000 tasks are done, in 1 thread" in run("sleepers", "--scale", "0.01", "--tasks", "1000")


class TestNestedResults:
    def test_five_ways(self, run: Run) -> None:
        assert run("nested_results") == [
            "wait: outer(3) gave 3->9",
            "wait: outer(6) gave 6->36",
            "wait: outer(9) gave 9->81",
            "wait: 3 done, 0 pending",
            "gather: 9->81, 6->36, 3->9",
            "returned gather: 9->81, 6->36, 3->9",
            "returned wait: 3->9 is first, 2 are pending",
            "returned wait: then 6->36, 9->81",
            "as_completed: 3->9",
            "as_completed: 6->36",
            "as_completed: 9->81",
        ]


class TestCleanStop:
    def test_ctrl_c(self, start: Start) -> None:
        process = start("clean_stop")
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        lines = ended_well(finish_command(process, ""), 130)
        assert first == "5 workers run; press Ctrl-C\n"
        assert sorted(lines[:-2]) == sorted(
            ["main: cancelled"]
            + [f"worker {number}: puts things in order" for number in range(1, 6)]
            + [f"worker {number}: finally ran to its end" for number in range(1, 6)]
        )
        assert lines[-2:] == [promised()["clean_stop"], "stopped: the loop is closed"]


@needs("aiohttp")
class TestFetchPages:
    def test_from_its_own_server(self, run: Run) -> None:
        pages = re.findall(r"page +(\d+): status 200, +(\d+) bytes", "\n".join(run("fetch_pages")))
        assert [(int(number), int(size)) for number, size in pages] == [(n, 5 * n) for n in range(1, 21)]

    def test_how_many(self, run: Run) -> None:
        assert "3 pages, 30 bytes" in run("fetch_pages", "--pages", "3")

    @needs("starlette", "uvicorn")
    def test_from_a_url(self, run: Run, start: Start) -> None:
        with serving(start) as url:
            lines = run("fetch_pages", url, "--pages", "2")
        assert [line.split(",")[0] for line in lines[:2]] == ["page   1: status 200", "page   2: status 200"]


class TestHttpClient:
    def at_a_time(self, lines: list[str]) -> list[int]:
        """How many requests the server had at a time, in each of the three ways."""
        return [int(number) for number in re.findall(r"the server had +(\d+) at a time", "\n".join(lines))]

    def test_three_ways(self, run: Run) -> None:
        alone, all_of_them, few = self.at_a_time(run("http_client"))
        assert alone == 1
        assert few <= 10 < all_of_them <= 50

    def test_how_many(self, run: Run) -> None:
        lines = run("http_client", "--pages", "20", "--limit", "3")
        assert lines[-1] == "20 pages, 1050 bytes, three times the same"
        assert self.at_a_time(lines)[2] <= 3


@contextmanager
def serving(start: Start, end: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """Runs the web service inside the block; gives its URL. It stops well when it gets the signal."""
    process = start("web_service", "--port", "0")
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)\n", said)
        assert found, said
        yield found[1]
        process.send_signal(end)
    except BaseException:
        process.kill()
        print(finish_command(process, "").stderr)  # for the report of what has failed
        raise
    assert ended_well(finish_command(process, "")) == [promised()["web_service"]]


@needs("starlette", "uvicorn")
class TestWebService:
    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
    def test_it_serves_and_stops(self, start: Start, way: str, end: signal.Signals) -> None:
        with serving(start, end) as url, urlopen(url, timeout=10) as response:
            text = response.read().decode()
        assert re.findall('href="(.+?)"', text) == ["/", "/pages/2", "/pages/3"]
        assert f"served by {LOOPS[way]}" in text


@needs("aiohttp", "starlette", "uvicorn")
class TestCrawler:
    def test_the_table(self, run: Run) -> None:
        head, *rows, _ = run("crawler")
        assert head.split() == ["depth", "status", "links", "path"]
        # A page with the number n is as deep as n has binary digits.
        pages = {"/" if n == 1 else f"/pages/{n}": (n.bit_length() - 1, "200") for n in range(1, 16)}
        found = {path: (int(depth), status) for depth, status, _, path in map(str.split, rows)}
        assert found == {**pages, "/missing": (2, "404")}
        assert len(rows) == 16

    def test_another_service_to_another_depth(self, run: Run, start: Start) -> None:
        with serving(start) as url:
            lines = run("crawler", url, "--depth", "1", "--workers", "1")
        assert [line.split() for line in lines[1:-1]] == [
            ["0", "200", "3", "/"],
            ["1", "200", "3", "/pages/2"],
            ["1", "200", "4", "/pages/3"],
        ]
        assert lines[-1] == "3 addresses to a depth of 1, never more than 1 at a time"

    def test_nobody_answers(self, run: Run) -> None:
        # Port 1 of loopback: privileged, so that no passer-by has it.
        rows = run("crawler", "http://127.0.0.1:1/")
        assert rows[1].split() == ["0", "ClientConnectorError", "0", "/"]


class TestThreadsCoroutinesProcesses:
    JOBS = 3
    WAYS_TO_WORK = ("one after another", "threads", "coroutines", "processes")

    def test_who_did_the_work(self, run: Run) -> None:
        name = "threads_coroutines_processes"
        lines = run(name, "--jobs", str(self.JOBS), "--scale", "0.05")
        assert promised()[name] in lines
        main = re.match(r"main is process (\d+), thread (\d+);", lines[0])
        assert main
        rows = re.findall(
            r"^(I/O|CPU) +(\D+?) +[\d.]+  processes ([\d ]+?)  threads ([\d ]+)$", "\n".join(lines), re.MULTILINE
        )
        assert [row[:2] for row in rows] == [(kind, way) for kind in ("I/O", "CPU") for way in self.WAYS_TO_WORK]
        for _, way, processes, threads in rows:
            if way == "threads":
                assert processes == main[1]
                assert main[2] not in threads.split()
                assert 1 <= len(threads.split()) <= self.JOBS
            elif way == "processes":
                assert main[1] not in processes.split()
                # Each has one thread, its first, which has the number of the process.
                assert processes == threads
                assert 1 <= len(processes.split()) <= self.JOBS
            else:
                assert (processes, threads) == (main[1], main[2])


class TestParallel:
    JOBS = 4

    def test_who_does_the_work(self, run: Run) -> None:
        # The wait is long enough that no thread is free again before the last job is handed out, on a busy machine too.
        lines = run("parallel", "--jobs", str(self.JOBS), "--scale", "0.25")
        rows = re.findall(r"^(I/O|CPU) +(.+?) +[\d.]+ +(\d+) +(\d+)$", "\n".join(lines), re.MULTILINE)
        found = {(kind, way): (int(processes), int(threads)) for kind, way, processes, threads in rows}
        assert len(found) == 10
        for kind in ("I/O", "CPU"):
            assert found[kind, "one after another"] == found[kind, "coroutines"] == (1, 1)
            assert found[kind, "threads"][0] == 1
            for way in ("processes", "coroutines in processes"):
                processes, threads = found[kind, way]
                assert 1 <= processes == threads <= self.JOBS
        assert found["I/O", "threads"] == (1, self.JOBS)


class TestAll:
    def test_the_readme_has_each_of_them(self) -> None:
        assert sorted(promised()) == NAMES

    @pytest.mark.parametrize("name", NAMES)
    def test_each_says_how_to_run_it_and_is_short(self, name: str) -> None:
        text = (FOLDER / f"{name}.py").read_text()
        docstring = ast.get_docstring(ast.parse(text)) or ""
        assert {f"python examples/{name}.py", f"weft run examples/{name}.py"} <= {
            re.sub(r"(\.py).*", r"\1", line.strip()) for line in docstring.splitlines()
        }
        assert len(text.splitlines()) <= LINES

    @pytest.mark.parametrize(
        ("name", "package"), [("fetch_pages", "aiohttp"), ("crawler", "aiohttp"), ("web_service", "uvicorn")]
    )
    def test_a_missing_package_is_named_in_one_line(
        self, start: Start, tmp_path: Path, name: str, package: str
    ) -> None:
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('not here', name={package!r})")
        path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
        done = finish_command(start(name, PYTHONPATH=path), "")
        assert done.returncode == 1
        assert re.fullmatch(rf"{name}\.py needs {package}: pip install .*{package}.*\n", done.stderr)
