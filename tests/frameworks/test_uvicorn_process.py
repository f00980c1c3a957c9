"""uvicorn as it is run: by ``Server.run()`` in a thread, and as a process that a signal ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

for name in ("uvicorn", "starlette", "httpx", "websockets"):
    pytest.importorskip(name, reason=f"weft[frameworks] is not installed: no {name}")

import httpx
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.frameworks.kit import BODY, LIMIT, digest, started
from tests.frameworks.starlette_app import make_app

ROOT = Path(__file__).parents[2]
LOOPS = pytest.mark.parametrize("loop_name", ["asyncio:SelectorEventLoop", "weft:new_event_loop"])
SIGNALS = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)


class Program:
    """``uvicorn --loop ...`` in a process of its own: what it says, and where it listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = int(self.hear(r"running on http://127.0.0.1:(\d+)")[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def hear(self, pattern: str) -> re.Match[str]:
        """Read on until a line has this in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"never said {pattern!r}:\n" + "\n".join(self.lines))

    def end(self) -> int:
        """The exit status, after everything has been read."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip() for line in self.process.stdout]
        return self.process.wait(LIMIT)


@contextmanager
def running(loop_name: str, *options: str) -> Iterator[Program]:
    command = [sys.executable, "-W", "error", "-m", "uvicorn", "tests.frameworks.starlette_app:app", "--lifespan", "on"]
    command += ["--loop", loop_name, "--host", "127.0.0.1", "--port", "0", "--no-access-log", *options]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with started(command, cwd=ROOT, env=environ, **pipes) as process:
        yield Program(process)


def until_refused(port: int) -> None:
    """Connect until nobody listens any more."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue


@LOOPS
class TestProcess:
    @SIGNALS
    def test_from_start_to_signal(self, loop_name: str, signum: signal.Signals) -> None:
        with running(loop_name) as program:
            assert f"startup on {loop_name.partition(':')[0]}" in program.lines
            with httpx.Client(base_url=program.url, trust_env=False) as client:
                assert client.get("/about").json()["version"] == "1.1"
                assert client.post("/echo", content=BODY).content == BODY
                program.process.send_signal(signum)
                status = program.end()
            assert "shutdown" in program.lines
            assert not [line for line in program.lines if "Error" in line or "Traceback" in line]
            # uvicorn sends itself the signal again when all is done, and takes SIGINT for the end that was wanted.
            assert status == (0 if signum == signal.SIGINT else -signal.SIGTERM)

    def test_a_request_in_flight_is_answered(self, loop_name: str) -> None:
        with running(loop_name) as program:

            def body() -> Iterator[bytes]:
                yield BODY[:1000]
                program.hear("upload begun")
                program.process.terminate()
                until_refused(program.port)
                yield BODY[1000:]

            response = httpx.post(f"{program.url}/upload", content=body(), trust_env=False, timeout=LIMIT)
            assert response.text == digest(BODY)
            assert program.end() == -signal.SIGTERM
            assert "shutdown" in program.lines

    def test_websockets_are_closed(self, loop_name: str) -> None:
        with running(loop_name) as program, connect(f"ws://127.0.0.1:{program.port}/talk", proxy=None) as ws:
            ws.send("hello")
            assert ws.recv() == "hello"
            program.process.terminate()
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(LIMIT)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012
            assert program.end() == -signal.SIGTERM
            assert "gone with 1012" in program.lines

    def test_two_workers(self, loop_name: str) -> None:
        with running(loop_name, "--workers", "2") as program:
            for _ in range(2):
                program.hear(f"startup on {loop_name.partition(':')[0]}")
            assert httpx.get(f"{program.url}/about", trust_env=False).status_code == 200
            program.process.terminate()
            assert program.end() == 0
            assert program.lines.count("shutdown") == 2


@LOOPS
class TestServerRun:
    def test_in_a_thread(self, loop_name: str) -> None:
        app = make_app()
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, loop=loop_name, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            # The socket listens already, so this waits until the server accepts.
            with httpx.Client(base_url=url, trust_env=False, timeout=LIMIT) as client:
                assert client.post("/echo", content=BODY).content == BODY
        finally:
            server.should_exit = True
            thread.join(LIMIT)
        assert not thread.is_alive()
        assert app.state.events == [f"startup on {loop_name.partition(':')[0]}", "shutdown"]
