"""The parts of ``weft race``: options, plan, server, processes, comparison, table, plot."""

from __future__ import annotations

import io
import pickle
import select
import socket
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.commands import Command, needs_race
from weft.cli.race import _plan, plot, report
from weft.cli.race.clients import Job
from weft.cli.race.contenders import CONTENDERS, available
from weft.cli.race.options import Options, Refused, parse
from weft.cli.race.processes import run_contender, serving

pytestmark = needs_race

OPTIONS = Options(url=None, latency=0.05, counts=(10, 100), threads=32, json=None, plot=None)
TIMES = {
    "sequential": 1.0,
    "threads": 0.5,
    "asyncio": 0.25,
    "uvloop": 0.2,
    "weft": 0.125,
    "httpx2": 0.5,
    "pyreqwest": 0.1,
    "weft.http": 0.0625,
}


def make_results(counts: tuple[int, ...] = (10,), keys: tuple[str, ...] = tuple(TIMES)) -> list[report.Result]:
    results = []
    for count in counts:
        for contender in CONTENDERS:
            if contender.key in keys:
                job: Job = {"url": "http://x", "requests": count, "threads": 4}
                measured = {"seconds": TIMES[contender.key], "cpu_seconds": 0.001, "failed": 0, "errors": {}}
                results.append(report.result(contender, job, {**measured, "peak_threads": 1, "rounds": 3}))
    return results


