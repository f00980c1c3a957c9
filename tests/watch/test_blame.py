"""Whose line it is, and what it calls; and the advice for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import sysconfig
import time
from types import FrameType
from typing import Any

import pytest

from weft.loop.lifecycle import Lifecycle
from weft.watch import blame as blaming
from weft.watch.blame import blame, name_of, rank, resolve
from weft.watch.cures import cure

pytestmark = pytest.mark.weft_only


class Probe:
    """Remembers the frames below each way to call it."""

    frames: list[Any]
    entered: list[Any]

    def __call__(self, *_: object) -> None:
        self.look(sys._getframe(1))

    def method(self) -> None:
        self.look(sys._getframe(1))

    def __enter__(self) -> None:
        self.look(sys._getframe(1))

    def __exit__(self, *_: object) -> None:
        self.entered = self.frames
        self.look(sys._getframe(1))

    def __iter__(self) -> Probe:
        return self

    def __next__(self) -> None:
        self.look(sys._getframe(1))
        raise StopIteration

    def look(self, frame: FrameType | None) -> None:
        self.frames = []
        while frame is not None:
            self.frames.append((frame.f_code, frame.f_lineno, frame.f_lasti, frame.f_globals))
            frame = frame.f_back


class TestCalls:
    def test_as_they_are_written(self) -> None:
        probe = Probe()
        probe("some", "arguments")
        assert blame(probe.frames).call == "probe"
        probe.method()
        assert blame(probe.frames).call == "probe.method"
        with probe:
            pass
        assert blame(probe.entered).call == "probe.__enter__"
        assert blame(probe.frames).call == "probe.__exit__"
        for _ in probe:
            pass
        assert blame(probe.frames).call == "next(probe)"

    def test_line_function_and_module(self) -> None:
        probe = Probe()
        probe()
        found = blame(probe.frames)
        assert (found.filename, found.function) == (__file__, "TestCalls.test_line_function_and_module")
        assert found.lineno == sys._getframe().f_lineno - 3
        assert found.module == __name__

    def test_a_call_over_several_lines_and_a_long_one(self) -> None:
        probe = Probe()
        table = {"a key that is so long that nobody wants to read it in a report of one line": probe}
        table["a key that is so long that nobody wants to read it in a report of one line"](
            1,
            2,
        )
        found = blame(probe.frames)
        assert found.call is not None
        assert found.call.endswith("...")
        assert len(found.call) <= blaming.LONGEST_CALL

    def test_without_source(self) -> None:
        probe = Probe()
        exec(compile("def f():\n    probe()", "<made>", "exec"), names := {"probe": probe})
        names["f"]()
        found = blame(probe.frames)
        assert (found.filename, found.lineno, found.call) == ("<made>", 2, None)

    def test_names_are_resolved_without_running_code(self) -> None:
        class Trap:
            def __getattr__(self, name: str) -> Any:
                raise AssertionError("looked at")

        names = {"time": time, "sleep": time.sleep, "trap": Trap(), "Probe": Probe, "json": json}
        assert resolve("time.sleep", names) == resolve("sleep", names) == "time.sleep"
        assert resolve("json.loads", names) == "json.loads"
        assert resolve("open", names) in {"io.open", "_io.open"}
        assert resolve("trap.anything.else", names) is None
        assert resolve("nothing", names) is None
        assert name_of([].append) == "builtins.list.append"
        assert name_of(3) is None


class TestFrames:
    def test_the_innermost_of_the_programs_own(self) -> None:
        def default(value: object) -> str:
            probe()
            return ""

        probe = Probe()
        json.dumps([object()], default=default)
        assert blame(probe.frames).function.endswith("default")

    def test_a_library_is_passed_over(self) -> None:
        probe = Probe()

        class Name(str):
            def __fspath__(self) -> str:
                probe()
                return "true"

        json.loads("[1]", object_hook=probe)
        subprocess.list2cmdline([Name("x")])
        assert rank(subprocess.__file__) == 2

    def test_below_the_loop_is_not_the_callback(self) -> None:
        here = sys._getframe()
        ours = (here.f_code, 1, 0, here.f_globals)
        inner = (json.loads.__code__, 1, 0, vars(json))
        run: Any = (Lifecycle.run_forever.__code__, 1, 0, {})
        found = blame([inner, run, ours])
        assert found.filename == json.__file__

    def test_nobody(self) -> None:
        assert blame([]).filename is None

    def test_ranks(self) -> None:
        assert rank(__file__) == 0
        assert rank(sysconfig.get_path("purelib") + "/requests/api.py") == 1
        assert rank(asyncio.__file__) == 2
        assert rank("<frozen os>") == 2
        assert rank("<frozen importlib._bootstrap>") == 4
        assert rank(sys.modules["weft"].__file__ or "") == 3
        assert rank("<stdin>") == 0


class TestCures:
    @pytest.mark.parametrize(
        ("names", "kernel", "expected"),
        [
            (["time.sleep"], "clock_nanosleep", "asyncio.sleep"),
            (["requests.get", "requests.api.get", "socket.socket.recv"], "recvfrom", "weft.http"),
            (["sock.recv"], "recvfrom", "open_connection"),
            (["socket.getaddrinfo"], "poll", "loop.getaddrinfo"),
            (["subprocess.run", "threading.Thread.join"], "wait4", "create_subprocess_exec"),
            (["q.get", "queue.Queue.get", "threading.Condition.wait"], "futex", "asyncio.Queue"),
            (["f.result", "concurrent.futures._base.Future.result"], "futex", "wrap_future"),
            (["lock.acquire"], "futex", "asyncio.Lock"),
            (["cursor.execute"], "running", "driver"),
            (["re.match"], "running", "backtracks"),
            (["reply"], "running", "process pool"),
            (["json.loads"], "running", "smaller parts"),
            (["open"], "openat", "for files"),
            (["pathlib.Path.read_text"], "read", "for files"),
            (["os.stat"], "newfstatat", "for files"),
            (["importlib._bootstrap._find_and_load"], "running", "before the loop runs"),
            ([], "clock_nanosleep", "asyncio.sleep"),
            ([], "futex", "asyncio.Lock"),
            ([], "fsync", "for files"),
            ([], "", ""),
        ],
    )
    def test_the_table(self, names: list[str], kernel: str, expected: str) -> None:
        assert expected in cure(names, kernel)
        assert bool(cure(names, kernel)) is bool(expected)
