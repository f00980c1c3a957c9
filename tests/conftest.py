"""What every test runs under: two loops, a time limit, and a check that it leaves nothing behind.

Owns the fixtures ``new_loop``, ``loop`` and ``run``, which run one test against stock asyncio (the oracle) and against
weft; the autouse check for leftovers; the time limit of each test; and the hypothesis profile. Its invariant: what a
test leaves is held against that test and no other. Markers: ``weft_only`` (asyncio makes no such promise),
``time_limit(seconds)``, ``realtime`` (waits for the clock on the wall).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

import hypothesis
import pytest

# A shell starts what it puts in the background with SIGINT ignored, nohup(1) what it starts with SIGHUP ignored, and
# children inherit that: tests need both back.
for _signum, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _handler)

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

TIME_LIMIT = 120.0  # Seconds. The slowest honest test takes a few; a busy machine takes ten times that.
LAST_WORD = 30.0  # Seconds more until the process is ended with every thread's stack, if the limit could not be raised.
GRACE = 5.0  # Seconds in which threads and children on their way out may go. Spent only if something is left.

failed_key = pytest.StashKey[bool]()
passed_key = pytest.StashKey[int]()

hypothesis.settings.register_profile("weft", deadline=None, print_blob=True)
hypothesis.settings.register_profile("weft-ci", deadline=None, print_blob=True, derandomize=True, database=None)
hypothesis.settings.load_profile("weft-ci" if os.environ.get("CI") else "weft")


# -- loops: one test, two implementations


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


def _weft_loop() -> asyncio.AbstractEventLoop:
    import weft

    return weft.new_event_loop()


LOOPS: dict[str, LoopFactory] = {"asyncio": _asyncio_loop, "weft": _weft_loop}


@pytest.fixture(params=list(LOOPS))
def new_loop(request: pytest.FixtureRequest) -> LoopFactory:
    """Makes a new event loop, of stock asyncio in one run of the test and of weft in the other. The test closes it."""
    return LOOPS[request.param]


@pytest.fixture
def loop(new_loop: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that is not running, of stock asyncio in one run of the test and of weft in the other."""
    loop = new_loop()
    yield loop
    if loop.is_closed():
        return
    try:
        # Before shutdown: a task that the test forgot must not be finished by accident here.
        left = [repr(task) for task in asyncio.all_tasks(loop)]
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert not left, f"the test left tasks: {left}"


@pytest.fixture
def run(new_loop: LoopFactory) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine to its end in a new loop, as ``asyncio.run`` does."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop the stock run of the tests that are about weft alone."""

    def wanted(item: pytest.Item) -> bool:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        return params.get("new_loop") != "asyncio" or item.get_closest_marker("weft_only") is None

    items[:] = filter(wanted, items)


# -- the time limit


class TimeLimit(KeyboardInterrupt):
    """Raised in a test that takes too long. A loop lets a KeyboardInterrupt out; it would log anything else."""


