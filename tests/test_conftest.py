"""The checks that stand behind every test: each bad test here must fail, and be told why."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BAD_TESTS = '''
import asyncio, os, subprocess, sys, threading, time
import pytest

kept = []

def test_fd():
    kept.append(open("/dev/null"))

def test_after_fd():
    """What the test before left is not held against this one."""

def test_thread():
    stop = threading.Event()
    kept.append(stop)
    threading.Thread(target=stop.wait, name="idler", daemon=True).start()

def test_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_zombie():
    pid = os.fork()
    if not pid:
        os._exit(0)

def test_loop():
    kept.append(asyncio.SelectorEventLoop())

def test_task(loop):
    async def main():
        kept.append(asyncio.ensure_future(asyncio.Event().wait()))
    loop.run_until_complete(main())
    if "weft" in os.environ["PYTEST_CURRENT_TEST"]:
        kept[-1].cancel()
        loop.run_until_complete(asyncio.wait([kept[-1]]))

def test_never_awaited():
    async def main(): pass
    main()

def test_dying_thread():
    """Gone in a moment: not left behind."""
    threading.Thread(target=time.sleep, args=(0.05,)).start()

@pytest.mark.time_limit(0.1)
def test_too_long(run):
    run(asyncio.sleep(60))

def test_failing():
    kept_by_the_traceback = asyncio.SelectorEventLoop()
    raise LookupError

def test_after_failing():
    """The loop that the failed test's traceback held is not held against this one."""

@pytest.fixture(scope="module")
def slow():
    time.sleep(60)

@pytest.mark.time_limit(0.1)
def test_slow_fixture(slow): pass

def test_slow_fixture_again(slow): pass

@pytest.mark.weft_only
def test_weft_only(loop):
    """Runs once."""
'''

# The word that the report on each bad test must hold.
EXPECTED = {
    "test_fd": "/dev/null",
    "test_thread": "idler",
    "test_child": "child process",
    "test_zombie": "not waited for",
    "test_loop": "loop that is not closed",
    "test_task[asyncio]": "the test left tasks",
    "test_never_awaited": "never awaited",
    "test_too_long[asyncio]": "took more than 0.1 s",
    "test_too_long[weft]": "took more than 0.1 s",
    "test_failing": "LookupError",
    "test_slow_fixture": "took more than 0.1 s",
    "test_slow_fixture_again": "took more than 0.1 s",
}
GOOD = {"test_after_fd", "test_task[weft]", "test_dying_thread", "test_after_failing", "test_weft_only[weft]"}


@pytest.mark.time_limit(120)
def test_bad_tests_fail_and_good_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text().replace("GRACE = 5.0", "GRACE = 0.3")
    )
    (tmp_path / "test_bad.py").write_text(BAD_TESTS)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}"]
    command += ["-p", "no:cacheprovider", "-rA", "--tb=short", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=100)
    reports = re.split(
        r"^_{3,} (?:ERROR at (?:setup|teardown) of )?([\w\[\]]+) _{3,}$", done.stdout, flags=re.MULTILINE
    )
    told = dict.fromkeys(reports[1::2], "")
    for name, report in zip(reports[1::2], reports[2::2], strict=True):
        told[name] += report
    bad = set(re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", done.stdout, flags=re.MULTILINE))
    assert bad == set(EXPECTED), done.stdout
    assert {name for name, word in EXPECTED.items() if word not in told[name]} == set(), done.stdout
    ran = set(re.findall(r"^PASSED \S+::(\S+)", done.stdout, flags=re.MULTILINE)) - bad
    assert ran == GOOD, done.stdout


@pytest.mark.time_limit(120)
def test_a_hang_that_cannot_be_interrupted_ends_with_every_stack(tmp_path: Path) -> None:
    conftest = (ROOT / "tests" / "conftest.py").read_text().replace("LAST_WORD = 30.0", "LAST_WORD = 0.2")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_hang.py").write_text(
        "import pytest, signal, time\n"
        "@pytest.mark.time_limit(0.2)\n"
        "def test_deaf():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=50)
    assert done.returncode == 1
    assert "in test_deaf" in done.stderr
