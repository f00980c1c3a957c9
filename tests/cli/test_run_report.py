"""``weft run --report``: what was wrong, in which form and where; nothing when all was well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Command

GOOD = "import asyncio\nasyncio.run(asyncio.sleep(0))"
BAD = """
import asyncio
async def swallow():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
async def main():
    task = asyncio.create_task(swallow())
    await asyncio.sleep(0)
    task.cancel()
    await task
asyncio.run(main())
"""
HEAD = "weft: what was wrong in this run\n"


@pytest.mark.parametrize("options", [(), ("--report", "text"), ("--report=none",)])
def test_nothing_where_all_was_well(weft: Command, options: tuple[str, ...]) -> None:
    done = weft("run", *options, "-c", GOOD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_text(weft: Command) -> None:
    plain, full = weft("run", "-c", BAD), weft("run", "--report=text", "-c", BAD)
    for done in (plain, full):
        assert done.returncode == 0
        assert done.stderr.count("swallowed cancellation: task ") == 2  # when it happened, and in the report
        assert HEAD in done.stderr
    assert "spawned at <string>:9 in main()" not in plain.stderr
    assert full.stderr.splitlines()[-1].count("spawned at <string>:9 in main()") == 1


def test_none(weft: Command) -> None:
    assert HEAD not in weft("run", "--report", "none", "-c", BAD).stderr


def test_json(weft: Command) -> None:
    assert weft("run", "--report=json", "-c", GOOD).stderr == "{}\n"
    report = json.loads(weft("run", "--report=json", "-c", BAD).stderr.splitlines()[-1])
    assert [finding["kind"] for finding in report["lost work"]] == ["swallowed cancellation"]
    assert report["lost work"][0]["spawned"]["line"] == 9


@pytest.mark.parametrize("form", ["text", "json"])
def test_into_a_file(weft: Command, tmp_path: Path, form: str) -> None:
    path = tmp_path / "report"
    done = weft("run", "--report", form, "--report-file", str(path), "-c", BAD)
    assert HEAD not in done.stderr
    text = path.read_text()
    assert text.startswith(HEAD if form == "text" else "{")
    assert "swallowed cancellation" in text
    weft("run", f"--report={form}", f"--report-file={path}", "-c", GOOD)
    assert path.read_text() == ("" if form == "text" else "{}\n")


def test_a_file_that_cannot_be_written(weft: Command) -> None:
    done = weft("run", "--report-file", "no/such/folder", "-c", GOOD)
    assert done.returncode == 0
    assert done.stderr.startswith("weft run: the report could not be written to no/such/folder: ")


def test_an_exception_that_is_held_to_the_end(weft: Command) -> None:
    program = (
        "import asyncio\nkept = []\n"
        "async def fail(): raise KeyError(7)\n"
        "async def main():\n    kept.append(asyncio.create_task(fail()))\n    await asyncio.sleep(0.01)\n"
        "asyncio.run(main())\n"
        "import atexit; atexit.register(lambda: kept[0].exception() and None)"
    )
    assert weft("run", "-c", program).stderr == ""
    done = weft("run", "-c", program.rpartition("\n")[0])
    assert "unread exception: KeyError(7) of task 'Task-2' at <string>:3 in fail()" in done.stderr


def test_it_comes_after_the_traceback(weft: Command) -> None:
    done = weft("run", "-c", BAD + "1 / 0")
    assert done.returncode == 1
    assert done.stderr.index("ZeroDivisionError") < done.stderr.index(HEAD)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--report", "xml", "-c", ""), "--report is one of text, json, none, not 'xml'"),
        (("--report",), "--report needs one of text, json, none after it"),
        (("--report-file",), "--report-file needs a file after it"),
        (("--shutdown-timeout", "soon", "-c", ""), "--shutdown-timeout takes seconds from 0 on, or none, not 'soon'"),
        (("--shutdown-timeout=-1", "-c", ""), "not '-1'"),
        (("--report=none",), "which program?"),
    ],
)
def test_wrong_use(weft: Command, options: tuple[str, ...], text: str) -> None:
    done = weft("run", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_options_after_the_program_are_its_own(weft: Command) -> None:
    done = weft("run", "-c", "import sys; print(sys.argv[1:])", "--report", "json")
    assert done.stdout == "['--report', 'json']\n"
