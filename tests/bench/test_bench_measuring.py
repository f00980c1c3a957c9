"""The measuring side: rounds and processes, the loops, the load generator. No test asserts a time."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench.cases  # noqa: F401  registers every case
from bench import __main__ as command
from bench import machine, runner
from bench.contenders import LOOPS
from bench.field import Contender, Field
from bench.load import program
from bench.model import CASES, Case, Metric, Sample
from bench.timing import costs

NO_LIMIT = 60.0

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def case(name: str, floors: tuple[str, ...] = ()) -> Case:
    field = Field((Contender("x"), Contender("y")), "x", ("y",), tuple(map(Contender, floors)))
    return Case(name, name, name, field, (Metric("ns", "ns"),), lambda contender, seconds: {"ns": 1.0}, 2.0)


class TestRounds:
    def test_contenders_alternate_within_a_case_and_rounds_rotate(self) -> None:
        calls: list[tuple[str, str]] = []

        def measure(one: Case, contender: str, seconds: float) -> Sample:
            calls.append((one.name, contender))
            return {"ns": 1.0}

        runner.run([case("a.a"), case("b.b", ("C",))], ["x", "y", "C"], rounds=2, measure=measure)
        first = [("a.a", "x"), ("a.a", "y"), ("b.b", "x"), ("b.b", "y"), ("b.b", "C")]
        second = [("a.a", "y"), ("a.a", "x"), ("b.b", "y"), ("b.b", "C"), ("b.b", "x")]
        assert calls == first + second

    def test_a_failure_leaves_a_hole_and_its_reason(self) -> None:
        def measure(one: Case, contender: str, seconds: float) -> Sample:
            if contender == "y":
                raise runner.MeasurementFailed("y broke")
            return {"ns": seconds}

        outcome = runner.run([case("a.a")], ["x", "y"], rounds=2, scale=0.5, measure=measure)
        assert outcome.samples == {"a.a": {"x": [{"ns": 1.0}, {"ns": 1.0}], "y": [None, None]}}
        assert outcome.errors == ["y broke", "y broke"]

    def test_a_sample_without_a_metric_is_a_failure(self) -> None:
        outcome = runner.run([case("a.a")], ["x"], rounds=1, measure=lambda one, contender, seconds: {"other": 1.0})
        assert outcome.samples["a.a"]["x"] == [None]
        assert "lacks ns" in outcome.errors[0]

    def test_a_measurement_is_made_in_another_process(self) -> None:
        sample = runner.measure_in_process(CASES["scheduler.sleep0"], "asyncio", 0.001)
        assert sample["cpu_ns"] > 0

    def test_what_a_broken_process_said_is_in_the_error(self) -> None:
        with pytest.raises(runner.MeasurementFailed, match="KeyError: 'no-such-loop'"):
            runner.measure_in_process(CASES["scheduler.sleep0"], "no-such-loop", 0.001)


class TestTiming:
    def test_blocks_are_multiples_of_the_batch(self) -> None:
        counts: list[int] = []

        async def body(count: int) -> None:
            counts.append(count)
            await asyncio.sleep(0)
            threading.Event().wait(0.03 if len(counts) > 2 else 0)

        assert asyncio.run(costs(body, 0.0, batch=70))["cpu_ns"] > 0
        assert counts[0] == 210
        assert all(count % 70 == 0 for count in counts)
        assert len(set(counts[3:])) == 1

    @pytest.mark.parametrize("name", [name for name in CASES if name.startswith("scheduler.")])
    def test_every_scheduler_case_runs_to_its_end(self, name: str) -> None:
        sample = runner.measure_in_process(CASES[name], "asyncio", 0.0)
        assert sample["cpu_ns"] > 0


class TestCommand:
    def test_an_unknown_case_or_loop_is_wrong_use(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--cases", "no-such-case"]) == 2
        assert command.main(["--contenders", "no-such-loop"]) == 2
        assert "choose from asyncio" in capsys.readouterr().err

    def test_list_names_every_case(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--list"]) == 0
        out = capsys.readouterr().out
        assert all(name in out for name in [*CASES, *LOOPS])

    def test_measures_prints_and_writes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        target = tmp_path / "out.json"
        arguments = ["--cases", "sleep0", "--contenders", "asyncio", "--rounds", "1", "--scale", "0.01"]
        assert command.main([*arguments, "--json", str(target)]) == 0
        assert "`await sleep(0)`, one task" in capsys.readouterr().out
        (run,) = json.loads(target.read_text())["runs"]
        assert list(run["cases"]["scheduler.sleep0"]) == ["asyncio"]
        assert run["circumstances"]["python"].startswith("CPython")


def test_the_machine_is_described_without_its_name() -> None:
    text = json.dumps(machine.describe(LOOPS["asyncio"].versions())) + machine.result_name()
    assert socket.gethostname() == "localhost" or f'"{socket.gethostname()}"' not in text
    assert machine.kernel_version("6.18.44-site-build") == "6.18.44"
    assert " " not in machine.result_name() and "/" not in machine.result_name()


@pytest.fixture
def echo_server() -> Iterator[int]:
    """The port of a C echo server."""
    with subprocess.Popen([program("echo_server")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.send_signal(signal.SIGKILL)


def load(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(program("echo_load")), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=NO_LIMIT, check=False)


@needs_compiler
class TestLoad:
    @pytest.mark.parametrize(("size", "connections"), [(1, 1), (64, 10), (1024, 100), (300_000, 3)])
    def test_counts_messages_of_any_size(self, echo_server: int, size: int, connections: int) -> None:
        options = ("--port", echo_server, "--size", size, "--connections", connections, "--messages", 200)
        done = load(*options, "--warmup-ms", 1, "--duration-ms", 20_000)
        assert done.returncode == 0, done.stderr
        counted = json.loads(done.stdout)
        assert 200 <= counted["messages"] < 200 + 1024
        assert 0 < counted["p50_us"] <= counted["p99_us"]
        assert counted["seconds"] > 0

    def test_a_server_that_does_not_echo_is_found_out(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer_wrong() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"?" * len(connection.recv(64)))
                    connection.recv(1)

            thread = threading.Thread(target=answer_wrong)
            thread.start()
            done = load("--port", listener.getsockname()[1], "--size", 64)
            thread.join()
        assert done.returncode == 1
        assert "not what was sent" in done.stderr

    def test_no_server_is_an_error_with_its_reason(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else gets it
            done = load("--port", taken.getsockname()[1])
        assert done.returncode == 1
        assert "connect: Connection refused" in done.stderr

    @pytest.mark.parametrize("kind", ["protocol", "buffered", "streams", "sockets"])
    def test_every_kind_of_server_echoes(self, kind: str) -> None:
        name = next(name for name in CASES if name.startswith(f"tcp.{kind}-1024x100"))
        sample = runner.measure_in_process(CASES[name], "asyncio", 0.05)
        assert all(metric.key in sample for metric in CASES[name].metrics)
        assert sample["messages"] > 0

    def test_the_floor_takes_part(self) -> None:
        sample = runner.measure_in_process(CASES["tcp.protocol-64x10"], "C epoll", 0.05)
        assert sample["messages"] > 0