class TestOptions:
    def test_defaults(self) -> None:
        assert parse([]) == OPTIONS._replace(counts=(10, 100, 1000))

    @pytest.mark.parametrize(
        ("text", "seconds"), [("50ms", 0.05), ("0.05s", 0.05), ("50", 0.05), ("0", 0.0), ("1.5s", 1.5), ("2 ms", 0.002)]
    )
    def test_latency(self, text: str, seconds: float) -> None:
        assert parse(["--latency", text]).latency == pytest.approx(seconds)

    def test_counts_are_sorted_and_single(self) -> None:
        assert parse(["--requests", "100,5,100"]).counts == (5, 100)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ("--requests=0", "0 is too few"),
            ("--requests=-3", "-3 is too few"),
            ("--requests=ten", "'ten' is not a whole number"),
            ("--requests=", "'' is not a whole number"),
            ("--requests=10,,20", "'' is not a whole number"),
            ("--requests=999999999", "more open files than this system allows"),
            ("--threads=0", "0 is too few"),
            ("--latency=soon", "'soon' is not a time such as 50ms, 0.05s or 50"),
            ("--latency=-1", "is not between 0 and 30s"),
            ("--latency=nan", "is not between 0 and 30s"),
            ("--latency=1000s", "is not between 0 and 30s"),
            ("--url=localhost:8000", "is not a URL such as"),
            ("--url=ftp://localhost/", "is not a URL such as"),
            ("--url=http://", "is not a URL such as"),
            ("--url=http://x:99999/", "Port out of range"),
            ("--url=http://a b/", "is not a URL such as"),
            ("--plot=race.gif", "neither FILE.svg nor FILE.png"),
            ("--req=10", "unrecognized arguments"),
        ],
    )
    def test_wrong_value_is_an_error_of_use(
        self, arguments: str, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            parse([arguments])
        assert caught.value.code == 2
        assert text in capsys.readouterr().err

    def test_latency_is_not_for_another_server(self) -> None:
        with pytest.raises(Refused, match="--latency is for the embedded server") as caught:
            parse(["--url=http://localhost/", "--latency=5"])
        assert caught.value.status == 2

    @pytest.mark.parametrize("option", ["--json=", "--plot="])
    @pytest.mark.parametrize(
        ("name", "text"), [("no/x.svg", "there is no directory"), ("dir.svg", "it is a directory")]
    )
    def test_file_that_cannot_be_written(self, tmp_path: Path, option: str, name: str, text: str) -> None:
        (tmp_path / "dir.svg").mkdir()
        with pytest.raises(Refused, match=text) as caught:
            parse([f"{option}{tmp_path / name}"])
        assert caught.value.status == 2

    def test_server_that_is_not_there(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and does not listen
            with pytest.raises(Refused, match=r"cannot reach http://127\.0\.0\.1:\d+/: Connection refused") as caught:
                parse([f"--url=http://127.0.0.1:{closed.getsockname()[1]}/"])
        assert caught.value.status == 1


class TestPlan:
    def test_one_after_another_has_a_limit(self) -> None:
        plan = {count: [c.key for c in contenders] for count, contenders in _plan(OPTIONS._replace(counts=(100, 101)))}
        assert plan[100] == ["sequential", *plan[101]]

    def test_one_after_another_is_there_to_compare_with(self) -> None:
        (first, contenders), (second, _) = _plan(OPTIONS._replace(counts=(500,)))
        assert (first, second) == (100, 500)
        assert [contender.key for contender in contenders] == ["sequential"]

    def test_title_names_the_number_of_threads_where_it_matters(self) -> None:
        titles = [contender.title(1) for contender in CONTENDERS[:3]]
        assert titles == ["one after another, requests", "pool of 1 thread, requests", "coroutines on asyncio, aiohttp"]
        assert CONTENDERS[1].title(2) == "pool of 2 threads, requests"


class TestServer:
    def connect(self, stack: ExitStack, url: str) -> socket.socket:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        return stack.enter_context(socket.create_connection((host, int(port)), timeout=30))

    def read_answer(self, connection: socket.socket) -> bytes:
        with connection.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
            return stream.read(length)

    def test_answers_on_a_connection_that_stays_open(self) -> None:
        with ExitStack() as stack:
            connection = self.connect(stack, stack.enter_context(serving(0)))
            for pieces in ([b"GET / HTTP/1.1\r\n\r\n"], [b"GET / HT", b"TP/1.1\r\nHost: x\r\n\r", b"\n"]):
                for piece in pieces:
                    connection.sendall(piece)
                assert len(self.read_answer(connection)) == 1024

    def test_closes_when_asked_to(self) -> None:
        with ExitStack() as stack:
            connection = self.connect(stack, stack.enter_context(serving(0)))
            connection.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert len(self.read_answer(connection)) == 1024
            assert connection.recv(1) == b""

    def test_latency(self) -> None:
        """Who asks a slow server first gets the answer after one who asks a quick one."""
        with ExitStack() as stack:
            slow = self.connect(stack, stack.enter_context(serving(1.0)))
            quick = self.connect(stack, stack.enter_context(serving(0.0)))
            for connection in (slow, quick):
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert select.select([slow, quick], [], [], 30)[0] == [quick]
            assert select.select([slow], [], [], 30)[0] == [slow]

    def test_many_wait_at_once(self) -> None:
        """All have asked before the first is answered, and then all are: in turn it would take minutes."""
        with ExitStack() as stack:
            url = stack.enter_context(serving(0.3))
            connections = [self.connect(stack, url) for _ in range(400)]
            for connection in connections:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert all(len(self.read_answer(connection)) == 1024 for connection in connections)

    def test_nothing_in_the_current_directory_passes_for_a_library(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "json.py").write_text("raise SystemExit('not the json that you wanted')")
        monkeypatch.chdir(tmp_path)
        with serving(0) as url:
            assert url.startswith("http://127.0.0.1:")


class Row:
    """Notes what it is to show."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def update(self, done: int, failed: int, seconds: float) -> None:
        self.shown.append((done, failed))

    def finish(self, seconds: float, failed: int) -> None:
        self.shown.append("finished")

    def fail(self, reason: str) -> None:
        self.shown.append(reason)


class TestContenders:
    def test_table_imports_none_of_them(self, python: Command) -> None:
        done = python(
            "-c",
            "import sys; from weft.cli.race.contenders import CONTENDERS\n"
            "needs = {name for each in CONTENDERS for name in each.needs}\n"
            "print({*needs, 'weft.http'} & set(sys.modules))",
        )
        assert done.stdout == "set()\n"

    @pytest.mark.parametrize("key", [contender.key for contender in CONTENDERS if available(contender)])
    def test_refused_connections_are_failures_with_a_reason(self, key: str) -> None:
        row = Row()
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            measured = run_contender(key, {"url": url, "requests": 3, "threads": 3}, row)
        assert measured["failed"] == 3
        assert measured["errors"] == {"ConnectionRefusedError: Connection refused": 3}
        assert row.shown[-2:] == [(3, 3), "finished"]

    def test_progress_comes_while_it_runs(self) -> None:
        row = Row()
        with serving(0.06) as url:
            run_contender("sequential", {"url": url, "requests": 3, "threads": 1}, row)
        assert row.shown == [(1, 0), (2, 0), (3, 0), "finished"]

    def test_process_that_ends_without_a_result(self) -> None:
        row = Row()
        measured = run_contender("no_such_contender", {"url": "http://x", "requests": 3, "threads": 3}, row)
        assert row.shown == ["KeyError: 'no_such_contender'"]
        assert measured == {"failed": 3, "errors": {row.shown[0]: 3}}
        result = report.result(CONTENDERS[0], {"url": "http://x", "requests": 3, "threads": 3}, measured)
        assert (result.seconds, result.cpu_us_per_request, result.peak_threads, result.failed) == (None, None, None, 3)


class TestComparison:
    def test_speedup(self) -> None:
        results = make_results()
        report.compare(results)
        assert [each.speedup for each in results] == [1, 2, 4, 5, 8, 2, 10, 16]
        assert not any(each.speedup_extrapolated for each in results)

    def test_where_one_after_another_was_not_run_its_largest_run_is_the_measure(self) -> None:
        results = make_results((2, 10)) + make_results((100,), ("weft",))
        report.compare(results)
        assert results[-1].speedup == 1.0 / 10 * 100 / 0.125
        assert results[-1].speedup_extrapolated

    def test_failures_are_not_compared(self) -> None:
        results = make_results()
        results[-1].failed = 1
        report.compare(results)
        assert results[-1].speedup is None
        results[0].failed = 1
        others = make_results()
        others[0].failed = 1
        report.compare(others)
        assert all(each.speedup is None for each in others)


class TestTable:
    def test_ascii_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
        report.print_table(make_results(), OPTIONS)
        assert b"coroutines on weft" in raw.getvalue()

    def test_what_was_not_measured_is_a_dash(self, capsys: pytest.CaptureFixture[str]) -> None:
        results = make_results()
        results[-1] = report.result(
            CONTENDERS[-1], {"url": "", "requests": 10, "threads": 1}, {"failed": 10, "errors": {"it died": 10}}
        )
        report.print_table(results, OPTIONS)
        output = capsys.readouterr().out
        assert "–        –" in output
        assert "failed: 10 of 10, coroutines on weft, weft.http: it died" in output

    def test_disk_that_is_full(self) -> None:
        with pytest.raises(Refused, match="cannot write /dev/full: No space left on device") as caught:
            report.write_files(make_results(), OPTIONS._replace(json=Path("/dev/full")))
        assert caught.value.status == 1


class TestPlot:
    def test_bars_are_as_long_as_the_times(self) -> None:
        results = make_results((10, 100))
        report.compare(results)
        root = ElementTree.fromstring(plot.svg(results, "a < b"))
        bars = [float(e.get("width", 0)) for e in root.iter() if e.tag.endswith("rect") and e.get("fill")]
        assert [bar / bars[0] for bar in bars] == pytest.approx(list(TIMES.values()) * 2, abs=0.001)
        texts = [e.text for e in root.iter() if e.tag.endswith("text")]
        assert texts[0] == "a < b"
        assert {"10 requests", "100 requests", "125 ms", "8.0×"} <= set(texts)

    def test_what_has_no_time_has_no_bar(self) -> None:
        results = make_results()
        results[0].seconds = None
        root = ElementTree.fromstring(plot.svg(results, "x"))
        assert len([e for e in root.iter() if e.get("fill")]) == len(results) - 1

    def test_each_contender_has_a_colour(self) -> None:
        assert list(plot.COLOURS) == [contender.key for contender in CONTENDERS]

    def test_what_is_ours_stands_out(self) -> None:
        results = make_results()
        root = ElementTree.fromstring(plot.svg(results, "x"))
        strong = {e.text for e in root.iter() if e.get("class") == "strong"} & {each.title for each in results}
        assert strong == {"coroutines on weft, aiohttp", "coroutines on weft, weft.http"}

    def test_reckoned_speedup_is_marked(self) -> None:
        results = make_results() + make_results((100,), ("weft",))
        report.compare(results)
        document = plot.svg(results, "x")
        assert "80.0×*" in document
        assert plot.FOOTNOTE in document

    @pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
    def test_png(self, tmp_path: Path, python: Command) -> None:
        """In a process of its own, because matplotlib leaves threads behind."""
        program = (
            "import pathlib, pickle, sys; from weft.cli.race import plot\n"
            "plot.draw(pickle.loads(bytes.fromhex(sys.argv[1])), 'x', pathlib.Path('x.PNG'))"
        )
        done = python("-c", program, pickle.dumps(make_results((10, 100))).hex())
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "x.PNG").read_bytes().startswith(b"\x89PNG")
