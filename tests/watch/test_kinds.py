"""More than fifty ways to block a loop: each is reported with its line and a cure that fits.

The programs are in ``kinds.py``. They run in a process of their own, a few dozen in one; the report of each is a test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.core.kit import SOURCES

pytestmark = [pytest.mark.realtime, pytest.mark.weft_only]

PROGRAM = Path(__file__).with_name("kinds.py")

LOCKS = "asyncio.Lock"
FILES = "for files"
PROCESSES = "create_subprocess_exec"
SOCKETS = "open_connection"
COMPUTE = "process pool"

# What each is told to do instead, and the kernel's word; "" where that may be anything.
KINDS = {
    "time_sleep": ("asyncio.sleep", "clock_nanosleep"),
    "imported_sleep": ("asyncio.sleep", "clock_nanosleep"),
    "helper_of_a_helper": ("asyncio.sleep", "clock_nanosleep"),
    "lock_acquire": (LOCKS, "futex"),
    "lock_with": (LOCKS, "futex"),
    "event_wait": (LOCKS, "futex"),
    "condition_wait": (LOCKS, "futex"),
    "semaphore_acquire": (LOCKS, "futex"),
    "barrier_wait": (LOCKS, "futex"),
    "thread_join": ("to_thread", "futex"),
    "queue_get": ("asyncio.Queue", "futex"),
    "simple_queue_get": ("asyncio.Queue", "futex"),
    "queue_put": ("asyncio.Queue", "futex"),
    "future_result": ("wrap_future", "futex"),
    "futures_wait": ("wrap_future", "futex"),
    "executor_shutdown": ("run_in_executor", "futex"),
    "signal_wait": ("add_signal_handler", "sigtimedwait"),
    "semaphore_of_processes": (LOCKS, "futex"),
    "subprocess_run": (PROCESSES, "wait4"),
    "popen_wait": (PROCESSES, "wait4"),
    "popen_communicate": (PROCESSES, ""),
    "os_system": (PROCESSES, "wait4"),
    "os_waitpid": (PROCESSES, "wait4"),
    "socket_recv": (SOCKETS, "recvfrom of socket:"),
    "socket_sendall": (SOCKETS, "sendto of socket:"),
    "socket_accept": (SOCKETS, "accept"),
    "socket_timeout": (SOCKETS, "p"),
    "http_client": ("weft.http", "recvfrom of socket:"),
    "urllib_urlopen": ("weft.http", "recvfrom of socket:"),
    "name_lookup": ("loop.getaddrinfo", ""),
    "select_select": ("add_reader", ""),
    "selector_select": ("add_reader", "epoll_wait"),
    "pipe_read": (FILES, "read of pipe:"),
    "fifo_open": (FILES, "open"),
    "file_readline": (FILES, "read of pipe:"),
    "file_iterate": (FILES, "read of pipe:"),
    "file_lock": ("LOCK_NB", "flock of /"),
    "input_from_stdin": ("to_thread(input)", "read of "),
    "sqlite_locked": ("driver with async", ""),
    "log_handler": ("asyncio.sleep", "clock_nanosleep"),
    "python_loop": (COMPUTE, "running"),
    "python_generator": (COMPUTE, "running"),
    "sum_in_c": (COMPUTE, "running"),
    "sort": (COMPUTE, "running"),
    "regex": ("backtracks", "running"),
    "json_loads": ("smaller parts", "running"),
    "json_dumps": ("smaller parts", "running"),
    "pickle_dumps": ("smaller parts", "running"),
    "hash_without_gil": ("to_thread", "running"),
    "compress": ("to_thread", "running"),
    "power": (COMPUTE, "running"),
    "call_that_keeps_the_gil": ("", "clock_nanosleep"),
}
PROCESSES_USED = 2


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    """What was reported of each, by its name."""
    names = list(KINDS)
    commands = [
        [sys.executable, "-X", "faulthandler", str(PROGRAM), *names[part::PROCESSES_USED]]
        for part in range(PROCESSES_USED)
    ]
    running = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(SOURCES)}
        )
        for command in commands
    ]
    found: dict[str, dict[str, Any]] = {}
    for process in running:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        found |= {report["name"]: report for report in map(json.loads, out.splitlines())}
    return found


@pytest.mark.parametrize("name", KINDS)
def test_it_is_reported_with_its_line_and_a_cure(name: str, reports: dict[str, dict[str, Any]]) -> None:
    report = reports[name]
    cure, kernel = KINDS[name]
    pairs = zip(report["kinds"], report["stalls"], strict=True)
    at_the_line = [(kind, stall) for kind, stall in pairs if stall["line"] == report["expected"]]
    assert at_the_line, report
    ((kind, _, task, filename), stall) = at_the_line[-1]
    assert (kind, task, filename) == ("BLOCKED", name, str(PROGRAM)), stall
    assert cure in stall["cure"]
    # At the moment of the look what computes may be in a call, and what waits between two.
    assert stall["kernel"].startswith(kernel) or "running" in (kernel, stall["kernel"])


def test_nothing_else_is_blamed(reports: dict[str, dict[str, Any]]) -> None:
    """Of what sleeps, nothing but the line itself has taken any time."""
    others = {
        name: report
        for name, report in reports.items()
        if KINDS[name][1] != "running"
        for (kind, *_), stall in zip(report["kinds"], report["stalls"], strict=True)
        if kind == "BLOCKED" and stall["line"] != report["expected"]
    }
    assert others == {}


def test_every_program_is_looked_at() -> None:
    text = PROGRAM.read_text()
    assert text.count("\n@kind\n") == len(KINDS) >= 35
