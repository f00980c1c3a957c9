"""``weft.map`` over worker processes: results, failures, what cannot be sent, and workers that die."""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.parallel import functions
from weft.errors import NotPicklableError, RemoteError, WorkerError
from weft.parallel import shipping

Run = Callable[[Coroutine[Any, Any, Any]], Any]

needs_cloudpickle = pytest.mark.skipif(
    shipping._cloudpickle() is None, reason="not installed: cloudpickle (weft[cluster])"
)


def collect(run: Run, function: Any, items: Any, **options: Any) -> list[Any]:
    async def main() -> Any:
        return await weft.map(function, items, **options)

    results: list[Any] = run(main())
    return results


class TestResults:
    @pytest.mark.parametrize("function", [functions.square, functions.square_soon, functions.returns_coroutine])
    def test_in_order(self, run: Run, function: Any) -> None:
        assert collect(run, function, range(3000), workers=2) == [number**2 for number in range(3000)]

    @pytest.mark.weft_only
    def test_of_items_without_end_in_any_order(self, run: Run) -> None:
        def items() -> Iterator[int]:
            number = 0
            while True:
                yield number
                number += 1

        async def main() -> None:
            got = set()
            async with weft.map(functions.square, items(), workers=2, ordered=False) as results:
                async for result in results:
                    got.add(result)
                    if len(got) == 20000:
                        break
            assert len(got) == 20000

        run(main())

    @pytest.mark.weft_only
    def test_every_worker_gets_some(self, run: Run) -> None:
        pids = collect(run, functions.who, range(100), workers=2)
        assert len(set(pids)) == 2
        assert os.getpid() not in pids
        assert len(set(collect(run, functions.who, range(2), workers=2))) == 2

    @pytest.mark.weft_only
    def test_cores(self, run: Run) -> None:
        assert collect(run, functions.square, [3], workers="cores") == [9]

    @pytest.mark.weft_only
    def test_nothing_to_do_starts_nothing(self, run: Run) -> None:
        assert collect(run, functions.square, [], workers=2) == []

    @pytest.mark.weft_only
    def test_large_items_and_results(self, run: Run) -> None:
        items = [bytes([number]) * 3_000_000 for number in range(6)]
        assert collect(run, bytes, items, workers=2) == items

    @pytest.mark.weft_only
    def test_a_plain_function_may_run_a_loop(self, run: Run) -> None:
        assert collect(run, functions.runs_a_loop, range(5), workers=1) == [0, 1, 4, 9, 16]

    @pytest.mark.weft_only
    def test_a_function_with_a_context_is_entered_once_in_each(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "session")
        results = collect(run, functions.Session(path), range(100), workers=2, concurrency=5)
        assert results == [(True, number) for number in range(100)]
        entered, left = functions.pids_in(f"{path}.entered"), functions.pids_in(f"{path}.left")
        assert len(set(entered)) == len(entered) == 2
        assert set(entered) == set(left)

    @pytest.mark.weft_only
    @needs_cloudpickle
    def test_lambdas_and_closures_and_their_classes(self, run: Run) -> None:
        class Point:
            def __init__(self, x: int) -> None:
                self.x = x

        def move(point: Point) -> Point:
            assert isinstance(point, Point)
            return Point(point.x + offset)

        offset = 10
        results = collect(run, move, [Point(1), Point(2)], workers=1)
        assert [(type(result), result.x) for result in results] == [(Point, 11), (Point, 12)]
        assert collect(run, lambda number: number + offset, [1], workers=1) == [11]


