"""``weft.serve`` and ``weft run --workers``: real processes, real signals, no lost connection."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import weft
from tests.serving.kit import DRAINS, PATIENCE, RUN, SERVE, STUBBORN, Served, free_port, is_alive, served, wait_for
from weft.serving import count

pytestmark = pytest.mark.realtime

RUN_TWO = ("-m", "weft", "run", "--workers", "2")
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a program into a file, the same each time, and gives the path."""

    def put(text: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(text)
        return str(path)

    return put


class Load:
    """Asks without pause, from a thread, and notes who answered and what failed."""

    def __init__(self, it: Served) -> None:
        self.it = it
        self.answers: list[tuple[int, str]] = []
        self.failures: list[OSError] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self.it.ask())
            except OSError as error:
                self.failures.append(error)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class TestSharing:
    def test_unmodified_program(self, write: Write) -> None:
        port = free_port()
        with served(*RUN_TWO, write(RUN), str(port), where=port) as it:
            workers = it.workers()
            assert it.process.pid not in workers
            status, errors = it.stop()
            assert status == 128 + signal.SIGTERM
            assert "Traceback" not in errors
            assert not any(map(is_alive, workers))
            assert it.answers() is None

    def test_serve(self, write: Write) -> None:
        port = free_port()
        with served(write(SERVE), str(port), where=port) as it:
            workers = it.workers()
            it.process.send_signal(signal.SIGINT)
            output, errors = it.process.communicate(timeout=PATIENCE)
            assert it.process.returncode == 0
            assert output.endswith("after\n")
            assert output.count("after") == 1
            assert "Traceback" not in errors
            assert not any(map(is_alive, workers))

    def test_a_port_that_the_kernel_chooses_is_the_same_for_all(self, write: Write) -> None:
        with served(*RUN_TWO, write(RUN), "0") as it:
            assert it.process.stdout is not None
            ports = [it.process.stdout.readline() for _ in range(2)]
            assert ports[0] == ports[1]
            it.where = int(ports[0].split()[1])
            assert len(it.workers()) == 2

    def test_two_sockets_with_chosen_ports_are_two(self, write: Write) -> None:
        program = RUN.replace(
            "    await until().wait()",
            "    other = await asyncio.start_server(answer, '127.0.0.1', 0)\n"
            "    print(f'port {other.sockets[0].getsockname()[1]}\\n', end='', flush=True)\n"
            "    await until().wait()",
        )
        with served(*RUN_TWO, write(program), "0") as it:
            assert it.process.stdout is not None
            ports = [it.process.stdout.readline() for _ in range(4)]
            assert len(set(ports)) == 2

    def test_unix_socket(self, write: Write, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        with served(*RUN_TWO, write(RUN), path, where=path) as it:
            first = it.answers
            wait_for(lambda: first() is not None)
            workers = it.workers()
            os.kill(min(workers), signal.SIGKILL)
            wait_for(lambda: it.workers() != workers)
            assert it.stop()[0] == 128 + signal.SIGTERM
            assert not Path(path).exists()

    def test_children_of_a_worker_are_no_workers(self, write: Write) -> None:
        program = RUN.replace('MARK = "one"', "MARK = str(os.environ.get('WEFT_WORKER'))")
        port = free_port()
        with served(*RUN_TWO, write(program), str(port), where=port) as it:
            it.wait_until_served()
            assert it.ask()[1] == "None"

    def test_a_port_that_is_taken_is_the_workers_error(self, write: Write) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with served(*RUN_TWO, write(RUN), str(taken.getsockname()[1])) as it:
                _, errors = it.process.communicate(timeout=PATIENCE)
                assert it.process.returncode == 1
                assert "address already in use" in errors
                assert "given up" in errors


class TestEnds:
    def test_a_worker_that_is_killed_is_replaced_and_nobody_is_refused(self, write: Write) -> None:
        port = free_port()
        with served(*RUN_TWO, write(RUN), str(port), where=port) as it:
            workers = it.workers()
            victim = min(workers)
            with Load(it) as load:
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda: {pid for pid, _ in load.answers[-50:]} - workers)
            # What the victim had in its hands dies with it; nothing else does.
            assert len(load.failures) <= 1
            assert not any(isinstance(error, ConnectionRefusedError) for error in load.failures)

    def test_workers_end_with_a_supervisor_that_is_killed(self, write: Write) -> None:
        port = free_port()
        with served(*RUN_TWO, write(RUN), str(port), where=port) as it:
            workers = it.workers()
            it.process.kill()
            wait_for(lambda: not any(map(is_alive, workers)))

    def test_workers_that_end_by_themselves(self, write: Write) -> None:
        with served(*RUN_TWO, write("print('done')")) as it:
            output, errors = it.process.communicate(timeout=PATIENCE)
            assert (it.process.returncode, output.count("done")) == (0, 2)
            assert "Traceback" not in errors

    def test_a_program_that_cannot_start_is_given_up(self, write: Write) -> None:
        with served(*RUN_TWO, write("import sys; sys.exit(7)")) as it:
            _, errors = it.process.communicate(timeout=PATIENCE)
            assert it.process.returncode == 7
            assert "no worker has ever served" in errors

    def test_a_worker_that_resists_is_killed(self, write: Write) -> None:
        stubborn = STUBBORN.replace("TIMEOUT", "-1.9")
        port = free_port()
        with served(write(stubborn), str(port), where=port) as it:
            workers = it.workers()
            _, errors = it.stop()
            assert "was killed" in errors
            assert not any(map(is_alive, workers))

    def test_a_second_signal_ends_at_once(self, write: Write) -> None:
        stubborn = STUBBORN.replace("TIMEOUT", "3600")
        port = free_port()
        with served(write(stubborn), str(port), where=port) as it:
            workers = it.workers()
            it.process.send_signal(signal.SIGTERM)
            wait_for(lambda: not has_handler_pending(it.process.pid))
            it.stop()
            assert not any(map(is_alive, workers))


