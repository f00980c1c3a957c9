"""Whatever ends a run of ``weft.map`` on one loop leaves nothing; and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import weft
from tests.parallel.functions import square, square_soon
from tests.parallel.kit import Gate, list_of, others, settle

Run = Callable[[Coroutine[Any, Any, Any]], Any]


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

            task = asyncio.ensure_future(list_of(weft.map(stubborn, range(2))))
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

    def test_closed_before_it_has_begun(self, run: Run) -> None:
        async def main() -> None:
            async with weft.map(square_soon, range(100)) as results:
                pass
            assert [result async for result in results] == []
            assert others() == []

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
