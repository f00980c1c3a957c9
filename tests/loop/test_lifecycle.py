"""From a new loop to a closed one: running, stopping, exception handlers, async generators, debug mode, closing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

import weft
from tests.core.kit import NewLoop, reports_of, turns


class Halt(Exception):
    pass


async def nothing() -> None: ...


class TestRun:
    def test_until_complete(self, loop: asyncio.AbstractEventLoop) -> None:
        async def answer() -> int:
            return 42

        assert loop.run_until_complete(answer()) == 42
        assert loop.run_until_complete(loop.create_task(answer())) == 42
        future = loop.create_future()
        loop.call_soon(future.set_result, 43)
        assert loop.run_until_complete(future) == 43
        assert loop.run_until_complete(future) == 43

    def test_until_an_exception(self, loop: asyncio.AbstractEventLoop) -> None:
        async def fail() -> None:
            raise Halt

        for _ in range(2):
            with pytest.raises(Halt):
                loop.run_until_complete(fail())
        assert not loop.is_running()

    def test_stopped_before_it_is_complete(self, loop: asyncio.AbstractEventLoop) -> None:
        future = loop.create_future()
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match=r"Event loop stopped before Future completed\."):
            loop.run_until_complete(future)
        future.cancel()

    def test_says_that_it_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[Any] = []

        async def look() -> None:
            seen.extend((loop.is_running(), asyncio.get_running_loop() is loop))

        assert not loop.is_running()
        loop.run_until_complete(look())
        assert not loop.is_running()
        assert seen == [True, True]
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    def test_stop_from_a_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()

    def test_everything_is_set_back(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hooks of async generators, and how far coroutines track their origin, also when the run ends badly."""
        loop.set_debug(True)
        loop.slow_callback_duration = 1e9
        before = sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()

        async def leave() -> None:
            assert sys.get_coroutine_origin_tracking_depth() > 0
            assert sys.get_asyncgen_hooks().firstiter is not None
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(leave())
        assert (sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()) == before

    def test_repr(self, loop: asyncio.AbstractEventLoop) -> None:
        assert "running=False closed=False debug=" in repr(loop)
        loop.close()
        assert "running=False closed=True debug=" in repr(loop)