def has_handler_pending(pid: int) -> bool:
    """Whether SIGTERM was sent to a process and has not reached it."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return bool(pending & 1 << (signal.SIGTERM - 1))


class TestReload:
    def test_new_code_without_a_lost_connection(self, write: Write) -> None:
        port = free_port()
        with served(*RUN_TWO, write(DRAINS), str(port), where=port) as it:
            old = it.workers()
            write(DRAINS.replace('"one"', '"two"'))
            with Load(it) as load:
                it.process.send_signal(signal.SIGHUP)
                wait_for(lambda: not any(map(is_alive, old)) and load.answers[-1:] and load.answers[-1][1] == "two")
            assert load.failures == []
            assert {mark for _, mark in load.answers} == {"one", "two"}
            assert not it.workers() & old

    def test_a_broken_program_does_not_replace_one_that_works(self, write: Write) -> None:
        port = free_port()
        with served(*RUN_TWO, write(RUN), str(port), where=port) as it:
            old = it.workers()
            write("raise RuntimeError('broken')")
            it.process.send_signal(signal.SIGHUP)
            with Load(it) as load:
                assert it.process.stderr is not None
                for line in it.process.stderr:
                    if "the reload is given up" in line:
                        break
            assert load.failures == []
            assert it.workers() == old


class TestFrameworks:
    def test_uvicorn(self, write: Write) -> None:
        pytest.importorskip("uvicorn")
        program = """
            import os, sys, uvicorn
            async def app(scope, receive, send):
                if scope["type"] != "http":
                    return
                await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
                await send({"type": "http.response.body", "body": f"{os.getpid()} x".encode()})
            uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", log_level="warning", loop="none")
        """
        self.check(write, program)

    def test_aiohttp(self, write: Write) -> None:
        pytest.importorskip("aiohttp")
        program = """
            import os, sys
            from aiohttp import web
            async def answer(request):
                return web.Response(text=f"{os.getpid()} x", headers={"Connection": "close"})
            app = web.Application()
            app.router.add_get("/", answer)
            web.run_app(app, port=int(sys.argv[1]), host="127.0.0.1", print=None)
        """
        self.check(write, program)

    @staticmethod
    def check(write: Write, program: str) -> None:
        from textwrap import dedent
        from urllib.request import urlopen

        port = free_port()

        def ask() -> int | None:
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
                    return int(response.read().split()[0])
            except OSError:
                return None

        with served(*RUN_TWO, write(dedent(program)), str(port)) as it:
            seen: set[int | None] = {None}
            while len(seen) < 3:
                seen.add(ask())
            it.process.send_signal(signal.SIGHUP)
            wait_for(lambda: ask() not in seen)
            status, errors = it.stop()
            assert status == 128 + signal.SIGTERM
            assert "Traceback" not in errors


class TestMisuse:
    @pytest.mark.parametrize("workers", [0, -1, "many", 2.5, None, True])
    def test_no_number_of_workers(self, workers: int) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            count(workers)

    def test_cores(self) -> None:
        assert count("cores") == len(os.sched_getaffinity(0))

    def test_a_coroutine_instead_of_a_function(self) -> None:
        async def main() -> None: ...

        coroutine = main()
        with pytest.raises(TypeError, match=r"give it main, not main\(\)"):
            weft.serve(coroutine)  # type: ignore[arg-type]
        coroutine.close()

    def test_a_program_that_cannot_be_started_again(self) -> None:
        done = subprocess.run(
            [sys.executable, "-"],
            input="import weft\nasync def main(): ...\nweft.serve(main)",
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert "put it into a file" in done.stderr

    @pytest.mark.parametrize("words", [["0", "x.py"], ["many", "x.py"], ["2"], []])
    def test_command_line(self, words: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "weft", "run", "--workers", *words],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "--workers " in done.stderr or "which program?" in done.stderr

    def test_no_worker(self) -> None:
        assert weft.serving.place() is None
