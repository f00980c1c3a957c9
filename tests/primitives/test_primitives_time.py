"""``sleep``, ``gather``, ``timeout`` and ``timeout_at``: what asyncio promises of them, of asyncio's and of weft's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

import weft
from tests.core.kit import NewLoop, turns, virtual_loop
from weft import versions

Run = Callable[[Any], Any]


class Boom(Exception):
    pass


async def fail(after: int = 0) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    raise Boom


async def value(what: object, after: int = 0) -> object:
    for _ in range(after):
        await asyncio.sleep(0)
    return what


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class TestSleep:
    def test_the_result(self, lib: Any, run: Run) -> None:
        async def main() -> list[object]:
            return [await lib.sleep(0), await lib.sleep(0, "x"), await lib.sleep(-1, "y"), await lib.sleep(1e-4, "z")]

        assert run(main()) == [None, "x", "y", "z"]

    def test_none_is_one_turn(self, lib: Any, new_loop: NewLoop) -> None:
        loop = new_loop()
        task = loop.create_task(lib.sleep(0))
        turns(loop)
        assert not task.done()
        turns(loop)
        assert task.done()
        loop.close()

    def test_shorter_sleeps_end_first(self, lib: Any, run: Run) -> None:
        async def main() -> list[int]:
            order: list[int] = []

            async def one(number: int) -> None:
                await lib.sleep(0.001 * number)
                order.append(number)

            await asyncio.gather(*(one(number) for number in (3, 1, 2, 0)))
            return order

        assert run(main()) == [0, 1, 2, 3]

    def test_what_is_no_delay(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(TypeError):
                await lib.sleep("1")
            with pytest.raises(TypeError):
                await lib.sleep(None)
            if versions.SLEEP_REFUSES_NAN:
                with pytest.raises(ValueError, match=r"Invalid delay: NaN \(not a number\)"):
                    await lib.sleep(math.nan)

        run(main())

    def test_outside_a_loop(self, lib: Any) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            lib.sleep(1).send(None)

    def test_cancelled(self, lib: Any, run: Run) -> None:
        async def main() -> tuple[object, ...]:
            task = asyncio.create_task(lib.sleep(1000))
            await asyncio.sleep(0)
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            return caught.value.args

        assert run(main()) == ("enough",)

    @pytest.mark.weft_only
    def test_a_loop_that_keeps_time_its_own_way_is_asked(self) -> None:
        asked = []

        class Recording(weft.EventLoop):
            def call_later(self, delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]
                asked.append(delay)
                return super().call_later(0, *args, **options)

        loop = Recording()
        loop.run_until_complete(weft.sleep(1000))
        loop.close()
        assert asked == [1000]

    @pytest.mark.weft_only
    def test_on_the_virtual_clock(self) -> None:
        with virtual_loop() as loop:
            started = loop.time()
            loop.run_until_complete(weft.sleep(3600))
            assert loop.time() - started == pytest.approx(3600)


class TestGather:
    def test_results_in_the_order_of_the_arguments(self, lib: Any, run: Run) -> None:
        async def main() -> list[object]:
            future = asyncio.get_running_loop().create_future()
            future.set_result("f")
            twice = value("t", 1)
            return list(await lib.gather(value("a", 3), future, value("b"), twice, lib.sleep(0, "s"), twice))

        assert run(main()) == ["a", "f", "b", "t", "s", "t"]

    def test_nothing(self, lib: Any, run: Run) -> None:
        async def main() -> list[object]:
            return list(await lib.gather())

        assert run(main()) == []

    def test_the_first_error_and_the_others_run_on(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            slow = asyncio.create_task(value("slow", 5))
            with pytest.raises(Boom):
                await lib.gather(fail(1), slow, fail(2))
            assert not slow.done()
            assert await slow == "slow"

        run(main())

    def test_errors_as_results(self, lib: Any, run: Run) -> None:
        async def main() -> list[str]:
            gone = asyncio.create_task(forever())
            asyncio.get_running_loop().call_soon(gone.cancel, "why")
            return [repr(one) for one in await lib.gather(fail(), value(1), gone, return_exceptions=True)]

        assert run(main()) == ["Boom()", "1", "CancelledError('')"]

    def test_a_child_that_is_cancelled_is_an_error_of_the_outer(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            gone = asyncio.create_task(forever())
            outer = lib.gather(gone, value(1))
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert isinstance(outer, asyncio.Future)
            assert not outer.cancelled()  # it has the error as its exception

        run(main())

    @pytest.mark.parametrize("keeps", [False, True])
    def test_cancelled(self, lib: Any, run: Run, keeps: bool) -> None:
        async def main() -> None:
            children = [asyncio.create_task(forever()) for _ in range(3)]
            outer = lib.gather(*children, return_exceptions=keeps)
            await asyncio.sleep(0)
            assert outer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await outer
            await asyncio.sleep(0)
            assert all(child.cancelled() for child in children)
            assert not outer.cancel()

        run(main())

    def test_what_cannot_be_awaited(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            first = asyncio.create_task(value(1))
            with pytest.raises(TypeError, match="an awaitable"):
                lib.gather(first, 2)
            await first
            await asyncio.sleep(0)  # its callback finds no outer future

        run(main())

    def test_a_factory_of_the_programs(self, lib: Any, run: Run) -> None:
        async def main() -> int:
            made = []

            def factory(loop: Any, coro: Any, **options: Any) -> Any:
                made.append(coro)
                return asyncio.Task(coro, loop=loop, **options)

            asyncio.get_running_loop().set_task_factory(factory)
            await lib.gather(value(1), value(2))
            return len(made)

        assert run(main()) == 2

    @pytest.mark.skipif(not versions.EAGER_TASKS, reason="eager tasks came with 3.12")
    def test_children_that_end_at_once(self, lib: Any, run: Run) -> None:
        async def main() -> bool:
            asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - not in 3.11
            outer = lib.gather(value(1), value(2))
            done: bool = outer.done()
            assert await outer == [1, 2]
            return done

        assert run(main())

    def test_in_turns(self, lib: Any, new_loop: NewLoop) -> None:
        loop = new_loop()

        async def main() -> object:
            return await lib.gather(value(1), value(2, 1))

        task = loop.create_task(main())
        count = 0
        while not task.done():
            turns(loop)
            count += 1
        loop.close()
        assert count == 5


class TestTimeout:
    def test_in_time(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            async with lib.timeout(10) as limit:
                assert limit.when() > asyncio.get_running_loop().time()
                assert "[active] when=" in repr(limit)
            assert not limit.expired()
            assert repr(limit) == "<Timeout [finished]>"
            async with lib.timeout(None) as limit:
                assert limit.when() is None

        run(main())

    @pytest.mark.parametrize("delay", [-1, 0, 0.001])
    def test_too_late(self, lib: Any, run: Run, delay: float) -> None:
        async def main() -> None:
            with pytest.raises(TimeoutError) as caught:
                async with lib.timeout(delay) as limit:
                    await forever()
            assert limit.expired()
            assert isinstance(caught.value.__cause__, asyncio.CancelledError)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

        run(main())

    def test_nested(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            async with lib.timeout(10) as outer:
                with pytest.raises(TimeoutError):
                    async with lib.timeout(0.001):
                        await forever()
            assert not outer.expired()
            with pytest.raises(TimeoutError):
                async with lib.timeout_at(asyncio.get_running_loop().time()) as outer:
                    async with lib.timeout(10) as inner:
                        await forever()
            assert (outer.expired(), inner.expired()) == (True, False)

        run(main())

    def test_rescheduled(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with lib.timeout(0.002) as limit:
                for _ in range(20):
                    limit.reschedule(loop.time() + 1000)
                await asyncio.sleep(0.005)
                assert not limit.expired()
                limit.reschedule(None)
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="Cannot change state of finished Timeout"):
                limit.reschedule(1)
            with pytest.raises(TimeoutError):
                async with lib.timeout(None) as limit:
                    limit.reschedule(loop.time() + 0.001)
                    await forever()

        run(main())

    def test_misuse(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            limit = lib.timeout(10)
            with pytest.raises(RuntimeError, match="Timeout has not been entered"):
                limit.reschedule(1)
            async with limit:
                pass
            with pytest.raises(RuntimeError, match="Timeout has already been entered"):
                async with limit:
                    pass

        run(main())
        with pytest.raises(RuntimeError, match="no running event loop"):
            lib.timeout(1)

    def test_a_cancellation_from_outside_stays_one(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            async def limited() -> None:
                async with lib.timeout(1000):
                    await forever()

            task = asyncio.create_task(limited())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(main())

    def test_another_error_comes_out(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(Boom):
                async with lib.timeout(0.001):
                    try:
                        await forever()
                    finally:
                        raise Boom
            await asyncio.sleep(0)  # a cancellation that is left over would come here

        run(main())

    def test_outside_a_task(self, lib: Any, loop: asyncio.AbstractEventLoop) -> None:
        told: list[str] = []

        def callback() -> None:
            entering = lib.timeout(1).__aenter__()
            try:
                entering.send(None)
            except RuntimeError as error:
                told.append(str(error))

        loop.call_soon(callback)
        turns(loop)
        assert told == ["Timeout should be used inside a task"]
