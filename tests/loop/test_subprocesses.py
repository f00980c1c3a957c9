"""Child processes: their pipes, their end, and what becomes of those that nobody waits for."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

import weft
from weft.loop import process

NewLoop = Callable[[], asyncio.AbstractEventLoop]
T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

CAT = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"]
BLOCKED = ["sleep", "3600"]


@pytest.fixture(params=["asyncio", "weft", "weft without pidfds"])
def new_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NewLoop:
    """Makes a new event loop: stock asyncio, weft, and weft on a kernel that has no pidfds."""
    if request.param == "asyncio":
        return asyncio.SelectorEventLoop
    if request.param == "weft without pidfds":

        def refuse(pid: int, flags: int = 0) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return weft.new_event_loop


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ended_unnoticed(command: str) -> tuple[Any, Recorder]:
    """A child that has run ``command`` and ended, which its loop has had no chance to notice.

    Up to 1 MiB of output stays in the pipe.
    """
    loop = asyncio.get_running_loop()
    transport, recorder = await loop.subprocess_shell(Recorder, f"read line; {command}")
    stdin, stdout = (getattr(transport.get_extra_info("subprocess"), name).fileno() for name in ("stdin", "stdout"))
    fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(stdin, b"\n")
    os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
    return transport, recorder


class Recorder(asyncio.SubprocessProtocol):
    """Notes what it hears; ``over`` is done after ``connection_lost``."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data = {1: b"", 2: b""}
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if ("data", fd) not in self.events:
            self.events.append(("data", fd))
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.events.append(("lost", fd, exc))

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("over", exc))
        self.over.set_result(None)


class TestStreams:
    """``asyncio.create_subprocess_exec`` and ``_shell``."""

    def test_communicate(self, run: Run[Any]) -> None:
        data = b"some data " * 100_000

        async def main() -> None:
            child = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
            assert (await child.communicate(data))[0] == data
            assert child.returncode == 0
            assert await child.wait() == 0

        run(main())

    def test_output_and_errors_apart_and_together(self, run: Run[Any]) -> None:
        async def main() -> None:
            command = "echo out; echo err >&2; exit 7"
            child = await asyncio.create_subprocess_shell(command, stdout=PIPE, stderr=PIPE)
            assert await child.communicate() == (b"out\n", b"err\n")
            assert child.returncode == 7
            child = await asyncio.create_subprocess_shell(command, stdout=PIPE, stderr=STDOUT)
            assert (await child.communicate())[0] == b"out\nerr\n"

        run(main())

    def test_no_pipes(self, run: Run[Any]) -> None:
        async def main() -> None:
            child = await asyncio.create_subprocess_exec("true", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
            assert (child.stdin, child.stdout, child.stderr) == (None, None, None)
            assert await child.wait() == 0

        run(main())

    def test_many_at_once(self, run: Run[Any]) -> None:
        async def one(n: int) -> bytes:
            child = await asyncio.create_subprocess_shell(f"read line; echo $line {n}", stdin=PIPE, stdout=PIPE)
            return (await child.communicate(b"hello\n"))[0]

        async def main() -> None:
            assert await asyncio.gather(*[one(n) for n in range(20)]) == [b"hello %d\n" % n for n in range(20)]

        run(main())

    def test_a_child_that_does_not_read_its_input(self, run: Run[Any]) -> None:
        async def main() -> None:
            child = await asyncio.create_subprocess_exec("true", stdin=PIPE)
            await child.communicate(b"x" * 1_000_000)
            assert child.returncode == 0

        run(main())

    def test_signals(self, run: Run[Any]) -> None:
        async def main() -> None:
            for signum in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
                child = await asyncio.create_subprocess_exec(*BLOCKED)
                assert child.returncode is None
                if signum == signal.SIGTERM:
                    child.terminate()
                elif signum == signal.SIGKILL:
                    child.kill()
                else:
                    child.send_signal(signum)
                assert await child.wait() == -signum

        run(main())

    def test_a_cancelled_wait_can_be_repeated(self, run: Run[Any]) -> None:
        async def main() -> None:
            child = await asyncio.create_subprocess_exec(*BLOCKED)
            waiters = [asyncio.create_task(child.wait()) for _ in range(3)]
            await asyncio.sleep(0)
            waiters[0].cancel()
            child.kill()
            assert await asyncio.gather(*waiters[1:], child.wait()) == [-9, -9, -9]

        run(main())

    def test_start_that_fails(self, run: Run[Any]) -> None:
        async def main() -> None:
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec("/nonexistent/program", stdin=PIPE, stdout=PIPE)

        run(main())

    def test_arguments_of_popen(self, run: Run[Any]) -> None:
        async def main() -> None:
            code = "import os; print(os.getcwd(), os.environ['NAME'], os.getsid(0) == os.getpid())"
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code), stdout=PIPE, cwd="/", env={"NAME": "value"}, start_new_session=True
            )
            assert (await child.communicate())[0] == b"/ value True\n"

        run(main())

    def test_in_another_thread(self, new_loop: NewLoop) -> None:
        results: list[Any] = []

        async def main() -> bytes:
            child = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
            return (await child.communicate(b"thread"))[0]

        def work() -> None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                results.append(runner.run(main()))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert results == [b"thread"]

    def test_dev_stdin(self, run: Run[Any]) -> None:
        async def main() -> None:
            if sys.version_info < (3, 12) and not isinstance(asyncio.get_running_loop(), weft.EventLoop):
                pytest.skip("asyncio of 3.11 uses a socket pair, which cannot be opened again")
            child = await asyncio.create_subprocess_exec("cat", "/dev/stdin", stdin=PIPE, stdout=PIPE)
            assert (await child.communicate(b"input"))[0] == b"input"

        run(main())


