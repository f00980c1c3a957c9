"""``weft.map`` on one loop: results, order, back-pressure, failures."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

import weft
from tests.parallel.functions import Session, pids_in, square, square_soon
from tests.parallel.kit import Gate, list_of, others, settle

Run = Callable[[Coroutine[Any, Any, Any]], Any]


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
            results = asyncio.ensure_future(list_of(weft.map(gate, range(20), concurrency=4, ordered=False)))
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


class TestFailures:
    def test_the_item_is_named(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(weft.MapError, match=r"item 2 \(0\) failed: ZeroDivisionError: ") as caught:
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
