"""``to_thread``, ``to_process``, ``to_interpreter``: results, cancelling, limits, and the end of the loop."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.parallel import functions
from weft import versions
from weft.errors import NotPicklableError, WorkerError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Block:
    """A function whose calls end when they are let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.inside = self.most = self.ended = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.begun.release()
        assert self.go_on.wait(20)
        with self._lock:
            self.inside -= 1
            self.ended += 1
        return 7

    async def has_begun(self) -> None:
        while not self.begun.acquire(blocking=False):
            await asyncio.sleep(0.001)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class TestThread:
    def test_arguments_result_exception_and_context(self, run: Run) -> None:
        variable = contextvars.ContextVar("variable", default="outside")

        def function(*args: Any, **kwargs: Any) -> Any:
            if not args:
                raise KeyError("none")
            return args, kwargs, variable.get(), threading.current_thread() is threading.main_thread()

        async def main() -> None:
            variable.set("main")
            assert await weft.to_thread(function, 1, 2, key=3) == ((1, 2), {"key": 3}, "main", False)
            with pytest.raises(KeyError):
                await weft.to_thread(function)
            with pytest.raises(TypeError, match="is async"):
                _: Any = await weft.to_thread(functions.square_soon, 1)

        run(main())

    def test_cancelled_it_waits_for_the_thread(self, run: Run) -> None:
        async def main() -> None:
            block = Block()
            task = asyncio.ensure_future(weft.to_thread(block))
            await block.has_begun()
            task.cancel()
            await settle()
            assert not task.done()
            block.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert block.ended == 1

        run(main())

    @pytest.mark.parametrize("how", ["twice", "abandon"])
    def test_abandoned(self, run: Run, how: str) -> None:
        async def main() -> None:
            block = Block()
            task = asyncio.ensure_future(weft.to_thread(block, abandon=how == "abandon"))
            await block.has_begun()
            task.cancel()
            await settle()
            if how == "twice":
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert block.ended == 0
            block.go_on.set()

        run(main())

    def test_cancelled_before_a_thread_was_free_it_never_runs(self, run: Run) -> None:
        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            block = Block()
            ran: list[int] = []
            first = asyncio.ensure_future(weft.to_thread(block))
            await block.has_begun()
            second = asyncio.ensure_future(weft.to_thread(ran.append, 1))
            await settle()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            block.go_on.set()
            assert await first == 7
            await weft.to_thread(int)
            assert ran == []

        run(main())

    def test_limit(self, run: Run) -> None:
        async def main() -> None:
            block, other = Block(), Block()
            calls = [asyncio.ensure_future(weft.to_thread(block, limit=2)) for _ in range(5)]
            calls += [asyncio.ensure_future(weft.to_thread(other, limit=1))]
            await block.has_begun()
            await block.has_begun()
            await other.has_begun()
            calls[3].cancel()
            await settle()
            assert (block.inside, calls[3].cancelled()) == (2, True)
            block.go_on.set()
            other.go_on.set()
            results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
            assert results[:3] == [7, 7, 7]
            assert (block.most, block.ended) == (2, 4)
            with pytest.raises(ValueError, match="limit=0"):
                await weft.to_thread(block, limit=0)

        run(main())

    def test_a_semaphore_is_shared(self, run: Run) -> None:
        async def main() -> None:
            block, other, semaphore = Block(), Block(), asyncio.Semaphore(1)
            first = asyncio.ensure_future(weft.to_thread(block, limit=semaphore))
            await block.has_begun()
            second = asyncio.ensure_future(weft.to_thread(other, limit=semaphore))
            await settle()
            assert other.inside == 0
            block.go_on.set()
            other.go_on.set()
            assert (await first, await second) == (7, 7)

        run(main())

    def test_an_abandoned_call_keeps_its_place(self, run: Run) -> None:
        async def main() -> None:
            block, semaphore = Block(), asyncio.Semaphore(1)
            task = asyncio.ensure_future(weft.to_thread(block, limit=semaphore, abandon=True))
            await block.has_begun()
            task.cancel()
            await asyncio.wait([task])
            assert semaphore.locked()
            block.go_on.set()
            await semaphore.acquire()

        run(main())


class TestProcess:
    def test_results_and_exceptions(self, run: Run) -> None:
        async def main() -> None:
            assert await weft.to_process(functions.square, 3) == 9
            sixteen: Any = await weft.to_process(functions.square_soon, 4)
            assert sixteen == 16
            assert await weft.to_process(sorted, [1, 2], reverse=True) == [2, 1]
            with pytest.raises(ValueError, match="seven") as caught:
                await weft.to_process(functions.fail_on_seven, 7)
            assert "in fail_on_seven" in caught.value.__notes__[0]

        run(main())

    @pytest.mark.weft_only
    def test_a_process_serves_one_call_after_another(self, run: Run) -> None:
        async def main() -> None:
            first = await weft.to_process(os.getpid)
            assert first != os.getpid()
            assert await weft.to_process(os.getpid) == first
            pids = await asyncio.gather(*(weft.to_process(functions.who, number, limit=1) for number in range(3)))
            assert set(pids) == {first}

        run(main())

    @pytest.mark.weft_only
    def test_cancelled_it_kills_the_process(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "pids")

        async def main() -> None:
            task = asyncio.ensure_future(weft.to_process(functions.note_and_hang, path))
            while not functions.pids_in(path):
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (pid,) = functions.pids_in(path)
            assert not os.path.exists(f"/proc/{pid}")
            assert await weft.to_process(functions.square, 3) == 9

        run(main())

    @pytest.mark.weft_only
    def test_one_that_dies(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(
                WorkerError, match="the worker process died with exit status 3 before the call was over"
            ):
                await weft.to_process(os._exit, 3)
            assert await weft.to_process(functions.square, 3) == 9

        run(main())

    @pytest.mark.weft_only
    def test_what_cannot_be_sent(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(NotPicklableError, match="the arguments of .* cannot be sent"):
                await weft.to_process(str, functions.Unpicklable())
            with pytest.raises(NotPicklableError, match="the result, a Unpicklable, cannot be sent back"):
                await weft.to_process(functions.unpicklable_result, 3)
            with pytest.raises(NotPicklableError, match="cannot be sent to another process"):
                await weft.to_process(threading.Lock().acquire)

        run(main())

    @pytest.mark.weft_only
    def test_a_call_that_is_under_way_at_the_end_of_the_loop(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "pids")
        tasks = []

        async def main() -> None:
            tasks.append(asyncio.ensure_future(weft.to_process(functions.note_and_hang, path)))
            while not functions.pids_in(path):
                await asyncio.sleep(0.005)

        run(main())
        assert tasks[0].cancelled()


class TestInterpreter:
    @pytest.mark.skipif(versions.INTERPRETER_POOLS, reason="this Python has them")
    def test_it_needs_a_newer_python(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(WorkerError, match="Python 3.14"):
                await weft.to_interpreter(functions.square, 3)

        run(main())

    @pytest.mark.skipif(not versions.INTERPRETER_POOLS, reason="Python 3.14 has them")
    def test_results(self, run: Run) -> None:
        async def main() -> None:
            assert await weft.to_interpreter(math.factorial, 3) == 6
            assert await weft.to_interpreter(sorted, [1, 2], reverse=True) == [2, 1]
            assert await weft.to_interpreter(len, "abc") == 3

        run(main())
