"""Runs one module of ``test.test_asyncio`` in this process and writes one JSON line per event to a pipe.

The invariant: a ``start`` line leaves the process before the test runs, so that whoever reads the pipe knows the name
of a test that hangs or kills the interpreter. Started by ``supervise`` as a plain script, with any CPython >= 3.11:

    python worker.py '{"module": "test_tasks", "target": "stock", "report_fd": 5, "skip": [], ...}'
"""

from __future__ import annotations

import errno
import faulthandler
import importlib.util
import ipaddress
import json
import os
import signal
import socket
import sys
import time
import traceback
import unittest
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
DETAIL_LIMIT = 20_000  # characters of traceback kept per test: enough for a chain of three, small enough for a pipe

ExcInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]"

# The strongest word wins when a test has several (a failing body and a failing clean-up).
RANK = {"passed": 0, "xfailed": 1, "skipped": 2, "xpassed": 3, "failed": 4, "error": 5}


def short_id(test: object, package: str) -> str:
    """``test_tasks.CTask_Tests.test_x``: the unittest id without the package in front."""
    identifier = getattr(test, "id", None)
    return str(identifier() if callable(identifier) else test).replace(f"{package}.", "")


class Reporter(unittest.TestResult):
    """A test result that reports each test as it starts and as it ends."""

    def __init__(self, fd: int, package: str, loops_made: Callable[[], int]) -> None:
        super().__init__()
        self._fd = fd
        self._package = package
        self._loops_made = loops_made
        self._started: unittest.TestCase | None = None
        self._outcome = "passed"
        self._details: list[str] = []
        self._began = 0.0
        self._loops_before = 0

    def send(self, **event: object) -> None:
        """Writes one event as a line of JSON."""
        line = json.dumps(event).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._started = test
        self._outcome, self._details = "passed", []
        self._loops_before = self._loops_made()
        self._began = time.monotonic()
        self.send(event="start", id=short_id(test, self._package))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._started = None
        self.send(
            event="end",
            id=short_id(test, self._package),
            outcome=self._outcome,
            detail="\n".join(self._details)[-DETAIL_LIMIT:],
            seconds=round(time.monotonic() - self._began, 3),
            loops=self._loops_made() - self._loops_before,
        )

    def _note(self, outcome: str, detail: str, test: object = None) -> None:
        if not isinstance(test, unittest.TestCase):  # setUpModule, setUpClass: no test is running
            self.send(event="fixture", id=short_id(test, self._package), outcome=outcome, detail=detail)
            return
        if RANK[outcome] > RANK[self._outcome]:
            self._outcome = outcome
        self._details.append(detail)

    @staticmethod
    def _text(err: ExcInfo) -> str:
        return "".join(traceback.format_exception(*err))

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._note("error", self._text(err), test)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._note("failed", self._text(err), test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if self._started is None:
            self.startTest(test)  # 3.12.1 does not say so of what a decorator skips
        self._note("skipped", reason, test)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._note("xfailed", self._text(err), test)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note("xpassed", "the test is marked as an expected failure, and passed", test)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._note("failed", f"{subtest}\n{self._text(err)}", test)


def flatten(suite: Any) -> list[unittest.TestCase]:
    """The tests of a suite in order, without the nesting."""
    if not isinstance(suite, unittest.TestSuite):
        return [suite]
    return [test for part in suite for test in flatten(part)]


def selected(order: Mapping[str, Any]) -> list[unittest.TestCase]:
    """The tests of the module that are still to be run, in unittest's order."""
    package, skip, only, without = order["package"], set(order["skip"]), order["only"], order["without"]
    name = f"{package}.{order['module']}"
    if importlib.util.find_spec(name) is None:
        return []  # this version of CPython does not have the module

    def wanted(test: str) -> bool:
        if test in skip or any(fnmatchcase(test, glob) for glob in without):
            return False
        return not only or any(fnmatchcase(test, glob) for glob in only)

    tests = flatten(unittest.defaultTestLoader.loadTestsFromName(name))
    return [test for test in tests if wanted(short_id(test, package))]


def stay_local(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: what would leave this machine fails, as it does on a machine without a network."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(args[1], tuple):
        address = literal(args[1][0])
        if address is not None and not (address.is_loopback or address.is_unspecified or address.is_link_local):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
    elif event == "socket.getaddrinfo" and literal(args[0]) is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def literal(host: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``host`` spells (this machine's, where it is empty or "localhost"), None for another name."""
    text = host.decode() if isinstance(host, bytes) else host
    if not isinstance(text, str) or text in ("", "localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def main(order: dict[str, Any]) -> int:
    """Runs what ``order`` asks for; the exit status says only whether the module could be run to its end."""
    faulthandler.enable(all_threads=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background inherits it ignored
    sys.addaudithook(stay_local)
    fd = int(order["report_fd"])
    os.set_inheritable(fd, False)
    sys.path[0] = str(ROOT)

    from test import support  # type: ignore[import-not-found]

    from tools.conformance import targets

    support.use_resources = ["cpu", "walltime", "subprocess", "largefile"]  # not: the network
    loops_made = targets.install(order["target"])
    reporter = Reporter(fd, order["package"], loops_made)
    # The suite is the only one to hold the tests: it lets go of each when it has run, and of the loops they hold.
    suite = unittest.TestSuite(selected(order))
    reporter.send(event="plan", ids=[short_id(test, order["package"]) for test in suite])
    suite.run(reporter)
    reporter.send(event="finish")
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