class TestFailures:
    @pytest.mark.parametrize("ordered", [True, False])
    def test_the_item_is_named_and_the_traceback_there(self, run: Run, ordered: bool) -> None:
        with pytest.raises(weft.MapError, match="item 7 \\(7\\) failed: ValueError: seven") as caught:
            collect(run, functions.fail_on_seven, range(500), workers=2, ordered=ordered)
        assert isinstance(caught.value.__cause__, ValueError)
        (note,) = caught.value.__cause__.__notes__
        assert note.startswith("In worker process ")
        assert "in fail_on_seven" in note

    @pytest.mark.weft_only
    def test_collected(self, run: Run) -> None:
        results = collect(run, functions.fail_on_seven, range(500), workers=2, on_error="collect", retries=2)
        assert [result for result in results if isinstance(result, weft.Failed)] == [results[7]]
        assert results[8:] == list(range(8, 500))

    @pytest.mark.weft_only
    def test_an_exit_is_a_failure(self, run: Run) -> None:
        (result,) = collect(run, functions.exits, [4], workers=1, on_error="collect")
        assert isinstance(result.error, SystemExit)

    @pytest.mark.weft_only
    def test_an_exception_that_cannot_be_sent_has_a_stand_in(self, run: Run) -> None:
        (result,) = collect(run, functions.bad_error, [1], workers=1, on_error="collect")
        assert isinstance(result.error, RemoteError)
        assert str(result.error) == "tests.parallel.functions.BadError: one and two"

    @pytest.mark.weft_only
    def test_an_item_that_cannot_be_sent(self, run: Run) -> None:
        items = [1, 2, functions.Unpicklable(), 4]
        results = collect(run, str, items, workers=2, on_error="collect")
        assert (results[0], results[1], results[3]) == ("1", "2", "4")
        assert isinstance(results[2].error, NotPicklableError)
        assert "an item, a Unpicklable, cannot be sent to a process: stays where it is" in str(results[2].error)

    @pytest.mark.weft_only
    def test_an_item_that_cannot_be_read(self, run: Run) -> None:
        items = [*range(30), functions.OnlyHere(), *range(30)]
        results = collect(run, type, items, workers=1, on_error="collect")
        assert results[:30] == results[31:] == [int] * 30
        assert "an item cannot be unpickled in a worker process" in str(results[30].error)
        assert str(results[30].error.__cause__) == "not in this process"

    @pytest.mark.weft_only
    def test_a_result_that_cannot_be_sent(self, run: Run) -> None:
        results = collect(run, functions.unpicklable_result, range(50), workers=1, on_error="collect")
        assert "the result, a Unpicklable, cannot be sent back: stays where it is" in str(results[3].error)
        assert results[4:] == list(range(4, 50))

    @pytest.mark.weft_only
    def test_a_result_that_cannot_be_read(self, run: Run) -> None:
        (result,) = collect(run, _only_there, [1], workers=1, on_error="collect")
        assert "a result cannot be unpickled here: not in this process" in str(result.error)


def _only_there(_: int) -> functions.OnlyHere:
    return functions.OnlyHere()


@pytest.mark.weft_only
class TestFunctionsThatCannotBeSent:
    def test_without_cloudpickle_the_extra_is_named(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shipping, "_cloudpickle", lambda: None)
        with pytest.raises(NotPicklableError, match=r"cannot be sent .*pip install 'weft\[cluster\]'"):
            collect(run, lambda number: number, [1], workers=1)

    @needs_cloudpickle
    def test_with_cloudpickle_the_reason_is(self, run: Run) -> None:
        lock = threading.Lock()
        with pytest.raises(NotPicklableError, match="cannot be sent .*lock.*; take out what it refers to"):
            collect(run, lambda number: lock, [1], workers=1)

    def test_one_that_is_not_found_there(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def invented(number: int) -> int:
            return number

        invented.__qualname__ = "invented"
        invented.__module__ = "not_a_module"
        module = type(sys)("not_a_module")
        module.invented = invented  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "not_a_module", module)
        monkeypatch.setattr(shipping, "_cloudpickle", lambda: None)
        with pytest.raises(ModuleNotFoundError, match="not_a_module"):
            collect(run, invented, [1], workers=2)


