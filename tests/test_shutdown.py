"""How a run ends: by SIGINT and SIGTERM, by itself, and where something resists. Real programs, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.core.kit import SOURCES
from weft.shutdown import DEFAULT_TIMEOUT, timeout_from_environment

pytestmark = pytest.mark.weft_only

ROOT = Path(__file__).parent.parent
LIMIT = 60.0  # seconds; a program that has not ended by then is one that does not end

HEAD = """
import asyncio, os, signal, socket, sys, threading, time
def ready():
    print("ready", flush=True)
"""


class Program:
    """A program in a process of its own, as ``python`` or as ``weft run`` runs it."""

    def __init__(self, source: str, *options: str, command: bool, **env: str) -> None:
        words = ["-m", "weft", "run", *options] if command else [*options]
        tail = "asyncio.run(main())" if command else "import weft\nweft.run(main())"
        source = HEAD + textwrap.dedent(source) + ("" if "# own end" in source else tail)
        self.process = subprocess.Popen(
            [sys.executable, *words, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{SOURCES}", "WEFT_STALL_THRESHOLD": "off", **env},
        )

    def until_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", line + self.process.communicate(timeout=LIMIT)[1]

    def end(self) -> tuple[int, str, str]:
        """The status, and what was written after "ready"."""
        try:
            out, err = self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode, out, err


def killed(source: str, *signums: int, command: bool = True, options: tuple[str, ...] = (), **env: str) -> Any:
    """Start a program, send it signals once it is ready (each after the last was noticed), and give its end."""
    program = Program(source, *options, command=command, **env)
    program.until_ready()
    for number, signum in enumerate(signums):
        if number:
            program.until_ready()
        program.process.send_signal(signum)
    return program.end()


WAITS = """
async def main():
    try:
        ready()
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)
"""


class TestSignals:
    @pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_of_the_command(self, signum: int, status: int) -> None:
        assert killed(WAITS, signum) == (status, "cleaned up\n", "")

    def test_terminate_in_a_program(self) -> None:
        assert killed(WAITS, signal.SIGTERM, command=False) == (143, "cleaned up\n", "")

    def test_interrupt_in_a_program_is_asyncios(self) -> None:
        status, out, err = killed(WAITS, signal.SIGINT, command=False)
        assert (status, out) == (-signal.SIGINT, "cleaned up\n")
        assert err.startswith("Traceback")
        assert err.endswith("\nKeyboardInterrupt\n")

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_what_the_program_catches_is_its_own(self, signum: int) -> None:
        source = f"""
            {WAITS.replace(chr(10), chr(10) + " " * 12)}
            try:
                asyncio.run(main())
            except (KeyboardInterrupt, SystemExit) as error:
                print(type(error).__name__, getattr(error, "code", None))
            # own end
        """
        said = "KeyboardInterrupt None" if signum == signal.SIGINT else "SystemExit 143"
        assert killed(source, signum) == (0, f"cleaned up\n{said}\n", "")

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_main_may_go_on_if_it_says_so(self, signum: int) -> None:
        source = """
            async def main():
                try:
                    ready()
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    asyncio.current_task().uncancel()
                print("went on")
        """
        assert killed(source, signum) == (0, "went on\n", "")

    def test_handlers_come_back(self) -> None:
        async def main() -> Any:
            inside = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
            return inside

        before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
        inside = weft.run(main())
        assert inside != before
        assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before

    def test_handlers_of_the_program_stay(self) -> None:
        def mine(signum: int, frame: object) -> None: ...

        async def main() -> Any:
            return signal.getsignal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, mine)
        try:
            assert weft.run(main()) is mine
            assert signal.getsignal(signal.SIGTERM) is mine
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_the_loops_own_handler_wins(self) -> None:
        source = """
            async def main():
                event = asyncio.Event()
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, event.set)
                ready()
                await event.wait()
                print("drained")
        """
        assert killed(source, signal.SIGTERM) == (0, "drained\n", "")

    def test_a_fork_is_killed_as_ever(self) -> None:
        source = """
            async def main():
                pid = os.fork()
                if not pid:
                    time.sleep(60)
                    os._exit(0)
                os.kill(pid, signal.SIGTERM)
                ready()
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
        assert killed(source) == (0, "-15\n", "")

    def test_not_in_another_thread(self) -> None:
        source = """
            async def main():
                ready()
                await asyncio.sleep(60)
            threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
            time.sleep(60)
            # own end
        """
        status, _, err = killed(source, signal.SIGTERM)
        assert (status, err) == (-signal.SIGTERM, "")

    def test_while_the_run_closes(self) -> None:
        source = """
            async def rest():
                try:
                    await asyncio.sleep(60)
                finally:
                    ready()
                    await asyncio.sleep(0.2)
                    print("rest", flush=True)
            async def main():
                task = asyncio.create_task(rest())
                await asyncio.sleep(0)
        """
        assert killed(source, signal.SIGTERM) == (143, "rest\n", "")

    def test_not_in_the_middle_of_a_callback(self) -> None:
        """What the callback has looked at still holds when it goes on: asyncio's own ``sleep`` relies on that."""
        source = """
            async def main():
                future = asyncio.get_running_loop().create_future()
                def answer():
                    if not future.cancelled():
                        ready()
                        os.kill(os.getpid(), signal.SIGTERM)  # Python runs the handler before the next line
                        future.set_result(None)
                asyncio.get_running_loop().call_soon(answer)
                await future
                await asyncio.sleep(60)
        """
        assert killed(source) == (143, "", "")

    def test_plain_programs_die_of_it(self) -> None:
        source = "ready(); time.sleep(60)\n# own end"
        assert killed(source, signal.SIGTERM) == (-signal.SIGTERM, "", "")


