"""``weft.map`` on one loop: order, back-pressure, failures, and that whatever ends it leaves nothing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

import weft
from tests.parallel.functions import Session, pids_in, square, square_soon

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Gate:
    """A function whose calls end when they are let go; keeps count of who is inside."""

    def __init__(self) -> None:
        self.inside: dict[int, asyncio.Future[None]] = {}
        self.cancelled: list[int] = []
        self.most = 0

    async def __call__(self, number: int) -> int:
        self.inside[number] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self.inside))
        try:
            await self.inside[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            del self.inside[number]
        return number

    def open(self, number: int) -> None:
        self.inside[number].set_result(None)


async def settle() -> None:
    """Lets everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def others() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def count_async(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


class TestResults:
    @pytest.mark.parametrize(
        "function", [square, square_soon, lambda number: square_soon(number), partial(square_soon)]
    )
    def test_a_list(self, run: Run, function: Any) -> None:
        async def main() -> None:
            assert await weft.map(function, range(300)) == [number**2 for number in range(300)]
            assert others() == []

        run(main())

    @pytest.mark.parametrize("make", [list, iter, count_async, lambda items: count_async(len(items))])
    def test_any_iterable(self, run: Run, make: Any) -> None:
        async def main() -> None:
            items = make(250 if make is count_async else range(250))
            assert [result async for result in weft.map(square, items)] == [number**2 for number in range(250)]

        run(main())

    def test_nothing(self, run: Run) -> None:
        async def main() -> None:
            assert await weft.map(square_soon, []) == []
            assert [result async for result in weft.map(square, count_async(0))] == []

        run(main())

    def test_ordered_waits_for_the_first(self, run: Run) -> None:
        async def main() -> None:
            gate = Gate()
            async with weft.map(gate, range(3)) as results:
                first = asyncio.ensure_future(anext(results))
                await settle()
                gate.open(2)
                gate.open(1)
                await settle()
                assert not first.done()
                gate.open(0)
                assert [await first, await anext(results), await anext(results)] == [0, 1, 2]
                with pytest.raises(StopAsyncIteration):
                    await anext(results)

        run(main())

    def test_unordered_gives_them_as_they_finish(self, run: Run) -> None:
        async def main() -> None:
            gate = Gate()
            async with weft.map(gate, range(3), ordered=False) as results:
                first = asyncio.ensure_future(anext(results))
                await settle()
                gate.open(2)
                assert await first == 2
                gate.open(0)
                assert await anext(results) == 0
                gate.open(1)
                assert await anext(results) == 1

        run(main())

    def test_each_item_has_its_own_context(self, run: Run) -> None:
        variable = contextvars.ContextVar("variable", default="outside")

        async def set_it(number: int) -> str:
            before = variable.get()
            variable.set(str(number))
            await asyncio.sleep(0)
            return before

        async def main() -> None:
            variable.set("main")
            assert set(await weft.map(set_it, range(50), concurrency=3)) == {"main"}
            assert variable.get() == "main"

        run(main())

    def test_a_function_with_a_context_is_entered_once(self, run: Run, tmp_path: Any) -> None:
        async def main() -> None:
            path = str(tmp_path / "session")
            results = await weft.map(Session(path), range(20))
            assert results == [(True, number) for number in range(20)]
            assert len(pids_in(f"{path}.entered")) == len(pids_in(f"{path}.left")) == 1

        run(main())


class TestBackPressure:
    def test_never_more_than_concurrency_at_once(self, run: Run) -> None:
        async def main() -> None:
            gate = Gate()
            results = asyncio.ensure_future(_list(weft.map(gate, range(20), concurrency=4, ordered=False)))
            while not results.done():
                await settle()
                for number in list(gate.inside):
                    gate.open(number)
            assert sorted(await results) == list(range(20))
            assert gate.most == 4

        run(main())

    @pytest.mark.parametrize("ordered", [True, False])
    def test_items_are_taken_as_results_are(self, run: Run, ordered: bool) -> None:
        async def main() -> None:
            taken = 0

            def items() -> Iterator[int]:
                nonlocal taken
                while True:
                    taken += 1
                    yield taken

            async with weft.map(square, items(), concurrency=5, ordered=ordered) as results:
                for given in range(200):
                    await settle()
                    assert taken <= given + 2 * 5 + 1
                    await anext(results)
            assert taken >= 200

        run(main())

    def test_a_slow_first_item_does_not_let_results_pile_up(self, run: Run) -> None:
        async def main() -> None:
            gate = asyncio.Event()
            done = []

            async def function(number: int) -> int:
                if number == 0:
                    await gate.wait()
                done.append(number)
                return number

            async with weft.map(function, iter(range(1000)), concurrency=10) as results:
                first = asyncio.ensure_future(anext(results))
                await settle()
                assert len(done) < 20
                gate.set()
                assert await first == 0

        run(main())


async def _list(results: weft.Map[Any]) -> list[Any]:
    return await results


class TestFailures:
    def test_the_item_is_named(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(
                weft.MapError, match=r"item 2 \(0\) failed: ZeroDivisionError: integer division"
            ) as caught:
                await weft.map(lambda number: 1 // number, [2, 1, 0, 3])
            assert (caught.value.item, caught.value.index) == (0, 2)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            assert caught.value.error is caught.value.__cause__
            assert others() == []

        run(main())

    def test_in_a_loop_it_is_raised_in_its_place(self, run: Run) -> None:
        async def main() -> None:
            got = []
            with pytest.raises(weft.MapError) as caught:
                async for result in weft.map(lambda number: 1 / number, [1, 2, 4, 0, 5]):
                    got.append(result)
            assert (got, caught.value.index) == ([1, 0.5, 0.25], 3)
            assert others() == []

        run(main())

    def test_a_list_does_not_wait_for_the_others(self, run: Run) -> None:
        async def main() -> None:
            gate = Gate()

            async def function(number: int) -> int:
                if number == 1:
                    raise KeyError(number)
                return await gate(number)

            with pytest.raises(weft.MapError):
                await weft.map(function, range(3))
            assert sorted(gate.cancelled) == [0, 2]

        run(main())

    def test_collected(self, run: Run) -> None:
        async def main() -> None:
            results = await weft.map(lambda number: 1 / number, [1, 0, 2], on_error="collect")
            failed = results[1]
            assert results[0::2] == [1, 0.5]
            assert isinstance(failed, weft.Failed)
            assert (failed.item, failed.index, type(failed.error)) == (0, 1, ZeroDivisionError)

        run(main())

    @pytest.mark.parametrize(("retries", "succeeds"), [(1, False), (2, True)])
    def test_retries(self, run: Run, retries: int, succeeds: bool) -> None:
        async def main() -> None:
            tries: list[int] = []

            async def function(number: int) -> int:
                tries.append(number)
                if tries.count(number) < 3:
                    raise OSError(number)
                return number

            results = await weft.map(function, range(5), retries=retries, on_error="collect", concurrency=2)
            assert [isinstance(result, weft.Failed) for result in results] == [not succeeds] * 5
            assert len(tries) == 5 * (retries + 1)

        run(main())

    @pytest.mark.parametrize("ordered", [True, False])
    def test_of_the_items(self, run: Run, ordered: bool) -> None:
        async def main() -> None:
            def items() -> Iterator[int]:
                yield from range(3)
                raise LookupError("no more")

            got = []
            with pytest.raises(LookupError, match="no more"):
                async for result in weft.map(square_soon, items(), ordered=ordered):
                    got.append(result)
            assert sorted(got) == [0, 1, 4]
            assert others() == []

        run(main())

    def test_an_item_that_cancels_itself_has_failed(self, run: Run) -> None:
        async def cancel_itself(number: int) -> int:
            if number == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(1)
            return number

        async def main() -> None:
            results = await weft.map(cancel_itself, range(3), on_error="collect")
            assert results[0::2] == [0, 2]
            assert isinstance(results[1], weft.Failed)
            assert isinstance(results[1].error, asyncio.CancelledError)

        run(main())

    def test_an_interrupt_ends_the_program(self, run: Run) -> None:
        async def interrupted(number: int) -> None:
            await asyncio.sleep(0)
            raise KeyboardInterrupt

        async def main() -> None:
            await weft.map(interrupted, range(3))

        with pytest.raises(KeyboardInterrupt):
            run(main())

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"func": 3}, TypeError, "3 cannot be called"),
            ({"items": 3}, TypeError, "iterable of items"),
            ({"concurrency": 0}, ValueError, "concurrency=0 has to be 1 or more"),
            ({"retries": -1}, ValueError, "retries=-1"),
            ({"on_error": "ignore"}, ValueError, "'raise' or 'collect'"),
            ({"workers": 0}, ValueError, "workers=0 has to be 1 or more"),
            ({"workers": "many"}, TypeError, "workers is None, a number"),
            ({"workers": True}, TypeError, "workers is None, a number"),
            ({"workers": "threads", "func": square_soon}, TypeError, "is async"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options: dict[str, Any], error: type[Exception], words: str) -> None:
        arguments = {"func": square, "items": [1], **options}
        with pytest.raises(error, match=words):
            weft.map(arguments.pop("func"), arguments.pop("items"), **arguments)


class TestEnds:
    def test_break_stops_it(self, run: Run) -> None:
        async def main() -> None:
            closed = []

            async def items() -> AsyncIterator[int]:
                try:
                    for number in range(1000):
                        yield number
                finally:
                    closed.append(True)

            async for result in weft.map(square_soon, items(), concurrency=5):
                if result > 4:
                    break
            gc.collect()
            await settle()
            assert others() == []
            assert closed == [True]

        run(main())

    def test_leaving_the_block_waits_for_the_end(self, run: Run) -> None:
        async def main() -> None:
            ended = 0

            async def function(number: int) -> None:
                nonlocal ended
                try:
                    await asyncio.sleep(60)
                finally:
                    await asyncio.sleep(0)
                    ended += 1

            async with weft.map(function, range(10), concurrency=4):
                await settle()
            assert ended == 4
            assert others() == []

        run(main())

    @pytest.mark.parametrize("how", ["list", "loop"])
    def test_cancelled(self, run: Run, how: str) -> None:
        async def main() -> None:
            gate = Gate()

            async def consume() -> None:
                if how == "list":
                    await weft.map(gate, range(5))
                async for _ in weft.map(gate, range(5)):
                    pass

            task = asyncio.ensure_future(consume())
            await settle()
            assert len(gate.inside) == 5
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sorted(gate.cancelled) == list(range(5))
            assert others() == []

        run(main())

    def test_cancelled_while_it_closes(self, run: Run) -> None:
        async def main() -> None:
            release = asyncio.Event()

            async def stubborn(number: int) -> None:
                try:
                    await asyncio.sleep(60)
                finally:
                    await release.wait()

            task = asyncio.ensure_future(_list(weft.map(stubborn, range(2))))
            await settle()
            task.cancel()
            await settle()
            task.cancel()  # cancels the waiting of the items that are on their way out
            await settle()
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert others() == []

        run(main())

    def test_closed_twice_and_used_afterwards(self, run: Run) -> None:
        async def main() -> None:
            results = weft.map(square_soon, range(100))
            assert await anext(results) == 0
            await results.aclose()
            await results.aclose()
            assert [result async for result in results] == []
            never = weft.map(square_soon, range(100))
            await never.aclose()
            assert [result async for result in never] == []

        run(main())

    def test_the_end_of_the_loop_is_its_end(self, run: Run) -> None:
        gate = Gate()
        kept = []

        async def main() -> None:
            results = weft.map(gate, range(3))
            kept.append((results, asyncio.ensure_future(anext(results))))
            await settle()

        run(main())
        assert sorted(gate.cancelled) == [0, 1, 2]

    def test_two_tasks_cannot_share_one(self, run: Run) -> None:
        async def main() -> None:
            gate = Gate()
            async with weft.map(gate, range(2)) as results:
                first = asyncio.ensure_future(anext(results))
                await settle()
                with pytest.raises(RuntimeError, match="another task is waiting"):
                    await anext(results)
                gate.open(0)
                assert await first == 0

        run(main())


class TestProgress:
    def test_a_function_is_told_the_end(self, run: Run) -> None:
        async def main() -> None:
            told: list[weft.Progress] = []
            await weft.map(lambda number: 1 / number, range(4), on_error="collect", progress=told.append)
            last = told[-1]
            assert (last.done, last.failed, last.total, last.over) == (3, 1, 4, True)
            assert str(last).startswith("0:00  3 of 4 done  1 failed  ")

        run(main())

    def test_a_terminal_gets_a_line(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[str] = []

        class Terminal:
            def isatty(self) -> bool:
                return True

            def fileno(self) -> int:
                raise OSError

            def write(self, text: str) -> None:
                written.append(text)

            def flush(self) -> None:
                pass

        async def main() -> None:
            monkeypatch.setattr("sys.stderr", Terminal())
            assert await weft.map(square, range(3), progress=True) == [0, 1, 4]

        run(main())
        assert written[-1].startswith("\r\x1b[K0:00  3 of 3 done")
        assert written[-1].endswith("\n")

    def test_what_is_no_terminal_gets_nothing(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        async def main() -> None:
            await weft.map(square, range(3), progress=True)

        run(main())
        assert capsys.readouterr().err == ""

    def test_one_that_fails_is_reported_and_harms_nobody(self, run: Run) -> None:
        async def main() -> None:
            told: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
            assert await weft.map(square, range(3), progress=lambda progress: 1 / 0) == [0, 1, 4]
            assert [type(exception) for exception in told] == [ZeroDivisionError]

        run(main())
