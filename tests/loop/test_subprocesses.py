"""Child processes: their pipes and their end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

import weft
from tests.loop.children import BLOCKED, CAT, NewLoop, Recorder, Run, ended_unnoticed
from tests.loop.children import new_loop as new_loop


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