@pytest.mark.weft_only
class TestWorkersThatDie:
    @pytest.mark.parametrize("function", [functions.exit_on_none, functions.exit_on_none_soon])
    def test_a_poisoned_item_is_reported_after_three(self, run: Run, tmp_path: Path, function: Any) -> None:
        path = str(tmp_path / "deaths")
        items = [(path, None if number == 20 else number) for number in range(40)]
        results = collect(run, function, items, workers=2, concurrency=5, on_error="collect")
        failed = results.pop(20)
        assert results == [number for number in range(40) if number != 20]
        assert isinstance(failed.error, WorkerError)
        assert "3 worker processes died while they ran this item, the last with exit status 9" in str(failed.error)
        assert len(set(functions.pids_in(path))) == 3

    def test_one_that_is_killed_loses_nothing(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "killed")
        items = [(path, number) for number in range(2000)]
        assert collect(run, functions.killed_the_first_time, items, workers=2) == list(range(2000))
        assert len(functions.pids_in(path)) == 1

    def test_one_that_never_starts(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(WorkerError, match="3 worker processes in a row ended at once, the last with exit status 1"):
            collect(run, functions.square, [1], workers=1)

    def test_one_that_cannot_be_started(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/not/there")
        with pytest.raises(WorkerError, match="a worker process cannot be started: No such file"):
            collect(run, functions.square, [1], workers=2)

    @pytest.mark.parametrize("spare", [0, 1, 3, 5])
    def test_no_descriptors_left(self, run: Run, spare: int) -> None:
        """However many are left: not enough for the socket, the shared memory, the process, or the second worker."""

        async def main() -> None:
            to_process = weft.to_process  # imported now: that takes descriptors, too
            assert await weft.map(functions.square, [3], workers=1) == [9]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(map(int, os.listdir("/proc/self/fd")))
            taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]  # no gaps below the limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + spare, hard))
            try:
                with pytest.raises(WorkerError, match="a worker process cannot be started: Too many open files"):
                    await weft.map(functions.square, range(10), workers=2)
                with pytest.raises(WorkerError, match="cannot be started: Too many open files"):
                    await asyncio.gather(*(to_process(functions.square, 3) for _ in range(2)))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in taken:
                    os.close(fd)
            assert await weft.map(functions.square, [3], workers=1) == [9]

        run(main())


@pytest.mark.weft_only
class TestEnds:
    def test_cancelled_while_a_plain_function_blocks(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "pids")

        async def main() -> None:
            task = asyncio.ensure_future(_all(weft.map(functions.note_and_hang, [path] * 4, workers=2)))
            await _until(lambda: len(functions.pids_in(path)) == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [pid for pid in functions.pids_in(path) if _lives(pid)] == []

        run(main())

    def test_cancelled_async_functions_clean_up(self, run: Run, tmp_path: Path) -> None:
        path = str(tmp_path / "pids")

        async def main() -> None:
            async with weft.map(functions.note_and_wait, [path] * 4, workers=1):
                await _until(lambda: len(functions.pids_in(path)) == 4)
            assert len(functions.pids_in(f"{path}.cleanup")) == 4
            assert [pid for pid in functions.pids_in(path) if _lives(pid)] == []

        run(main())

    def test_cancelled_while_workers_start(self, run: Run) -> None:
        async def main(turns: int) -> None:
            task = asyncio.ensure_future(_all(weft.map(functions.square, range(10), workers=2)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        for turns in (1, 2, 3, 5, 8):
            run(main(turns))

    def test_break(self, run: Run) -> None:
        async def main() -> None:
            async for _ in weft.map(functions.square, iter(range(10**6)), workers=2):
                break
            await _until(lambda: len(asyncio.all_tasks()) == 1)

        run(main())

    def test_the_end_of_the_loop(self, run: Run) -> None:
        async def main() -> weft.Map[int]:
            results = weft.map(functions.square, iter(range(10**6)), workers=2)
            assert await anext(results) == 0
            return results

        run(main())


async def _all(results: Any) -> Any:
    return await results


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def _lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_an_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(weft.MapError("item", 3, ValueError("no"))))
    assert (error.item, error.index, str(error.error)) == ("item", 3, "no")
    assert isinstance(error.__cause__, ValueError)
