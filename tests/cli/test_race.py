"""``weft race`` as a whole: what it prints and writes, what it says when all is not well, that it leaves nothing."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.commands import LIMIT, Command, Completed, finish_command, needs_race, start_command
from weft.cli.race.contenders import CONTENDERS, available

pytestmark = needs_race

RACE = [sys.executable, "-m", "weft", "race"]
KEYS = [contender.key for contender in CONTENDERS if available(contender)]


# --- a race that goes well: held once, and looked at from all sides ---------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race")


@pytest.fixture(scope="module")
def race(folder: Path) -> Completed:
    """Of 2 requests by all, and of 101 by all but one after another, for which these are too many."""
    command = [*RACE, "--requests=101,2,2", "--latency=2", "--threads=8", "--json=race.json", "--plot=race.svg"]
    return finish_command(start_command(command, folder, {}), "")


def test_table_has_a_row_for_each_contender_and_number(race: Completed) -> None:
    assert race.returncode == 0, race.stderr
    rows = [line.split() for line in race.stdout.splitlines() if re.match(r" *\d+  ", line)]
    assert [row[0] for row in rows] == ["2"] * len(KEYS) + ["101"] * (len(KEYS) - 1)
    assert all(re.fullmatch(r"\d+\.\d{3}", row[-5]) for row in rows)
    assert [row[-3][-1] for row in rows] == ["×"] * len(KEYS) + ["*"] * (len(KEYS) - 1)
    assert "pool of 2 threads" in race.stdout
    assert "pool of 8 threads" in race.stdout
    assert "* one after another, reckoned from its 2 requests: 101 in " in race.stdout


def test_table_fits_a_narrow_terminal(race: Completed) -> None:
    table = race.stdout.partition("* one after")[0]
    assert "coroutines on weft, weft.http" in table
    assert max(map(len, table.splitlines())) <= 80


def test_conditions_are_told(race: Completed) -> None:
    assert "GET from an embedded server that answers after 2 ms" in race.stdout
    assert f"{os.cpu_count()} cores" in race.stdout
    assert re.search(r"aiohttp \d", race.stdout)


def test_away_from_a_terminal_progress_is_plain_lines_on_stderr(race: Completed) -> None:
    assert "\x1b" not in race.stdout + race.stderr
    assert "━" not in race.stderr
    lines = race.stderr.splitlines()
    ends = [line for line in lines if re.fullmatch(r"(2|101) requests, .*: \d+\.\d\d s", line)]
    assert len(ends) == 2 * len(KEYS) - 1
    assert lines[-2:] == ["wrote race.json", "wrote race.svg"]


def test_json(race: Completed, folder: Path) -> None:
    document = json.loads((folder / "race.json").read_text())
    assert set(document) == {"versions", "machine", "server", "results"}
    assert document["server"] == {"latency_seconds": 0.002}
    assert set(document["versions"]) >= {"weft", "aiohttp", "requests"}
    results = document["results"]
    assert [each["contender"] for each in results] == KEYS + KEYS[1:]
    for each in results:
        assert each["failed"] == 0
        assert each["errors"] == {}
        assert each["seconds"] > 0
        assert each["requests_per_second"] == pytest.approx(each["requests"] / each["seconds"])
        assert each["cpu_us_per_request"] > 0
        assert each["speedup_extrapolated"] is (each["requests"] == 101)
        assert 1 <= each["rounds"] <= 3
    slow, *others = results
    assert (slow["speedup"], slow["peak_threads"], slow["concurrency"]) == (1, 1, 1)
    assert [(each["concurrency"], each["peak_threads"]) for each in others if each["contender"] == "threads"] == [
        (2, 3),
        (8, 9),
    ]
    assert {each["concurrency"] for each in others[len(KEYS) :]} == {101}
    ours = ("asyncio", "weft", "weft.http")
    assert {each["peak_threads"] for each in results if each["contender"] in ours} == {1}


def test_plot(race: Completed, folder: Path) -> None:
    texts = [element.text for element in ElementTree.parse(folder / "race.svg").iter() if element.tag.endswith("text")]
    assert texts.count("coroutines on weft, aiohttp") == texts.count("coroutines on weft, weft.http") == 2
    assert {"2 requests", "101 requests", "GET requests, 2 ms latency"} <= set(texts)


# --- in a terminal ----------------------------------------------------------------------------------------------------


def in_terminal(command: list[str], cwd: Path, **env: str) -> tuple[int, str]:
    """Runs a command with a terminal of 100 columns around it; gives its exit status and all that it wrote there."""
    master, slave = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **env}
    with subprocess.Popen(
        command, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **settings}
    ) as process:
        os.close(slave)
        output = b""
        try:
            while select.select([master], [], [], LIMIT)[0]:
                output += os.read(master, 65536)
        except OSError:  # how a terminal says that nobody holds its other end any more
            pass
        finally:
            os.close(master)
            process.kill()
    return process.returncode, output.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def test_bars_in_a_terminal(tmp_path: Path) -> None:
    status, output = in_terminal([*RACE, "--requests=2", "--latency=1"], tmp_path)
    assert status == 0, output
    assert "━━━━" in output
    assert COLOUR.search(output)
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") > 0  # the cursor is hidden, and comes back


# --- a server of the user's own, and failures -------------------------------------------------------------------------


class Answer(BaseHTTPRequestHandler):
    """``/ok`` works, ``/bad`` never does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ok" else 500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def own_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_failed_requests_are_counted_and_the_status_tells(weft: Command, tmp_path: Path, own_server: str) -> None:
    done = weft("race", f"--url={own_server}/bad", "--requests=2", "--json=x.json")
    assert done.returncode == 1
    for contender in filter(available, CONTENDERS):
        assert f"failed: 2 of 2, {contender.title(2)}: HTTP status 500" in done.stdout
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["server"] == {"url": f"{own_server}/bad"}
    assert [(each["failed"], each["errors"], each["speedup"]) for each in document["results"]] == [
        (2, {"HTTP status 500": 2}, None)
    ] * len(KEYS)