class TestClose:
    def test_twice(self, loop: asyncio.AbstractEventLoop) -> None:
        assert not loop.is_closed()
        loop.close()
        loop.close()
        assert loop.is_closed()

    def test_in_a_callback_is_refused(self, loop: asyncio.AbstractEventLoop) -> None:
        errors: list[str] = []

        def close() -> None:
            try:
                loop.close()
            except RuntimeError as error:
                errors.append(str(error))

        async def main() -> None:
            close()
            loop.call_soon(close)
            loop.call_later(0, close)
            await asyncio.sleep(0.001)

        loop.run_until_complete(main())
        assert errors == ["Cannot close a running event loop"] * 3
        assert not loop.is_closed()

    def test_in_a_thread_while_it_runs_is_refused(self, loop: asyncio.AbstractEventLoop) -> None:
        errors: list[BaseException] = []

        def close() -> None:
            try:
                loop.close()
            except RuntimeError as error:
                errors.append(error)
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=close)
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
        assert [str(error) for error in errors] == ["Cannot close a running event loop"]

    def test_a_destructor_that_closes_it_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """What is dropped on the way down calls the loop, which is closing."""
        seen: list[Any] = []

        class Last:
            def __call__(self) -> None: ...

            def __del__(self) -> None:
                loop.close()
                for call in (loop.call_soon, loop.call_soon_threadsafe, lambda callback: loop.call_later(1, callback)):
                    try:
                        call(print)
                    except RuntimeError as error:
                        seen.append(str(error))

        for _ in range(3):
            loop.call_soon(Last())
            loop.call_later(100, Last())
        loop.close()
        gc.collect()
        assert seen == ["Event loop is closed"] * 18

    def test_unclosed_warns(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            del loop
            gc.collect()


class TestExceptionHandler:
    def test_gets_loop_and_context(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[Any] = []
        assert loop.get_exception_handler() is None

        def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            seen.append((loop, context))

        loop.set_exception_handler(handler)
        assert loop.get_exception_handler() is handler
        context = {"message": "something"}
        loop.call_exception_handler(context)
        assert seen == [(loop, context)]
        loop.set_exception_handler(None)
        assert loop.get_exception_handler() is None

    def test_must_be_callable(self, loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(TypeError, match="A callable object or None is expected"):
            loop.set_exception_handler("handler")  # type: ignore[arg-type]

    def test_the_default_logs(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
        loop.call_soon(divmod, 1, 0)
        turns(loop)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.name == "asyncio"
        assert record.getMessage().startswith("Exception in callback divmod(")
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError

    def test_that_raises_is_logged_itself(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            raise Halt

        loop.set_exception_handler(handler)
        ran: list[int] = []
        loop.call_soon(divmod, 1, 0)
        loop.call_soon(ran.append, 1)
        turns(loop)
        assert ran == [1]
        assert "Unhandled error in exception handler" in caplog.text
        assert "Halt" in caplog.text

    def test_without_an_exception(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
        loop.default_exception_handler({"message": "only words", "extra": 42})
        assert caplog.records[0].getMessage() == "only words\nextra: 42"
        loop.default_exception_handler({})
        assert caplog.records[1].getMessage() == "Unhandled exception in event loop"

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio runs it in the thing's context from 3.12 on")
    def test_runs_in_the_context_of_what_failed(self, loop: asyncio.AbstractEventLoop) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []
        loop.set_exception_handler(lambda *_: seen.append(variable.get()))
        token = variable.set("of the callback")
        loop.call_soon(divmod, 1, 0)
        variable.reset(token)
        turns(loop)
        assert seen == ["of the callback"]


class TestAsyncGenerators:
    async def numbers(self, log: list[str], name: str) -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            log.append(name)

    def test_one_that_is_dropped_is_closed(self, loop: asyncio.AbstractEventLoop) -> None:
        log: list[str] = []

        async def main() -> None:
            async for number in self.numbers(log, "dropped"):
                if number == 2:
                    break
            gc.collect()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        assert log == ["dropped"]

    def test_those_that_are_open_are_shut_down(self, loop: asyncio.AbstractEventLoop) -> None:
        log: list[str] = []
        open_ones: list[Any] = []

        async def main() -> None:
            for name in ("first", "second"):
                generator = self.numbers(log, name)
                await anext(generator)
                open_ones.append(generator)
            await loop.shutdown_asyncgens()

        loop.run_until_complete(main())
        assert sorted(log) == ["first", "second"]

    def test_an_error_on_the_way_is_reported(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)

        async def bad() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise Halt

        async def main() -> None:
            generator = bad()
            await anext(generator)
            await loop.shutdown_asyncgens()

        loop.run_until_complete(main())
        (report,) = reports
        assert isinstance(report["exception"], Halt)
        assert "an error occurred during closing of asynchronous generator" in report["message"]
        reports.clear()

    def test_after_shutdown_warns(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            await loop.shutdown_asyncgens()
            generator = self.numbers([], "late")
            await anext(generator)
            await generator.aclose()  # type: ignore[attr-defined]

        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            loop.run_until_complete(main())

    def test_dropped_when_the_loop_is_closed(self, new_loop: NewLoop) -> None:
        """Nobody can close it any more: no crash, no exception that nobody can be told of."""
        loop = new_loop()
        kept: list[Any] = []

        async def main() -> None:
            generator = self.numbers([], "late")
            await anext(generator)
            kept.append(generator)

        loop.run_until_complete(main())
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept.clear()
            gc.collect()


class TestDebug:
    def test_can_be_switched(self, loop: asyncio.AbstractEventLoop) -> None:
        for enabled in (True, False):
            loop.set_debug(enabled)
            assert loop.get_debug() is enabled

    def test_while_it_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> list[int]:
            depths = []
            for enabled in (True, False):
                loop.set_debug(enabled)
                await asyncio.sleep(0)
                depths.append(sys.get_coroutine_origin_tracking_depth())
            return depths

        loop.set_debug(False)
        assert loop.run_until_complete(main()) == [10, 0]

    def test_the_environment_decides(self, new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        for value, expected in (("1", True), ("", sys.flags.dev_mode)):
            monkeypatch.setenv("PYTHONASYNCIODEBUG", value)
            loop = new_loop()
            assert loop.get_debug() is bool(expected)
            loop.close()

    def test_a_run_in_debug_mode(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        loop.slow_callback_duration = 1e9

        async def main() -> str:
            await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(10)])
            return await loop.run_in_executor(None, str, 5)

        assert loop.run_until_complete(main()) == "5"


@pytest.mark.weft_only
class TestSubclass:
    def test_with_state_of_its_own(self) -> None:
        class Counting(weft.EventLoop):
            def __init__(self) -> None:
                super().__init__()
                self.calls = 0

            def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
                self.calls += 1
                return super().call_soon(callback, *args, context=context)

        loop = Counting()
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert loop.calls >= 1
        loop.close()

    def test_a_close_that_fails(self) -> None:
        """It is told once; the loop's descriptors are given back when it is closed for real."""

        class Stubborn(weft.EventLoop):
            stubborn = True

            def close(self) -> None:
                if self.stubborn:
                    raise Halt
                super().close()

        loop = Stubborn()
        loop.call_soon(print)
        with pytest.raises(Halt):
            loop.close()
        loop.stubborn = False
        loop.close()
        assert loop.is_closed()
