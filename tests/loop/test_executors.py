"""``run_in_executor`` and the default executor's life."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

NewLoop = Callable[[], asyncio.AbstractEventLoop]
variable = contextvars.ContextVar("variable", default="unset")


class TestRunInExecutor:
    def test_result_and_exception(self, loop: asyncio.AbstractEventLoop) -> None:
        assert loop.run_until_complete(loop.run_in_executor(None, divmod, 17, 5)) == (3, 2)
        with pytest.raises(ZeroDivisionError):
            loop.run_until_complete(loop.run_in_executor(None, divmod, 1, 0))

    def test_runs_in_another_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        ident = loop.run_until_complete(loop.run_in_executor(None, threading.get_ident))
        assert ident != threading.get_ident()

    def test_a_given_executor(self, loop: asyncio.AbstractEventLoop) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
            thread = loop.run_until_complete(loop.run_in_executor(executor, threading.current_thread))
        assert thread.name.startswith("mine")
        assert loop._default_executor is None  # type: ignore[attr-defined]

    @pytest.mark.skipif(
        sys.version_info >= (3, 14), reason="from 3.14 on, threads may inherit the context by themselves"
    )
    def test_does_not_carry_the_context_along(self, loop: asyncio.AbstractEventLoop) -> None:
        token = variable.set("set")
        try:
            assert loop.run_until_complete(loop.run_in_executor(None, variable.get)) == "unset"
        finally:
            variable.reset(token)

    def test_a_cancelled_call_that_has_not_begun_never_does(self, loop: asyncio.AbstractEventLoop) -> None:
        go, calls = threading.Event(), list[int]()

        async def main() -> None:
            with ThreadPoolExecutor(1) as executor:
                first = loop.run_in_executor(executor, go.wait, 60)
                second = loop.run_in_executor(executor, calls.append, 1)
                second.cancel()
                await asyncio.sleep(0)
                go.set()
                assert await first

        loop.run_until_complete(main())
        assert not calls

    def test_on_a_closed_loop(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.run_in_executor(None, int)

    def test_debug_mode_checks_the_callable(self, loop: asyncio.AbstractEventLoop) -> None:
        async def coroutine_function() -> None:
            """Never called."""

        loop.set_debug(True)
        coroutine = coroutine_function()
        wrong: Any
        for wrong in (coroutine_function, coroutine, "text"):
            with pytest.raises(TypeError, match="run_in_executor"):
                loop.run_in_executor(None, wrong)
        coroutine.close()

    def test_what_submit_raises_reaches_the_caller(self, loop: asyncio.AbstractEventLoop) -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            loop.run_in_executor(executor, int)


class TestDefaultExecutor:
    def test_is_made_when_it_is_needed_and_has_the_name_that_others_read(self, loop: asyncio.AbstractEventLoop) -> None:
        asked: Any = loop
        assert asked._default_executor is None
        loop.run_until_complete(loop.run_in_executor(None, int))
        executor = asked._default_executor
        assert isinstance(executor, ThreadPoolExecutor)
        loop.run_until_complete(loop.run_in_executor(None, int))
        assert asked._default_executor is executor

    def test_set(self, loop: asyncio.AbstractEventLoop) -> None:
        executor = ThreadPoolExecutor(1, thread_name_prefix="mine")
        loop.set_default_executor(executor)
        thread = loop.run_until_complete(loop.run_in_executor(None, threading.current_thread))
        assert thread.name.startswith("mine")
        loop.run_until_complete(loop.shutdown_default_executor())
        assert not thread.is_alive()

    def test_set_takes_thread_pools_only(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not the default way of starting processes, which from 3.14 on starts one at once that starts the others.
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as processes:
            wrong: Any
            for wrong in (None, Executor(), processes):
                with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
                    loop.set_default_executor(wrong)

    def test_shutdown_waits_for_running_calls(self, loop: asyncio.AbstractEventLoop) -> None:
        go, done = threading.Event(), list[bool]()

        async def main() -> None:
            call = loop.run_in_executor(None, lambda: done.append(go.wait(60)))
            shutdown = loop.create_task(loop.shutdown_default_executor())
            await asyncio.sleep(0)
            assert not shutdown.done()
            go.set()
            await shutdown
            assert done == [True]
            await call

        loop.run_until_complete(main())

    def test_after_shutdown(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(loop.shutdown_default_executor())
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, int)
        with ThreadPoolExecutor(1) as executor:
            assert loop.run_until_complete(loop.run_in_executor(executor, int)) == 0
        loop.run_until_complete(loop.shutdown_default_executor())

    @pytest.mark.weft_only  # asyncio has the argument from 3.12 on
    def test_shutdown_with_a_timeout(self, loop: asyncio.AbstractEventLoop) -> None:
        go = threading.Event()

        async def main() -> None:
            call = loop.run_in_executor(None, go.wait, 60)
            with pytest.warns(RuntimeWarning, match=r"did not finishing joining its threads within 0\.01 seconds"):
                await loop.shutdown_default_executor(0.01)  # type: ignore[call-arg]
            go.set()
            assert await call

        loop.run_until_complete(main())

    def test_what_the_executor_raises_at_shutdown(self, loop: asyncio.AbstractEventLoop) -> None:
        class Stubborn(ThreadPoolExecutor):
            stubborn = True

            def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
                super().shutdown(wait, cancel_futures=cancel_futures)
                if self.stubborn:
                    self.stubborn = False
                    raise LookupError("stubborn")

        loop.set_default_executor(Stubborn(1))
        with pytest.raises(LookupError, match="stubborn"):
            loop.run_until_complete(loop.shutdown_default_executor())

    def test_cancelled_shutdown(self, loop: asyncio.AbstractEventLoop) -> None:
        go = threading.Event()

        async def main() -> None:
            call = loop.run_in_executor(None, go.wait, 60)
            shutdown = loop.create_task(loop.shutdown_default_executor())
            await asyncio.sleep(0)
            shutdown.cancel()
            # asyncio of 3.11 joins the threads before it lets the cancellation through
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await shutdown
            await call

        loop.run_until_complete(main())

    def test_close_does_not_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        go, ended = threading.Event(), threading.Event()

        def call() -> None:
            go.wait(60)
            ended.set()

        loop.run_in_executor(None, call)
        loop.close()
        assert not ended.is_set()
        go.set()
        assert ended.wait(60)