def test_own_server_and_no_color(tmp_path: Path, own_server: str) -> None:
    status, output = in_terminal([*RACE, f"--url={own_server}/ok", "--requests=1"], tmp_path, NO_COLOR="1")
    assert status == 0, output
    assert output.count(f"GET from {own_server}/ok") == 2
    assert "━━━━" in output
    assert not COLOUR.search(output)


@pytest.mark.parametrize(
    ("missing", "arguments", "text"),
    [
        ("aiohttp", (), "weft race: aiohttp not installed; pip install 'weft[race]' brings all it needs\n"),
        ("requests", (), "weft race: requests not installed; pip install 'weft[race]' brings all it needs\n"),
        ("rich", (), "weft race: rich not installed; pip install 'weft[race]' brings all it needs\n"),
        (
            "matplotlib",
            ("--plot=x.png",),
            "weft race: a .png takes matplotlib: pip install 'weft[plot]', or draw a .svg instead\n",
        ),
    ],
)
def test_missing_package(python: Command, missing: str, arguments: tuple[str, ...], text: str) -> None:
    program = "import sys; sys.modules[sys.argv[1]] = None; from weft.cli import main; sys.exit(main(sys.argv[2:]))"
    done = python("-c", program, missing, "race", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", text)


def test_contenders_that_are_not_installed_are_left_out_with_a_word(python: Command) -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('uvloop', 'httpx2', 'pyreqwest')))\n"
        "from weft.cli import main; sys.exit(main(['race', '--requests=1', '--latency=1']))"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(", without uvloop, httpx2 and pyreqwest, which are not installed\n")
    table = done.stdout.partition("GET from")[0]
    assert not any(name in table for name in ("uvloop", "httpx2", "pyreqwest"))
    assert "coroutines on weft, weft.http" in table


def test_reader_that_goes_away_ends_the_race_without_a_word(python: Command) -> None:
    program = (
        "import sys; from weft.cli import race\n"
        "def broken(*arguments): raise BrokenPipeError\n"
        "race._race = broken\n"
        "race.main([])"
    )
    done = python("-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGPIPE, "", "")


# --- ends before its time ---------------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pidfds: list[int]) -> bool:
    """Waits for the processes to end; tells whether all did, and closes the descriptors."""
    try:
        return all(select.select([pidfd], [], [], LIMIT)[0] for pidfd in pidfds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signal_ends_all_processes_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """All requests take a minute, so whatever ends before has been ended."""
    with start_command([*RACE, "--requests=100", "--latency=25s"], tmp_path, {}) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "GET from an embedded server that answers after 25000 ms\n"
        while len(children := children_of(process.pid)) < 2:  # the server and the first contender
            assert process.poll() is None
            os.sched_yield()
        pidfds = [os.pidfd_open(child) for child in children]
        process.send_signal(number)
        output, errors = process.communicate(timeout=LIMIT)
    assert gone(pidfds)
    assert process.returncode == -number
    assert output == ""
    assert errors == ("" if number == signal.SIGKILL else f"weft race: stopped by {number.name}\n")