class TestOrder:
    def test_servers_stop_listening_before_main_hears_of_it(self) -> None:
        source = """
            async def main():
                server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
                port = server.sockets[0].getsockname()[1]
                try:
                    ready()
                    await asyncio.sleep(60)
                finally:
                    print(server.is_serving(), socket.socket().connect_ex(("127.0.0.1", port)) != 0)
        """
        assert killed(source, signal.SIGTERM) == (143, "False True\n", "")

    def test_a_server_does_not_wait_for_idle_clients(self) -> None:
        """From Python 3.12 to 3.13 ``serve_forever`` would, however long they stay."""
        source = """
            async def main():
                server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
                client = socket.create_connection(server.sockets[0].getsockname())
                while not server._clients:
                    await asyncio.sleep(0)
                async with server:
                    ready()
                    await server.serve_forever()
        """
        assert killed(source, signal.SIGTERM) == (143, "", "")

    def test_what_was_written_leaves(self) -> None:
        """A client that reads slowly still gets all of it, after every task has ended."""
        source = """
            size = 4_000_000
            async def main():
                ours, theirs = socket.socketpair()
                def read():
                    time.sleep(0.3)
                    count = 0
                    while data := theirs.recv(1 << 20):
                        count += len(data)
                    print(count == size, flush=True)
                threading.Thread(target=read).start()
                reader, writer = await asyncio.open_connection(sock=ours)
                writer.write(bytes(size))
                ready()
                await asyncio.sleep(60)
        """
        assert killed(source, signal.SIGTERM) == (143, "True\n", "")

    def test_children_are_gone(self) -> None:
        source = """
            async def main():
                process = await asyncio.create_subprocess_exec("sleep", "60")
                try:
                    ready()
                    await process.wait()
                finally:
                    print(process.pid)
        """
        status, out, err = killed(source, signal.SIGTERM)
        assert (status, err) == (143, "")
        with pytest.raises(ProcessLookupError):
            os.kill(int(out), 0)


RESISTS = """
async def poll():
    while True:
        try:
            await asyncio.sleep(0.01)
        except BaseException:
            continue
"""


