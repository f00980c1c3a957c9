"""The watchdog: what it notices, what it leaves alone, and that no fork, lock or end of the process gets in its way."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from typing import Any

import pytest

import weft
from tests.core.kit import run_script
from weft._core import watchdog

pytestmark = [pytest.mark.weft_only]

realtime = pytest.mark.realtime

PREAMBLE = """
import asyncio, logging, os, sys, threading, time, weft
from weft import watch
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
"""


def watched(program: str, *flags: str) -> str:
    """What a program prints, reports among it, in a process of its own."""
    return run_script(PREAMBLE + textwrap.dedent(program), flags=flags)


class TestThreshold:
    def test_by_default_a_tenth_of_a_second(self) -> None:
        with weft.Runner() as runner:
            loop: Any = runner.get_loop()
            assert loop.stall_threshold == 0.1

    @pytest.mark.parametrize(("value", "expected"), [("0.5", 0.5), ("off", None), ("", 0.1)])
    def test_from_the_environment(self, value: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEFT_STALL_THRESHOLD", value)
        loop = weft.new_event_loop()
        assert loop.stall_threshold == expected
        loop.close()

    @pytest.mark.parametrize("value", ["never", "0", "-1", "nan"])
    def test_an_environment_that_makes_no_sense_is_refused(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEFT_STALL_THRESHOLD", value)
        with pytest.raises(ValueError, match="WEFT_STALL_THRESHOLD="):
            weft.new_event_loop()

    @pytest.mark.parametrize("value", [0, -0.1, float("nan")])
    def test_a_threshold_that_makes_no_sense_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="stall_threshold"):
            weft.EventLoop(stall_threshold=value)
        with pytest.raises(ValueError, match="stall_threshold"), weft.Runner(stall_threshold=value) as runner:
            runner.get_loop()

    def test_the_argument_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEFT_STALL_THRESHOLD", "0.5")
        with weft.Runner(stall_threshold=0.25) as runner:
            loop: Any = runner.get_loop()
            assert loop.stall_threshold == 0.25

    def test_run_and_runner_hand_it_on(self) -> None:
        async def main() -> Any:
            import asyncio

            loop: Any = asyncio.get_running_loop()
            return loop.stall_threshold

        assert weft.run(main(), stall_threshold=0.75) == 0.75
        assert weft.run(main(), stall_threshold=None) is None


@realtime
class TestNoticing:
    def test_off_is_silent_and_has_no_thread(self) -> None:
        program = """
            async def main():
                time.sleep(0.3)
                tids = os.listdir("/proc/self/task")
                print(sorted(open(f"/proc/self/task/{tid}/comm").read().strip() for tid in tids))
            weft.run(main(), stall_threshold=None)
        """
        assert "weft-watch" not in watched(program)
        assert "weft-watch" in watched(program.replace("stall_threshold=None", ""))

    def test_the_analysis_is_imported_at_the_first_stall(self) -> None:
        out = run_script("""
            import asyncio, sys, time, weft
            async def main():
                await asyncio.sleep(0)
                print("weft.watch" in sys.modules)
                time.sleep(0.3)
                await asyncio.sleep(0)
                print("weft.watch.reports" in sys.modules)
            weft.run(main())
        """)
        assert out.split() == ["False", "True"]

    def test_the_line(self) -> None:
        out = watched("""
            def helper():
                time.sleep(0.25)
            async def main():
                helper()
            async def outer():
                await asyncio.create_task(main(), name="fetch-7")
            weft.run(outer())
        """)
        assert "in task 'fetch-7' at <string>:" in out
        # Up to 3.12 there is no source of a program that stands on the command line.
        assert re.search(r"in helper\(\): (it waits|time.sleep) \(kernel: clock_nanosleep\); ", out)
        assert 'use "await asyncio.sleep()" or asyncio.to_thread(). seen 1x' in out

    def test_callbacks_timers_and_protocols(self) -> None:
        out = watched("""
            import socket
            def soon(): time.sleep(0.12)
            def later(): time.sleep(0.12)
            def readable(sock): sock.recv(1); time.sleep(0.12)
            def on_signal(*_): time.sleep(0.12)
            class Slow(asyncio.Protocol):
                def data_received(self, data): time.sleep(0.12)
            async def main():
                import signal
                loop = asyncio.get_running_loop()
                loop.call_soon(soon)
                loop.call_later(0.01, later)
                ours, theirs = socket.socketpair()
                loop.add_reader(ours, readable, ours)
                theirs.send(b"x")
                await asyncio.sleep(0.6)
                loop.remove_reader(ours)
                ours.setblocking(False)
                transport, _ = await loop.connect_accepted_socket(Slow, ours)
                theirs.send(b"x")
                await asyncio.sleep(0.2)
                signal.signal(signal.SIGUSR1, on_signal)
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                await asyncio.sleep(0.4)
                transport.close(); theirs.close()
                print({place.stall.function for place in watch.worst()}, {p.stall.task for p in watch.worst()})
            weft.run(main(), stall_threshold=0.04)
        """)
        for function in ("soon", "later", "readable", "Slow.data_received", "on_signal"):
            assert f"in {function}()" in out, out
        assert "{None}" in out

    def test_many_short_callbacks_in_one_turn_are_no_stall(self) -> None:
        out = watched("""
            import socket
            def short(): time.sleep(0.01)
            async def main():
                loop = asyncio.get_running_loop()
                for _ in range(20): loop.call_soon(short)
                for _ in range(20): loop.call_later(0.001, short)
                pairs = [socket.socketpair() for _ in range(20)]
                for ours, theirs in pairs:
                    loop.add_reader(ours, lambda ours=ours: (ours.recv(1), short()))
                    theirs.send(b"x")
                await asyncio.sleep(0.6)
                for ours, theirs in pairs:
                    loop.remove_reader(ours); ours.close(); theirs.close()
                print(watch.stats())
            weft.run(main(), stall_threshold=0.1)
        """)
        assert "'blocked': 0" in out

    def test_an_idle_loop_parks_the_watchdog(self) -> None:
        async def main() -> tuple[dict[str, int], dict[str, int]]:
            import asyncio

            await asyncio.sleep(0.5)
            before = watchdog.counters()
            await asyncio.sleep(1)
            return before, watchdog.counters()

        before, after = weft.run(main())
        assert after["parks"] > 0
        assert after["looks"] - before["looks"] <= 4  # at 50 ms each there would be twenty

    def test_a_stall_after_a_long_idle_time_is_seen(self) -> None:
        out = watched("""
            async def main():
                await asyncio.sleep(0.6)
                time.sleep(0.2)
                await asyncio.sleep(0)
                print(watch.stats()["blocked"])
            weft.run(main())
        """)
        assert out.splitlines()[-1] == "1"

    def test_debug_mode_and_two_loops(self) -> None:
        out = watched("""
            async def main(name):
                await asyncio.create_task(asyncio.sleep(0))
                time.sleep(0.2)
                await asyncio.sleep(0)
            def run(name):
                weft.run(main(name), debug=True)
            threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(watch.stats()["blocked"], watch.stats()["unseen"])
        """)
        assert out.splitlines()[-1] == "2 0"

    def test_c_code_that_ends_with_its_callback_names_the_task(self) -> None:
        """No frame shows it: an operator lets the GIL go only after its callback has returned."""
        out = watched("""
            size = 200_000
            while True:
                start = time.thread_time(); pow(3, size)
                if time.thread_time() - start > 0.15: break
                size *= 2
            async def computing(x):
                x ** size
            async def goes_on(x):
                x ** size
                await asyncio.sleep(0)
            async def main():
                await asyncio.create_task(computing(3), name="the one")
                await asyncio.create_task(goes_on(3), name="another")
            weft.run(main(), stall_threshold=0.05)
        """)
        assert "in task 'the one'" in out
        assert "in task 'another' at <string>:" in out
        assert "in goes_on()" in out


@realtime
class TestAStallThatLasts:
    def test_it_is_reported_while_it_lasts(self) -> None:
        out = watched("""
            from weft._core import watchdog
            watchdog.set_first_word(0.3)
            async def main():
                time.sleep(1.2)
            weft.run(main())
        """)
        lines = [line for line in out.splitlines() if "loop blocked" in line]
        assert " so far in task" in lines[0]
        assert "so far" not in lines[-1]
        assert len(lines) >= 2

    def test_the_log_may_be_locked_by_what_blocks(self) -> None:
        out = watched("""
            from weft._core import watchdog
            watchdog.set_first_word(0.2)
            os.dup2(1, 2)
            async def main():
                handler = logging.getLogger().handlers[0]
                with handler.lock:
                    time.sleep(1.8)
            weft.run(main())
        """)
        assert "holds the lock of the log" in out
        assert [line for line in out.splitlines() if "loop blocked" in line and "so far" not in line]

    def test_c_code_that_keeps_the_gil(self) -> None:
        out = watched("""
            import ctypes
            from weft._core import watchdog
            watchdog.set_first_word(0.2)
            os.dup2(1, 2)
            async def blocks():
                ctypes.PyDLL(None).usleep(900_000)
            weft.run(blocks())
        """)
        assert "C code keeps the GIL" in out
        if sys.version_info < (3, 13):  # what shows a stack without the GIL is no longer exported there
            assert "in blocks" in out.partition("C code keeps the GIL")[2].partition("loop blocked")[0]
        assert "in blocks(): " in out.partition("loop blocked")[2]


@realtime
class TestForksAndEnds:
    def test_a_fork_does_not_see_the_thread(self) -> None:
        out = watched(
            """
            def child():
                async def main():
                    time.sleep(0.2)
                    await asyncio.sleep(0)
                asyncio._set_running_loop(None)
                weft.run(main())
                print("child", watch.stats()["blocked"], flush=True)
                os._exit(0)
            async def main():
                await asyncio.sleep(0.01)
                pid = os.fork()
                if pid == 0:
                    child()
                await asyncio.to_thread(os.waitpid, pid, 0)
                time.sleep(0.2)
                await asyncio.sleep(0)
                print("parent", watch.stats()["blocked"])
            weft.run(main())
        """,
            "-W",
            "error",
        )
        assert "child 1" in out
        assert out.splitlines()[-1] == "parent 1"

    def test_a_fork_in_the_middle_of_a_stall(self) -> None:
        out = watched(
            """
            async def main():
                time.sleep(0.2)
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
                await asyncio.sleep(0)
                print(watch.stats()["blocked"])
            weft.run(main())
        """,
            "-W",
            "error",
        )
        assert out.splitlines()[-1] == "1"

    @pytest.mark.parametrize("what", ["time.sleep(60)", "while True: pass"])
    def test_the_interpreter_ends_while_a_loop_is_blocked_in_a_thread(self, what: str) -> None:
        start = time.monotonic()
        watched(f"""
            async def main():
                {what}
            threading.Thread(target=weft.run, args=(main(),), daemon=True).start()
            time.sleep(0.3)
            print("end")
        """)
        assert time.monotonic() - start < 30

    def test_many_runs_and_one_thread(self) -> None:
        async def main() -> int:
            return len([tid for tid in os.listdir("/proc/self/task") if _comm(tid) == "weft-watch"])

        assert {weft.run(main()) for _ in range(50)} == {1}

    @pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module has another name")
    def test_a_subinterpreter_refuses_or_is_not_watched(self) -> None:
        out = run_script("""
            import _xxsubinterpreters as interpreters
            one = interpreters.create()
            program = 'import weft, time\\nasync def main(): time.sleep(0.2)\\nweft.run(main()); print("not watched")'
            try:
                interpreters.run_string(one, program)
            except Exception as error:
                print("refused:", str(error)[:200])
        """)
        assert out.startswith(("refused:", "not watched"))


def _comm(tid: str) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm") as comm:
            return comm.read().strip()
    except FileNotFoundError:
        return ""
