"""From facts to a report: what is an excuse, what is not, and the words."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.kit import SOURCES, run_script
from weft import watch
from weft.watch import ledger, reports
from weft.watch.stall import Kind, Stall

pytestmark = pytest.mark.weft_only

MS = 1_000_000


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    watch.reset()
    yield
    watch.reset()


class Loop:
    stall_threshold = 0.1


def frames_here() -> list[Any]:
    frame = sys._getframe(1)
    return [(frame.f_code, frame.f_lineno, frame.f_lasti, frame.f_globals)]


def facts(**given: Any) -> dict[str, Any]:
    """Facts of a stall of 300 ms in a sleep, save for what is given."""
    usual = {
        "frames": frames_here(),
        "task": None,
        "tid": 0,
        "started": 1000 * MS,
        "ended": 1300 * MS,
        "now": 1301 * MS,
        "stolen": 0,
        "collected": 0,
        "measured": 1050 * MS,
        "cpu": 0,
        "delay": 0,
        "gil_wait": 0,
        "samples": 5,
        "running": 0,
        "call": "230 0x1 0x0",
        "channel": "hrtimer_nanosleep",
        "target": "",
    }
    return {**usual, **given}


def kind_of(**given: Any) -> Kind | None:
    stall = reports.judge(Loop(), facts(**given))
    return None if stall is None else stall.kind


RUNS = {"call": "running", "running": 5}


class TestKinds:
    def test_a_line_is_to_blame(self) -> None:
        assert kind_of() is Kind.BLOCKED
        assert kind_of(**RUNS, cpu=240 * MS) is Kind.BLOCKED

    def test_what_is_too_short_is_none(self) -> None:
        assert kind_of(ended=1099 * MS) is None

    def test_excuses(self) -> None:
        assert kind_of(**RUNS, collected=280 * MS, cpu=290 * MS) is Kind.COLLECTION
        assert kind_of(**RUNS, delay=240 * MS, cpu=10 * MS) is Kind.STARVED
        assert kind_of(**RUNS, delay=-1, cpu=10 * MS) is Kind.STARVED  # a kernel that does not count it
        assert kind_of(stolen=280 * MS) is Kind.STOPPED
        assert kind_of(call="202 0x0", gil_wait=250 * MS) is Kind.GIL
        assert kind_of(call="202 0x0", channel="the GIL") is Kind.GIL
        assert kind_of(call="202 0x0", channel="futex_do_wait") is Kind.BLOCKED

    def test_excuses_that_leave_enough_are_none(self) -> None:
        assert kind_of(**RUNS, collected=150 * MS, cpu=290 * MS) is Kind.BLOCKED
        assert kind_of(**RUNS, delay=150 * MS, cpu=100 * MS) is Kind.BLOCKED
        assert kind_of(stolen=150 * MS) is Kind.BLOCKED
        assert kind_of(**RUNS, gil_wait=250 * MS, cpu=240 * MS) is Kind.BLOCKED  # it keeps the GIL itself

    def test_a_debugger(self) -> None:
        frame = sys._getframe()
        assert kind_of(frames=[(frame.f_code, 1, 0, {"__name__": "pdb"}), *frames_here()]) is Kind.DEBUGGER

    def test_only_a_block_has_a_cure_and_a_line_in_its_report(self) -> None:
        stall = reports.judge(Loop(), facts(stolen=280 * MS))
        assert stall is not None
        assert "no line is to blame" in str(stall)
        assert stall.cure == ""


class TestWords:
    def test_the_line(self) -> None:
        stall = reports.judge(Loop(), facts())
        assert stall is not None
        assert str(stall).startswith("loop blocked 300 ms in a callback at tests/watch/test_reports.py:")
        assert 'kernel: clock_nanosleep); use "await asyncio.sleep()" or asyncio.to_thread(). seen 1x' in str(stall)

    def test_so_far(self) -> None:
        stall = reports.judge(Loop(), facts(ended=None))
        assert stall is not None
        assert str(stall).startswith("loop blocked 301 ms so far in a callback")

    def test_without_frames(self) -> None:
        stall = reports.judge(Loop(), facts(frames=[]))
        assert stall is not None
        assert str(stall).startswith("loop blocked 300 ms in a callback: it waits")

    def test_a_descriptor_is_named(self) -> None:
        stall = reports.judge(Loop(), facts(call="0 0x3", target="/var/log/x"))
        assert stall is not None
        assert stall.kernel == "read of /var/log/x"


class TestTelling:
    def test_the_log_has_a_place_once_in_ten_seconds(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "weft.watch"):
            for _ in range(5):
                reports.ended(Loop(), facts())
        assert len([record for record in caplog.records if "loop blocked" in record.getMessage()]) == 1
        (place,) = watch.worst()
        assert (place.count, round(place.total, 3), round(place.longest, 3)) == (5, 1.5, 0.3)
        assert watch.stats()["blocked"] == 5

    def test_callbacks_hear_of_each_and_may_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        heard: list[Stall] = []

        def broken(stall: Stall) -> None:
            raise LookupError

        removes = [watch.on_stall(broken), watch.on_stall(heard.append)]
        reports.ended(Loop(), facts())
        reports.ended(Loop(), facts())
        for remove in [*removes, *removes]:
            remove()
        reports.ended(Loop(), facts())
        assert [stall.seen for stall in heard] == [1, 2]
        assert "on_stall() failed" in caplog.text

    def test_what_cannot_be_called_is_refused(self) -> None:
        with pytest.raises(TypeError, match="on_stall"):
            watch.on_stall(None)  # type: ignore[arg-type]

    def test_places_are_bounded(self) -> None:
        for line in range(ledger.PLACES + 50):
            ledger.record(Stall(Kind.BLOCKED, 1 + line, True, "f", line, "f", None, "", "", None, "m", ()))
        assert len(watch.worst(10**6)) == ledger.PLACES
        assert watch.worst(1)[0].stall.lineno == ledger.PLACES + 49

    def test_lines_are_bounded(self) -> None:
        stalls = [Stall(Kind.BLOCKED, 1, True, "f", line, "f", None, "", "", None, "m", ()) for line in range(100)]
        assert sum(ledger.may_log(ledger.record(stall)) for stall in stalls) == ledger.LINES
        assert watch.stats()["lines_held_back"] == 100 - ledger.LINES


@pytest.mark.realtime
class TestExcusesForReal:
    def test_a_collection(self) -> None:
        out = run_script("""
            import asyncio, gc, weft
            from weft import watch
            seen = []
            watch.on_stall(seen.append)
            async def main():
                gc.disable()
                keep = [[n] for n in range(3_000_000)]
                await asyncio.sleep(0.01)
                seen.clear()
                for _ in range(50):  # a machine that is busy with other things may be more to blame than the collector
                    gc.collect()
                    await asyncio.sleep(0)
                    if any(stall.kind is watch.Kind.COLLECTION for stall in seen):
                        break
                print(seen[-1].kind.name, any(stall.kind is watch.Kind.BLOCKED for stall in seen))
            weft.run(main(), stall_threshold=0.04)
        """)
        assert out.strip() in {"COLLECTION False", "STARVED False"}  # the latter where the machine is overloaded

    def test_sigstop(self) -> None:
        program = textwrap.dedent("""
            import asyncio, weft, sys
            from weft import watch
            seen = []
            watch.on_stall(seen.append)
            async def main():
                print("up", flush=True)
                loop = asyncio.get_running_loop()
                until = loop.time() + 1.5
                while loop.time() < until:
                    await asyncio.sleep(0)
                print([stall.kind.name for stall in seen])
            weft.run(main())
        """)
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            signal.sigtimedwait([signal.SIGUSR2], 0.25)
            process.send_signal(signal.SIGCONT)
            signal.sigtimedwait([signal.SIGUSR2], 0.1)
        out, _ = process.communicate(timeout=60)
        assert "BLOCKED" not in out

    def test_a_thread_that_keeps_the_gil(self) -> None:
        out = run_script("""
            import asyncio, ctypes, threading, time, weft
            from weft import watch
            seen = []
            watch.on_stall(seen.append)
            def keeper():
                ctypes.PyDLL(None).usleep(600_000)
            async def main():
                await asyncio.sleep(0.05)
                thread = threading.Thread(target=keeper)
                thread.start()
                while thread.is_alive():
                    time.sleep(0.0001)
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                print([stall.kind.name for stall in seen])
            weft.run(main())
        """)
        assert "GIL" in out or "STARVED" in out  # the latter where the machine has more to do than it can
        assert "BLOCKED" not in out

    def test_pdb(self, tmp_path: Path) -> None:
        out = run_script(
            """
            import asyncio, io, pdb, sys, threading, time, weft, os
            from weft import watch
            seen = []
            watch.on_stall(seen.append)
            async def main():
                reader, writer = os.pipe()
                threading.Timer(0.3, os.write, (writer, b"c\\n")).start()
                debugger = pdb.Pdb(stdin=open(reader), stdout=io.StringIO())
                debugger.set_trace()
                await asyncio.sleep(0)
                print([stall.kind.name for stall in seen])
            weft.run(main())
        """,
        )
        assert out.strip() == "['DEBUGGER']"