class TestResisting:
    def test_a_task_is_named_and_given_up(self) -> None:
        source = RESISTS + textwrap.dedent("""
            async def main():
                task = asyncio.create_task(poll(), name="poller")
                ready()
                await asyncio.sleep(60)
        """)
        status, out, err = killed(source, signal.SIGTERM, options=("--shutdown-timeout=2.3",))
        assert (status, out) == (143, "")
        said, gave_up, head, section, resisted = err.splitlines()
        assert said == "shutdown: after 2 s still running: task 'poller' at <string>:9 in poll()"
        assert gave_up.startswith("shutdown: gave up after 2 s on task 'poller' at <string>:")
        assert (head, section) == ("weft: what was wrong in this run", "lost work:")
        assert "resisted shutdown" in resisted

    def test_the_main_task(self) -> None:
        source = RESISTS + "async def main():\n    ready()\n    await poll()\n"
        status, out, err = killed(source, signal.SIGTERM, options=("--report=none",), WEFT_SHUTDOWN_TIMEOUT="0.2")
        assert (status, out) == (143, "")
        assert err.startswith("shutdown: gave up after ")
        assert " s on task 'Task-1' at <string>:" in err
        assert len(err.splitlines()) == 1

    def test_without_a_signal(self) -> None:
        source = RESISTS + textwrap.dedent("""
            async def main():
                task = asyncio.create_task(poll())
                ready()
                await asyncio.sleep(0)
        """)
        status, _, err = killed(source, options=("--report=none", "--shutdown-timeout", "0.2"))
        assert status == 0
        assert err.startswith("shutdown: gave up")

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_a_second_signal_ends_it_at_once(self, signum: int) -> None:
        source = """
            async def main():
                while True:
                    try:
                        ready()
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        continue
        """
        began = time.monotonic()
        status, _, err = killed(source, signum, signum, options=("--report=none", "--shutdown-timeout=none"))
        assert (status, err) == (128 + signum, "")
        assert time.monotonic() - began < LIMIT / 2  # "none" waits for ever

    def test_a_blocked_loop(self) -> None:
        source = """
            async def main():
                ready()
                try:
                    time.sleep(120)
                finally:
                    print("left", flush=True)
        """
        began = time.monotonic()
        status, out, err = killed(source, signal.SIGTERM, options=("--shutdown-timeout=0.2",))
        assert (status, out, err) == (143, "left\n", "")
        assert time.monotonic() - began < LIMIT

    def test_a_blocked_loop_that_resists(self) -> None:
        source = """
            async def main():
                ready()
                while True:
                    try:
                        time.sleep(120)
                    except BaseException:
                        pass
        """
        status, out, err = killed(source, signal.SIGTERM, options=("--shutdown-timeout=0.2",))
        assert (status, out) == (143, "")
        assert "the loop is blocked at <string>:10 in main(), by a call that cannot be interrupted" in err

    @pytest.mark.parametrize("own", [False, True])
    def test_a_thread_is_named_and_left_behind(self, own: bool) -> None:
        pool = "loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2, 'mine'))" if own else ""
        source = f"""
            import concurrent.futures
            def listen():
                threading.Event().wait()
            async def main():
                loop = asyncio.get_running_loop()
                {pool}
                loop.run_in_executor(None, listen)
                asyncio.create_task(asyncio.to_thread(time.sleep, 120))
                await asyncio.sleep(0.05)
                ready()
        """
        status, out, err = killed(source, options=("--report=none", "--shutdown-timeout=0.2"))
        assert (status, out) == (0, "")
        name = "mine" if own else "asyncio"
        assert f"thread '{name}_0' at <string>:8 in listen()" in err
        assert f"thread '{name}_1' at " in err
        assert "in sleep()" in err
        assert len(err.splitlines()) == 1

    def test_no_noise_of_what_was_given_up(self) -> None:
        """Neither "destroyed", nor "ignored GeneratorExit", nor "Event loop is closed", with every warning shown."""
        source = RESISTS + textwrap.dedent("""
            async def cleans():
                try:
                    await asyncio.sleep(60)
                finally:
                    while True:
                        try:
                            await asyncio.sleep(60)
                        except asyncio.CancelledError:
                            pass
            async def main():
                tasks = [asyncio.create_task(poll()), asyncio.create_task(cleans())]
                await asyncio.sleep(0)
                ready()
                await asyncio.sleep(60)
        """)
        options = ("--report=none", "--shutdown-timeout=0.1")
        _, _, err = killed(source, signal.SIGTERM, options=options, PYTHONWARNINGS="always")
        assert len(err.splitlines()) == 1
        assert err.startswith("shutdown: gave up")


class TestTimeout:
    @pytest.mark.parametrize(("text", "expected"), [("", DEFAULT_TIMEOUT), ("2.5", 2.5), ("0", 0.0), (" NONE ", None)])
    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch, text: str, expected: float | None) -> None:
        monkeypatch.setenv("WEFT_SHUTDOWN_TIMEOUT", text)
        assert timeout_from_environment() == expected

    @pytest.mark.parametrize("text", ["soon", "-1", "nan"])
    def test_what_makes_no_sense(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("WEFT_SHUTDOWN_TIMEOUT", text)
        with pytest.raises(ValueError, match="WEFT_SHUTDOWN_TIMEOUT"):
            timeout_from_environment()

    @pytest.mark.parametrize("value", [-0.5, float("nan")])
    def test_argument_that_makes_no_sense(self, value: float) -> None:
        with pytest.raises(ValueError, match="shutdown_timeout"):
            weft.Runner(shutdown_timeout=value)
