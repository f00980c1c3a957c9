"""``weft.run``, ``Runner``, ``new_event_loop`` and ``install``: the ways into weft."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import weft
from tests.core.kit import run_script
from weft.versions import POLICIES_DEPRECATED, POLICIES_GONE

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

# Each runs a coroutine to its end: asyncio's way is the oracle of ours.
RUNS: dict[str, Callable[..., Any]] = {"asyncio": asyncio.run, "weft": weft.run}


@pytest.fixture(params=list(RUNS))
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``asyncio.run`` in one run of the test and ``weft.run`` in the other."""
    return RUNS[request.param]


class Halt(Exception):
    pass


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class TestRun:
    def test_returns_and_raises(self, run: Callable[..., Any]) -> None:
        async def answer() -> int:
            await asyncio.sleep(0)
            return 42

        async def fail() -> None:
            raise Halt

        assert run(answer()) == 42
        with pytest.raises(Halt):
            run(fail())

    def test_is_weft(self) -> None:
        async def main() -> type[Any]:
            return type(asyncio.get_running_loop())

        assert weft.run(main()) is weft.EventLoop

    def test_closes_the_loop(self, run: Callable[..., Any]) -> None:
        async def main() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        assert run(main()).is_closed()

    def test_cancels_what_is_left(self, run: Callable[..., Any]) -> None:
        cancelled: list[str] = []
        tasks: list[asyncio.Task[None]] = []

        async def work(name: str) -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                cancelled.append(name)
                raise

        async def main() -> None:
            tasks.extend(asyncio.create_task(work(name)) for name in "ab")
            await asyncio.sleep(0)

        run(main())
        assert sorted(cancelled) == ["a", "b"]
        assert all(task.cancelled() for task in tasks)

    def test_reports_errors_of_what_is_left(self, run: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
        async def work() -> None:
            try:
                await forever()
            finally:
                raise Halt

        async def main() -> None:
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            del task

        run(main())
        assert "unhandled exception during asyncio.run() shutdown" in caplog.text
        caplog.clear()

    def test_shuts_down_generators_and_threads(self, run: Callable[..., Any]) -> None:
        closed: list[int] = []
        kept: list[Any] = []

        async def numbers() -> Any:
            try:
                yield 1
            finally:
                closed.append(1)

        async def main() -> None:
            generator = numbers()
            kept.append(generator)
            await anext(generator)
            await asyncio.to_thread(int)

        run(main())
        assert closed == [1]
        assert threading.active_count() == 1

    def test_takes_coroutines_only(self, run: Callable[..., Any]) -> None:
        for thing in (None, 42, forever, lambda: None):
            with pytest.raises((ValueError, TypeError), match="coroutine"):
                run(thing)

    def test_not_inside_a_loop(self, run: Callable[..., Any]) -> None:
        async def inner() -> None: ...

        async def main() -> None:
            coroutine = inner()
            try:
                with pytest.raises(RuntimeError, match=r"run\(\) cannot be called from a running event loop"):
                    run(coroutine)
            finally:
                coroutine.close()

        run(main())

    def test_debug(self, run: Callable[..., Any]) -> None:
        async def main() -> bool:
            return asyncio.get_running_loop().get_debug()

        assert run(main(), debug=True) is True
        assert run(main(), debug=False) is False

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_lets_the_two_through(self, run: Callable[..., Any], kind: type[BaseException]) -> None:
        finished: list[int] = []

        async def work() -> None:
            try:
                await forever()
            finally:
                finished.append(1)

        async def main() -> None:
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            assert not task.done()
            raise kind

        with pytest.raises(kind):
            run(main())
        assert finished == [1]

    def test_runs_one_after_another(self, run: Callable[..., Any]) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            run(asyncio.sleep(0))
        assert len(os.listdir("/proc/self/fd")) == before


class TestInterrupt:
    """Ctrl-C cancels the main task, so that ``finally`` and ``async with`` are done with first."""

    def test_in_a_wait(self, run: Callable[..., Any]) -> None:
        log: list[str] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                log.append("cancelled")
                raise

        with pytest.raises(KeyboardInterrupt):
            run(main())
        assert log == ["cancelled"]

    def test_while_the_loop_is_in_the_kernel(self, run: Callable[..., Any]) -> None:
        log: list[str] = []
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        ready = threading.Event()

        def strike() -> None:
            assert ready.wait(30)
            signal.pthread_kill(main_thread, signal.SIGINT)

        async def main() -> None:
            ready.set()
            try:
                await forever()
            finally:
                log.append("cancelled")

        thread = threading.Thread(target=strike)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            run(main())
        thread.join()
        assert log == ["cancelled"]

    def test_in_a_busy_coroutine(self, run: Callable[..., Any]) -> None:
        """The coroutine that spins sees it at its next await."""
        log: list[str] = []

        async def main() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
            log.append("ran on")
            await asyncio.sleep(0)
            log.append("not reached")

        with pytest.raises(KeyboardInterrupt):
            run(main())
        assert log == ["ran on"]

    def test_swallowed_by_the_program(self, run: Callable[..., Any]) -> None:
        async def main() -> str:
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            try:
                await forever()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            return "went on"

        assert run(main()) == "went on"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestRunner:
    def test_runs_several_in_one_loop(self) -> None:
        async def loop_of() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        with weft.Runner() as runner:
            assert isinstance(runner, asyncio.Runner)
            first = runner.run(loop_of())
            assert runner.run(loop_of()) is first
            assert runner.get_loop() is first
            assert isinstance(first, weft.EventLoop)
        assert first.is_closed()

    def test_keeps_its_context(self) -> None:
        async def set_it() -> None:
            variable.set("set")

        async def get_it() -> str:
            return variable.get()

        with weft.Runner() as runner:
            runner.run(set_it())
            assert runner.run(get_it()) == "set"
        assert variable.get() == "unset"

    def test_of_asyncio_takes_our_factory(self) -> None:
        async def main() -> bool:
            return isinstance(asyncio.get_running_loop(), weft.EventLoop)

        with asyncio.Runner(loop_factory=weft.new_event_loop) as runner:
            assert runner.run(main())

    def test_takes_another_factory(self) -> None:
        with weft.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            assert isinstance(runner.get_loop(), asyncio.SelectorEventLoop)

    def test_debug(self) -> None:
        with weft.Runner(debug=True) as runner:
            assert runner.get_loop().get_debug()


class TestInstall:
    @pytest.mark.skipif(POLICIES_GONE, reason="this Python has no policies")
    def test_makes_weft_the_loop_of_asyncio(self) -> None:
        output = run_script(
            """
            import asyncio, warnings, weft
            warnings.simplefilter("ignore", DeprecationWarning)
            weft.install()
            async def main():
                return isinstance(asyncio.get_running_loop(), weft.EventLoop)
            print(asyncio.run(main()))
            loop = asyncio.new_event_loop()
            print(type(loop) is weft.EventLoop)
            asyncio.set_event_loop(loop)
            print(asyncio.get_event_loop() is loop)
            loop.close()
            """
        )
        assert output.split() == ["True"] * 3

    @pytest.mark.skipif(POLICIES_GONE or not POLICIES_DEPRECATED, reason="policies are not deprecated here")
    def test_does_not_warn_itself(self) -> None:
        run_script("import weft; weft.install()", flags=("-W", "error"))

    def test_new_event_loop(self) -> None:
        loop = weft.new_event_loop()
        assert type(loop) is weft.EventLoop
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert not loop.is_closed()
        loop.close()


class TestAtExit:
    """What a program forgets must not crash the interpreter on its way out."""

    @pytest.mark.parametrize(
        "ending",
        [
            "",
            "loop.run_until_complete(asyncio.sleep(0))",
            "task = loop.create_task(wait()); loop.run_until_complete(asyncio.sleep(0))",
            "loop.call_later(1, print); loop.call_soon(print); loop.call_soon_threadsafe(print)",
            "kept = loop.run_until_complete(loop.create_server(asyncio.Protocol, '127.0.0.1', 0))",
            "loop.run_until_complete(loop.run_in_executor(None, int))",
            "loop.add_signal_handler(10, print)",
            "thread = threading.Thread(target=loop.run_forever, daemon=True); thread.start()",
            "asyncio.set_event_loop(loop); sys.exit(0)",
            "me = [loop]; me.append(me)",
            "generator = numbers(); loop.run_until_complete(generator.__anext__())",
            "threading.Thread(target=lambda: loop.call_soon_threadsafe(print)).start()",
            "loop.call_soon(sys.exit, 0); loop.run_forever()",
        ],
    )
    def test_with_an_open_loop(self, ending: str) -> None:
        run_script(
            """
            import asyncio, logging, sys, threading, warnings, weft
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            async def wait():
                try:
                    await loop.create_future()
                finally:
                    loop.call_soon(print)
            async def numbers():
                yield 1
            loop = weft.new_event_loop()
            exec(sys.argv[1])
            """,
            ending,
        )
