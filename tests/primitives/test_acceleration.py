"""``weft.accelerate()``: everything in its place, for as long as it is asked for, and nothing else harmed."""

from __future__ import annotations

import asyncio
import sys
from asyncio import Queue as QueueByName
from collections.abc import Callable
from typing import Any

import pytest

import weft
from weft.primitives import CLASSES, FUNCTIONS

Run = Callable[[Any], Any]


class Old(asyncio.Queue[object]):
    """Derived before any acceleration."""

    def _put(self, item: object) -> None:
        super()._put([item])


def modules_with(function: Any) -> list[str]:
    """Where in asyncio a function stands under its name."""
    return sorted(
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "asyncio" and vars(module).get(function.__name__) is function
    )


class TestInForce:
    def test_classes_make_wefts(self) -> None:
        with weft.accelerate():
            for stock, ours in CLASSES.items():
                made = stock(1) if stock is asyncio.Timeout else stock()
                assert type(made) is ours
                assert isinstance(made, stock)
            queue: asyncio.Queue[int] = QueueByName(7)
            assert isinstance(queue, weft.Queue)
            assert queue.maxsize == 7
            assert asyncio.queues.Queue is asyncio.Queue is QueueByName

    def test_functions_are_wefts_wherever_asyncio_has_them(self) -> None:
        places = {stock: modules_with(stock) for stock in FUNCTIONS}
        assert "asyncio.tasks" in places[asyncio.sleep]
        with weft.accelerate():
            for stock, ours in FUNCTIONS.items():
                assert modules_with(ours) == places[stock]
                assert modules_with(stock) == []
        assert {stock: modules_with(stock) for stock in places} == places

    def test_subclasses_are_what_they_were(self, run: Run) -> None:
        with weft.accelerate():

            class New(asyncio.PriorityQueue[int]):
                def __init__(self, maxsize: int, note: str) -> None:
                    super().__init__(maxsize)
                    self.note = note

            old, new = Old(2), New(2, note="n")

            async def main() -> list[object]:
                await old.put(1)
                await new.put(2)
                await new.put(1)
                return [await old.get(), await new.get(), new.note]

            assert run(main()) == [[1], 1, "n"]
            assert (type(old), type(new)) == (Old, New)
        assert type(New(1, note="n")) is New  # made after it is over, by a class of the time before

    def test_what_was_made_before_works_on(self, run: Run) -> None:
        lock = asyncio.Lock()
        with weft.accelerate():
            assert isinstance(lock, asyncio.Lock)
            condition = asyncio.Condition(lock)

            async def main() -> bool:
                async with condition:
                    asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(tell()))
                    return bool(await condition.wait())

            async def tell() -> None:
                async with condition:
                    condition.notify()

            assert run(main())

    def test_asyncios_own_helpers_use_them(self, run: Run) -> None:
        with weft.accelerate():

            async def main() -> None:
                await asyncio.wait_for(asyncio.sleep(0, 1), 10)
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(barrier.wait())
                for one in asyncio.as_completed([asyncio.sleep(0)]):
                    await one
                await asyncio.shield(asyncio.sleep(0))
                await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])

            barrier = asyncio.Barrier(3)
            run(main())


class TestOver:
    def test_all_is_as_before(self) -> None:
        names = {cls: set(vars(cls)) for cls in CLASSES}
        for _ in range(3):
            with weft.accelerate():
                pass
        assert {cls: set(vars(cls)) for cls in CLASSES} == names
        for stock in CLASSES:
            made = stock(1) if stock is asyncio.Timeout else stock()
            assert type(made) is stock
        assert asyncio.Queue(3).maxsize == 3
        assert type(Old(3)) is Old
        assert type(weft.Queue(3)) is weft.Queue
        assert type(weft.BoundedSemaphore(3)) is weft.BoundedSemaphore

    def test_accelerations_nest(self) -> None:
        outer, inner = weft.accelerate(), weft.accelerate()
        assert repr(outer) == "<weft.accelerate(): in force>"
        outer.restore()
        outer.restore()  # a second time says nothing
        assert repr(outer) == "<weft.accelerate(): over>"
        assert asyncio.sleep is weft.sleep
        inner.restore()
        assert asyncio.sleep is not weft.sleep

    def test_what_somebody_else_has_put_there_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def own(delay: float) -> None: ...

        with weft.accelerate():
            monkeypatch.setattr(asyncio, "sleep", own)
        assert asyncio.sleep is own
        with weft.accelerate():
            assert asyncio.sleep is own
        assert asyncio.sleep is own

    def test_an_error_ends_it_too(self) -> None:
        with pytest.raises(ZeroDivisionError), weft.accelerate():
            raise ZeroDivisionError
        assert asyncio.sleep is not weft.sleep


class TestRun:
    def test_run_is_told(self) -> None:
        async def main() -> bool:
            return asyncio.sleep is weft.sleep

        assert weft.run(main(), accelerate=True)
        assert not weft.run(main())

    def test_what_is_not_faster_is_asyncios_own(self) -> None:
        for name in ("wait", "wait_for", "as_completed", "shield", "TaskGroup", "Barrier"):
            assert getattr(weft, name) is getattr(asyncio, name)
