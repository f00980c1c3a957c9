"""Child processes: wrong use, debug mode, and what becomes of those that nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import threading
import warnings
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from tests.loop.children import BLOCKED, NewLoop, Recorder, Run, is_alive
from tests.loop.children import new_loop as new_loop
from weft.loop import process


class TestWrongUse:
    @pytest.mark.parametrize(
        "arguments",
        [{"universal_newlines": True}, {"bufsize": 1}, {"text": True}, {"encoding": "utf-8"}, {"errors": "strict"}],
    )
    def test_text(self, run: Run[Any], arguments: dict[str, Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            (name,) = arguments
            with pytest.raises(ValueError, match=f"^{name} must be "):
                await loop.subprocess_exec(Recorder, "true", **arguments)
            with pytest.raises(ValueError, match=f"^{name} must be "):
                await loop.subprocess_shell(Recorder, "true", **arguments)

        run(main())

    def test_shell(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            with pytest.raises(ValueError, match="shell must be False"):
                await loop.subprocess_exec(Recorder, "true", shell=True)
            with pytest.raises(ValueError, match="shell must be True"):
                await loop.subprocess_shell(Recorder, "true", shell=False)
            with pytest.raises(ValueError, match="cmd must be a string"):
                await loop.subprocess_shell(Recorder, ["true"])
            with pytest.raises(TypeError):
                await loop.subprocess_exec(Recorder, 5)

        run(main())

    @pytest.mark.weft_only
    def test_closed_loop(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.subprocess_exec(asyncio.SubprocessProtocol, "true").send(None)


class TestGivenUp:
    """Nothing stays behind of a child whose start was cancelled or whose owner has gone: the fixtures look."""

    @pytest.mark.parametrize("turns", range(12))
    @pytest.mark.parametrize("pipes", [PIPE, None])
    def test_cancelled_start(self, run: Run[Any], turns: int, pipes: int | None) -> None:
        async def main() -> None:
            create = asyncio.create_subprocess_exec(*BLOCKED, stdin=pipes, stdout=pipes, stderr=pipes)
            task = asyncio.create_task(create)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                child = await task
            except asyncio.CancelledError:
                return
            child.kill()
            await child.wait()

        run(main())

    @pytest.mark.weft_only  # asyncio leaves descriptors to the garbage collector
    def test_a_pipe_that_cannot_be_connected(self, run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        recorders: list[Recorder] = []

        def make() -> Recorder:
            recorders.append(Recorder())
            return recorders[0]

        async def refuse(protocol_factory: Any, pipe: Any) -> Any:
            raise LookupError("refused")

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            loop.connect_read_pipe = refuse
            with pytest.raises(LookupError, match="refused"):
                await loop.subprocess_exec(make, *BLOCKED)
            await asyncio.sleep(0.01)
            assert recorders[0].events == []

        run(main())

    @pytest.mark.weft_only
    def test_a_child_that_cannot_be_watched(self, run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object) -> Any:
            raise RuntimeError("can't start new thread")

        async def main() -> None:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await asyncio.create_subprocess_exec(*BLOCKED, stdin=PIPE, stdout=PIPE)

        monkeypatch.setattr(process, "watch_child", refuse)
        run(main())

    def test_close_kills(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, recorder = await loop.subprocess_exec(Recorder, *BLOCKED)
            transport.close()
            transport.close()
            await recorder.over
            assert transport.get_returncode() == -9
            assert "exited" in recorder.events

        run(main())

    @pytest.mark.weft_only  # asyncio leaves a zombie
    def test_the_loop_is_closed_and_then_the_transport(self, new_loop: NewLoop) -> None:
        async def main() -> asyncio.SubprocessTransport:
            loop = asyncio.get_running_loop()
            return (await loop.subprocess_exec(asyncio.SubprocessProtocol, *BLOCKED))[0]

        loop = new_loop()
        transport = loop.run_until_complete(main())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the pipes, which the loop has let go
            loop.close()
            assert is_alive(transport.get_pid())
            transport.close()
            assert not is_alive(transport.get_pid())
            assert transport.get_returncode() == -9
            del transport
            gc.collect()

    @pytest.mark.weft_only
    @pytest.mark.parametrize("pipes", [PIPE, None])
    def test_the_loop_is_closed_and_the_transport_forgotten(self, new_loop: NewLoop, pipes: int | None) -> None:
        async def main() -> int:
            command: Any = {"stdin": pipes, "stdout": pipes, "stderr": pipes}
            loop = asyncio.get_running_loop()
            return (await loop.subprocess_exec(asyncio.SubprocessProtocol, *BLOCKED, **command))[0].get_pid()

        loop = new_loop()
        pid = loop.run_until_complete(main())
        gc.collect()
        assert is_alive(pid), "the loop holds the transport of a child that runs"
        gc.disable()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loop.close()
                assert not is_alive(pid), "it is killed at once, not when garbage is collected"
        finally:
            gc.enable()
        assert f"unclosed transport <SubprocessTransport pid={pid} running" in str(caught[0].message)
        caught.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    @pytest.mark.weft_only
    def test_a_thread_that_outlives_the_loop_collects_the_child(
        self, new_loop: NewLoop, request: pytest.FixtureRequest
    ) -> None:
        if "without" not in request.node.name:
            pytest.skip("only without pidfds there is a thread")

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            pipes: Any = {"stdin": None, "stdout": None, "stderr": None}
            return (await loop.subprocess_exec(asyncio.SubprocessProtocol, *BLOCKED, **pipes))[0]

        before = set(threading.enumerate())
        loop = new_loop()
        transport = loop.run_until_complete(main())
        (thread,) = set(threading.enumerate()) - before
        loop.close()
        os.kill(transport.get_pid(), signal.SIGKILL)
        thread.join(60)
        assert not is_alive(transport.get_pid())
        transport.close()

    @pytest.mark.weft_only
    def test_a_child_that_outlives_the_loop_is_still_collected(
        self, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        loop = new_loop()

        async def main() -> Any:
            return (await loop.subprocess_shell(asyncio.SubprocessProtocol, "exit 4", stdin=None, stdout=None))[0]

        transport = loop.run_until_complete(main())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            loop.close()
            transport.get_extra_info("subprocess").wait()
            transport.close()
            del transport
            gc.collect()
        assert not caplog.records


@pytest.mark.weft_only
class TestNothingElseIsTouched:
    def test_the_handler_of_sigchld(self, run: Run[Any]) -> None:
        calls: list[int] = []
        before = signal.signal(signal.SIGCHLD, lambda signum, _: calls.append(signum))
        mine = signal.getsignal(signal.SIGCHLD)

        async def main() -> None:
            child = await asyncio.create_subprocess_exec("true")
            assert await child.wait() == 0
            assert signal.getsignal(signal.SIGCHLD) is mine

        try:
            run(main())
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert calls == [signal.SIGCHLD]

    def test_no_thread_where_there_are_pidfds(self, run: Run[Any], request: pytest.FixtureRequest) -> None:
        async def main() -> int:
            child = await asyncio.create_subprocess_exec(*BLOCKED)
            threads = threading.active_count() - before
            child.kill()
            await child.wait()
            return threads

        before = threading.active_count()
        with_pidfds = "without" not in request.node.name
        assert run(main()) == (0 if with_pidfds else 1)

    def test_children_of_others(self, run: Run[Any]) -> None:
        async def main() -> None:
            with subprocess.Popen(["sh", "-c", "exit 5"]) as other:
                child = await asyncio.create_subprocess_exec("true")
                assert await child.wait() == 0
            assert other.returncode == 5

        run(main())


class TestDebugMode:
    def test_logs(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
        loop.set_debug(True)

        async def main() -> None:
            with caplog.at_level(logging.DEBUG, "asyncio"):
                transport, recorder = await loop.subprocess_exec(Recorder, *BLOCKED, stderr=None)
                transport.close()
                await recorder.over

        loop.run_until_complete(main())
        lines = [record.getMessage() for record in caplog.records]
        for start in (
            "execute program 'sleep' stdin=<pipe> stdout=<pipe>",
            "process 'sleep' created: pid ",
            "execute program 'sleep': <",
            "Close running child process: kill <",
        ):
            assert any(line.startswith(start) for line in lines), start
        assert any("exited with return code -9" in line for line in lines)