class TestProtocol:
    """What a ``SubprocessProtocol`` hears, and when."""

    def test_order(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, recorder = await loop.subprocess_shell(Recorder, "echo out; echo err >&2")
            assert recorder.events[0] == "made"
            await recorder.over
            transport.close()
            assert recorder.data == {1: b"out\n", 2: b"err\n"}
            assert recorder.events[-1] == ("over", None)
            assert set(recorder.events[1:-1]) == {
                *(("data", 1), ("data", 2), ("lost", 0, None), ("lost", 1, None), ("lost", 2, None), "exited"),
            }
            for fd in (1, 2):
                assert recorder.events.index(("data", fd)) < recorder.events.index(("lost", fd, None))

        run(main())

    def test_order_without_pipes(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, recorder = await loop.subprocess_exec(Recorder, "true", stdin=None, stdout=None, stderr=None)
            await recorder.over
            assert recorder.events == ["made", "exited", ("over", None)]
            transport.close()

        run(main())

    def test_transport(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, recorder = await loop.subprocess_exec(Recorder, *BLOCKED, stdin=PIPE, stdout=PIPE, stderr=None)
            assert isinstance(transport, asyncio.SubprocessTransport)
            popen = transport.get_extra_info("subprocess")
            assert transport.get_pid() == popen.pid
            assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
            assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
            assert transport.get_pipe_transport(2) is None
            assert transport.get_returncode() is None
            assert transport.get_protocol() is recorder
            assert not transport.is_closing()
            assert "running" in repr(transport)
            assert f"pid={popen.pid}" in repr(transport)
            transport.kill()
            await recorder.over
            assert transport.get_returncode() == popen.returncode == -9
            assert "returncode=-9" in repr(transport)
            transport.close()
            assert transport.is_closing()
            assert "closed" in repr(transport)

        run(main())

    def test_set_protocol(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, recorder = await loop.subprocess_shell(Recorder, "read line; echo $line", stderr=None)
            other = Recorder()
            transport.set_protocol(other)
            stdin: Any = transport.get_pipe_transport(0)
            stdin.write(b"hello\n")
            await other.over
            transport.close()
            assert recorder.events == ["made"]
            assert other.data[1] == b"hello\n"
            recorder.over.cancel()

        run(main())

    def test_flow_control_of_stdin(self, run: Run[Any]) -> None:
        class Slow(Recorder):
            def pause_writing(self) -> None:
                self.events.append("pause")

            def resume_writing(self) -> None:
                self.events.append("resume")

        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, slow = await loop.subprocess_exec(Slow, *CAT, stderr=None)
            stdin: Any = transport.get_pipe_transport(0)
            stdin.write(b"x" * 1_000_000)
            stdin.write_eof()
            await slow.over
            transport.close()
            assert slow.events[:2] == ["made", "pause"]
            assert "resume" in slow.events
            assert len(slow.data[1]) == 1_000_000

        run(main())

    def test_an_exception_in_connection_made(self, run: Run[Any]) -> None:
        class Broken(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                raise LookupError("broken")

        async def main() -> None:
            loop = asyncio.get_running_loop()
            contexts: list[dict[str, Any]] = []
            loop.set_exception_handler(lambda _, context: contexts.append(context))
            transport, broken = await loop.subprocess_exec(Broken, "true")
            await broken.over
            transport.close()
            assert isinstance(contexts[0]["exception"], LookupError)

        run(main())


class TestAfterTheEnd:
    def test_signals_are_errors(self, run: Run[Any]) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, recorder = await loop.subprocess_exec(Recorder, "true")
            await recorder.over
            for send in (transport.terminate, transport.kill, lambda: transport.send_signal(0)):
                with pytest.raises(ProcessLookupError):
                    send()
            transport.close()

        run(main())

    @pytest.mark.weft_only  # asyncio's watcher may have collected the child in its thread
    def test_a_signal_to_a_child_that_has_just_ended_does_nothing(self, run: Run[Any]) -> None:
        async def main() -> None:
            transport, recorder = await ended_unnoticed("true")
            transport.kill()
            await recorder.over
            assert transport.get_returncode() == 0
            transport.close()

        run(main())

    @pytest.mark.weft_only  # asyncio's watcher may have collected the child in its thread
    def test_close_does_not_kill(self, run: Run[Any]) -> None:
        async def main() -> None:
            transport, recorder = await ended_unnoticed("true")
            transport.close()
            await recorder.over
            assert transport.get_returncode() == 0

        run(main())

    @pytest.mark.weft_only  # asyncio reports 255
    def test_somebody_has_called_popen_wait(self, run: Run[Any], caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            transport, recorder = await ended_unnoticed("exit 3")
            assert transport.get_extra_info("subprocess").wait() == 3
            transport.kill()
            await recorder.over
            assert transport.get_returncode() == 3
            transport.close()

        run(main())
        assert not caplog.records

    @pytest.mark.weft_only  # in asyncio one of the two may be told 0 or 255
    def test_a_thread_waits_as_well(self, run: Run[Any], caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            for _ in range(20):
                transport, recorder = await loop.subprocess_shell(Recorder, "read line; exit 3")
                popen = transport.get_extra_info("subprocess")
                waiting = loop.run_in_executor(None, popen.wait)
                stdin: Any = transport.get_pipe_transport(0)
                stdin.write(b"\n")
                assert await waiting == 3
                await recorder.over
                assert transport.get_returncode() == 3
                transport.close()

        run(main())
        assert not caplog.records

    @pytest.mark.weft_only  # in asyncio with its thread it is a race
    def test_somebody_else_has_waited_for_the_child(self, run: Run[Any], caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            transport, recorder = await ended_unnoticed("exit 3")
            os.waitpid(transport.get_pid(), 0)
            await recorder.over
            assert transport.get_returncode() == 255
            transport.close()

        run(main())
        assert "exit status already read" in caplog.text

    @pytest.mark.weft_only  # so does asyncio from 3.15 on
    def test_wait_does_not_wait_for_a_grandchild_that_holds_a_pipe(self, run: Run[Any]) -> None:
        async def main() -> None:
            child = await asyncio.create_subprocess_shell("sleep 3600 & echo $!", stdout=PIPE)
            assert child.stdout is not None
            grandchild = int(await child.stdout.readline())
            try:
                assert await child.wait() == 0
            finally:
                os.kill(grandchild, signal.SIGKILL)
            assert await child.stdout.read() == b""

        run(main())

    @pytest.mark.weft_only  # asyncio waits for ever: for the end of a pipe that it does not read
    def test_wait_does_not_wait_for_output_that_nobody_reads(self, run: Run[Any]) -> None:
        async def main() -> None:
            child = await asyncio.create_subprocess_exec("head", "-c", "60000", "/dev/zero", stdout=PIPE, limit=1000)
            assert await child.wait() == 0
            assert child.stdout is not None
            assert len(await child.stdout.read()) == 60_000

        run(main())

    @pytest.mark.weft_only
    def test_wait_does_not_wait_for_output_that_nobody_reads_any_more(self, run: Run[Any]) -> None:
        class Sated(Recorder):
            def pipe_data_received(self, fd: int, data: bytes) -> None:
                super().pipe_data_received(fd, data)
                if self.is_hungry and len(self.data[1]) > 300_000:
                    self.is_hungry = False
                    self.stdout.pause_reading()

            stdout: Any
            is_hungry = True

        async def main() -> None:
            transport, _ = await ended_unnoticed("head -c 900000 /dev/zero")
            sated = Sated()
            sated.stdout = transport.get_pipe_transport(1)
            transport.set_protocol(sated)
            assert await transport._wait() == 0
            assert 300_000 < len(sated.data[1]) < 900_000
            sated.stdout.resume_reading()
            await sated.over
            assert len(sated.data[1]) == 900_000
            transport.close()

        run(main())

    @pytest.mark.weft_only  # asyncio's watcher may have collected the child in its thread
    def test_output_has_come_in_when_wait_ends(self, run: Run[Any]) -> None:
        async def main() -> None:
            transport, recorder = await ended_unnoticed("head -c 900000 /dev/zero")
            assert await transport._wait() == 0
            assert len(recorder.data[1]) == 900_000
            assert recorder.events[-1] == ("over", None)
            transport.close()

        run(main())


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
