"""``weft.map`` over threads, interpreters and executors."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

import weft
from tests.parallel import functions
from weft import versions
from weft.errors import WorkerError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def collect(run: Run, function: Any, items: Any, **options: Any) -> list[Any]:
    async def main() -> Any:
        return await weft.map(function, items, **options)

    results: list[Any] = run(main())
    return results


class TestThreads:
    @pytest.mark.parametrize("ordered", [True, False])
    def test_results(self, run: Run, ordered: bool) -> None:
        results = collect(run, functions.square, range(5000), workers="threads", ordered=ordered)
        assert (results if ordered else sorted(results)) == [number**2 for number in range(5000)]

    def test_as_many_block_at_once_as_concurrency_says(self, run: Run) -> None:
        barrier = threading.Barrier(7, timeout=20)
        assert sorted(collect(run, lambda number: barrier.wait(), range(7), workers="threads", concurrency=7)) == [
            *range(7)
        ]

    def test_the_callers_context_is_seen(self, run: Run) -> None:
        variable = contextvars.ContextVar("variable", default="outside")

        def set_it(number: int) -> str:
            return variable.get()

        async def main() -> None:
            variable.set("main")
            assert set(await weft.map(set_it, range(20), workers="threads")) == {"main"}

        run(main())

    def test_failures(self, run: Run) -> None:
        with pytest.raises(weft.MapError, match="item 7 .7. failed: ValueError: seven"):
            collect(run, functions.fail_on_seven, range(100), workers="threads", concurrency=3)
        results = collect(run, functions.fail_on_seven, range(100), workers="threads", on_error="collect", retries=1)
        assert [type(result) for result in results[6:9]] == [int, weft.Failed, int]

    def test_a_function_that_gives_something_to_await(self, run: Run) -> None:
        (result,) = collect(run, functions.returns_coroutine, [1], workers="threads", on_error="collect")
        assert isinstance(result.error, TypeError)

    def test_an_early_end_waits_for_what_a_thread_has_begun(self, run: Run) -> None:
        ended = []

        async def main() -> None:
            inside, go_on = threading.Semaphore(0), threading.Event()

            def block(number: int) -> None:
                inside.release()
                go_on.wait(20)
                ended.append(number)

            task = asyncio.ensure_future(_all(weft.map(block, range(10), workers="threads", concurrency=2)))
            await asyncio.to_thread(lambda: [inside.acquire() for _ in range(2)])
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(main())
        assert sorted(ended) == [0, 1]


async def _all(results: Any) -> Any:
    return await results


class TestExecutors:
    def test_a_pool_of_threads_stays_open(self, run: Run) -> None:
        with ThreadPoolExecutor(2) as pool:
            assert collect(run, functions.square, range(10), workers=pool) == [number**2 for number in range(10)]
            assert pool.submit(functions.square, 3).result() == 9

    @pytest.mark.weft_only
    def test_a_pool_of_processes(self, run: Run) -> None:
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            assert collect(run, functions.square, range(500), workers=pool) == [number**2 for number in range(500)]
            (result,) = collect(run, functions.unpicklable_result, [3], workers=pool, on_error="collect")
            assert isinstance(result.error, TypeError)

    def test_one_that_was_shut_down(self, run: Run) -> None:
        with ThreadPoolExecutor(2) as pool:
            pass
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            collect(run, functions.square, range(10), workers=pool)


class TestInterpreters:
    @pytest.mark.skipif(versions.INTERPRETER_POOLS, reason="this Python has them")
    def test_they_need_a_newer_python(self) -> None:
        with pytest.raises(WorkerError, match="subinterpreters need Python 3.14"):
            weft.map(functions.square, [1], workers="interpreters")

    @pytest.mark.skipif(not versions.INTERPRETER_POOLS, reason="Python 3.14 has them")
    def test_results(self, run: Run) -> None:
        results = collect(run, math.factorial, range(50), workers="interpreters")
        assert results == [math.factorial(number) for number in range(50)]