stderr_key = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep a way to the real stderr, past pytest's capture, for the last word of a test that hangs."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        config.stash[stderr_key] = os.dup(2)


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("time_limit")
    return float(marker.args[0]) if marker else TIME_LIMIT


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """End the process, with the stack of every thread, when a test hangs where no exception can reach it."""
    faulthandler.dump_traceback_later(_seconds(item) + LAST_WORD, exit=True, file=item.config.stash[stderr_key])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _limited(item: pytest.Item) -> Generator[None, Any, Any]:
    message = f"the test took more than {_seconds(item):g} s"

    def raise_limit(number: int, frame: FrameType | None) -> None:
        raise TimeLimit(message)

    before = signal.signal(signal.SIGALRM, raise_limit)
    signal.setitimer(signal.ITIMER_REAL, _seconds(item))
    try:
        return (yield)
    except TimeLimit as limit:
        raise AssertionError(str(limit)) from limit
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Tell pytest that a fixture has failed: it remembers that of every exception but a KeyboardInterrupt."""
    try:
        return (yield)
    except TimeLimit as limit:
        fixturedef.cached_result = (None, fixturedef.cache_key(request), (limit, limit.__traceback__))  # type: ignore[arg-type]
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Limit the time of the test's fixtures."""
    return (yield from _limited(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Limit the time of the test itself."""
    return (yield from _limited(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Limit the time of tearing down what the test used."""
    return (yield from _limited(item))


# -- nothing is left behind


@dataclass
class Holdings:
    """What the process holds at one moment."""

    fds: dict[int, str] = field(default_factory=dict)
    threads: dict[int, str] = field(default_factory=dict)
    children: dict[int, str] = field(default_factory=dict)
    loops: list[asyncio.AbstractEventLoop] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def more_than(self, before: Holdings) -> list[str]:
        """What is held now and was not held then, in words."""
        extra = [f"file descriptor {fd}: {to}" for fd, to in self.fds.items() if before.fds.get(fd) != to]
        extra += [f"thread {tid}: {name}" for tid, name in self.threads.items() if tid not in before.threads]
        extra += [f"child process {pid}: {name}" for pid, name in self.children.items() if pid not in before.children]
        known = {id(thing) for thing in (*before.loops, *before.tasks)}
        extra += [f"loop that is not closed: {loop!r}" for loop in self.loops if id(loop) not in known]
        extra += [f"task that is not done: {task!r}" for task in self.tasks if id(task) not in known]
        return extra


def _open_fds() -> dict[int, str]:
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of this very listing is closed by now.
        with contextlib.suppress(FileNotFoundError):
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    # libffi keeps its own file open from the first use of ctypes on, where it maps trampolines from it.
    return {fd: to for fd, to in fds.items() if "/libffi.so" not in to}


def _threads() -> dict[int, str]:
    """Every thread of the process, those that Python knows nothing of as well.

    But for the watchdog of weft's loops: there is one in a process, from its first loop to its end.
    """
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    threads = {}
    for tid in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/self/task/{tid}/comm") as comm:
            name = known.get(tid) or f"{comm.read().strip()} (not a Python thread)"
            if name != "weft-watch (not a Python thread)":
                threads[tid] = name
    return threads


def _whereabouts(extra: list[str]) -> list[str]:
    """Where each thread is in the kernel, if one was left: the last word on what Python knows nothing of."""
    if not any(line.startswith("thread ") for line in extra):
        return []
    lines = []
    for tid in os.listdir("/proc/self/task"):
        said = []
        for name in ("comm", "stat", "wchan", "syscall"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{tid}/{name}") as file:
                said.append(f"{name}: {file.read().strip()}")
        lines.append(f"(thread {tid} now: {'; '.join(said)})")
    return lines


def _children() -> dict[int, str]:
    """Child processes, zombies too: the kernel may lack /proc/PID/task/TID/children, so every process is asked."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # the usual: there is none
    me = os.getpid()
    children = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat") as stat:
            # "pid (comm) state ppid ...", where comm may hold anything, so it is cut off at the last parenthesis.
            before, _, after = stat.read().rpartition(")")
            state, parent = after.split()[:2]
            if int(parent) == me:
                children[int(name)] = f"{before.partition('(')[2]} ({'not waited for' if state == 'Z' else 'running'})"
    return children


def _take_stock() -> Holdings:
    gc.collect()
    holdings = Holdings(_open_fds(), _threads(), _children())
    for thing in gc.get_objects():
        kind = type(thing)  # Not isinstance: it would ask a proxy for the class of what it stands for.
        if issubclass(kind, asyncio.AbstractEventLoop) and not thing.is_closed():
            holdings.loops.append(thing)
        elif issubclass(kind, asyncio.Task) and not thing.done():
            holdings.tasks.append(thing)
    return holdings


def _forget_failure() -> None:
    """Drop what the traceback of an earlier failed test keeps alive, quietly: that test has been reported."""
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def _close_loops(before: Holdings) -> None:
    """Close the loops that a test left open, so that no later test is blamed for the warning of their end."""
    for loop in _take_stock().loops:
        if not loop.is_running() and all(loop is not known for known in before.loops):
            loop.close()


@pytest.fixture(scope="session", autouse=True)
def _cheap_collections() -> Iterator[None]:
    """Put what the imports made out of the collector's sight: it is looked through before and after every test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _set_aside(config: pytest.Config) -> None:
    """After every 50th test, put what the run itself keeps out of the collector's sight as well.

    pytest holds three reports for every test until the end, with dictionaries and lists in them: after 5000 tests a
    collection took 40 ms, and there are four for each test. Called where nothing of a test is left.
    """
    passed = config.stash.get(passed_key, 0) + 1
    config.stash[passed_key] = passed
    if passed % 50 == 0:
        gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a task, a loop, a file descriptor, a thread or a child process behind."""
    if request.session.stash.get(failed_key, False):
        _forget_failure()
        request.session.stash[failed_key] = False
    before = _take_stock()
    yield
    if request.node.stash.get(failed_key, False):
        # The traceback holds the test's frames, and they hold what it used: not a leak, and one report is enough.
        request.session.stash[failed_key] = True
        return
    deadline = time.monotonic() + GRACE
    while extra := _take_stock().more_than(before):
        if time.monotonic() > deadline:
            _close_loops(before)
            pytest.fail("the test left behind:\n  " + "\n  ".join(extra + _whereabouts(extra)), pytrace=False)
        time.sleep(0.005)
    _set_aside(request.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the test that it has failed (or was expected to and did)."""
    if call.excinfo is not None:
        item.stash[failed_key] = True
    return (yield)
