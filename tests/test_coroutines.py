"""``@weft.coroutine``: a generator function that tasks, ``await`` and ``yield from`` take, on weft and on asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Generator
from typing import Any

import pytest

import weft


async def answer(value: Any, turns: int = 1) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def failing() -> None:
    await asyncio.sleep(0)
    raise LookupError("from below")


@weft.coroutine
def noop() -> Generator[Any, Any, str]:
    yield
    return "done"


class TestWaiting:
    def test_each_way_to_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        future = loop.create_future()
        loop.call_later(0, future.set_result, "future")

        @weft.coroutine
        def main() -> Generator[Any, Any, list[Any]]:
            return [
                (yield answer("coroutine")),
                (yield asyncio.ensure_future(answer("task"))),
                (yield future),
                (yield noop()),
                (yield asyncio.gather(answer(1), answer(2, turns=3))),
                (yield from answer("yield from")),  # type: ignore[misc]
                (yield from future),
                (yield from noop()),  # type: ignore[misc]  # mypy does not know it of any coroutine
            ]

        assert loop.run_until_complete(main()) == [
            "coroutine", "task", "future", "done", [1, 2], "yield from", "future", "done",
        ]  # fmt: skip

    def test_a_bare_yield_gives_way_for_one_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        turns: list[str] = []

        @weft.coroutine
        def count(name: str) -> Generator[Any, Any, None]:
            for number in range(3):
                turns.append(f"{name}{number}")
                assert (yield) is None

        async def main() -> None:
            await asyncio.gather(count("a"), count("b"))

        loop.run_until_complete(main())
        assert turns == ["a0", "b0", "a1", "b1", "a2", "b2"]

    def test_in_a_task(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(noop())
        assert loop.run_until_complete(task) == "done"

    def test_recursion(self, loop: asyncio.AbstractEventLoop) -> None:
        @weft.coroutine
        def factorial(number: int) -> Generator[Any, Any, int]:
            yield
            return 1 if number < 2 else number * (yield factorial(number - 1))

        assert loop.run_until_complete(factorial(20)) == 2432902008176640000

    def test_no_result_and_no_yield_reached(self, loop: asyncio.AbstractEventLoop) -> None:
        @weft.coroutine
        def main(go: bool) -> Generator[Any, Any, None]:
            if go:
                yield

        assert loop.run_until_complete(main(False)) is None

    def test_methods_and_arguments(self, loop: asyncio.AbstractEventLoop) -> None:
        class Adder:
            base = 40

            @weft.coroutine
            def add(self, number: int, *, twice: bool = False) -> Generator[Any, Any, int]:
                """Add."""
                yield
                return self.base + number * (1 + twice)

        assert loop.run_until_complete(Adder().add(1, twice=True)) == 42
        assert Adder.add.__doc__ == "Add."
        with pytest.raises(TypeError, match="nonsense"):
            loop.run_until_complete(Adder().add(1, nonsense=True))  # type: ignore[call-arg]

    def test_context_variables(self, loop: asyncio.AbstractEventLoop) -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

        @weft.coroutine
        def main() -> Generator[Any, Any, int]:
            variable.set(1)
            yield
            yield answer(None)
            return variable.get()

        assert loop.run_until_complete(main()) == 1
        assert variable.get() == 0


class TestErrors:
    def test_arrive_at_the_yield(self, loop: asyncio.AbstractEventLoop) -> None:
        caught: list[BaseException] = []

        @weft.coroutine
        def main() -> Generator[Any, Any, str]:
            for awaitable in (failing(), asyncio.ensure_future(failing())):
                try:
                    yield awaitable
                except LookupError as error:
                    caught.append(error)
            try:
                yield from failing()  # type: ignore[misc]
            except LookupError as error:
                caught.append(error)
            return "went on"

        async def run() -> str:
            return await main()

        assert loop.run_until_complete(run()) == "went on"
        assert [str(error) for error in caught] == ["from below"] * 3

    def test_leave_by_the_await(self, loop: asyncio.AbstractEventLoop) -> None:
        @weft.coroutine
        def main() -> Generator[Any, Any, None]:
            yield
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine") as raised:
            loop.run_until_complete(main())
        assert raised.traceback[-1].name == "main"

    def test_cancellation_arrives_inside(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[str] = []

        @weft.coroutine
        def main(how: str) -> Generator[Any, Any, None]:
            try:
                if how == "future":
                    yield loop.create_future()
                elif how == "from":
                    yield from loop.create_future()
                while True:
                    yield
            except asyncio.CancelledError:
                seen.append(how)
                yield answer(None)  # there is time to tidy up
                seen.append("tidied up")
                raise

        async def run() -> None:
            for how in ("future", "from", "bare"):
                task = asyncio.ensure_future(main(how))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert task.cancelled()

        loop.run_until_complete(run())
        assert seen == ["future", "tidied up", "from", "tidied up", "bare", "tidied up"]

    def test_what_is_awaited_is_cancelled(self, loop: asyncio.AbstractEventLoop) -> None:
        future = loop.create_future()

        @weft.coroutine
        def main() -> Generator[Any, Any, None]:
            yield future

        async def run() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(main(), 0.001)

        loop.run_until_complete(run())
        assert future.cancelled()

    def test_closing(self) -> None:
        seen: list[str] = []

        @weft.coroutine
        def main() -> Generator[Any, Any, None]:
            try:
                yield
            finally:
                seen.append("closed")

        coroutine = main()
        coroutine.send(None)
        coroutine.close()
        assert seen == ["closed"]

    @pytest.mark.parametrize(
        ("thing", "remedy"),
        [
            (42, "yield an awaitable, or nothing"),
            ("text", "yield an awaitable, or nothing"),
            ([], "yield an awaitable, or nothing"),
            (answer, "call it"),
            ((turn for turn in range(1)), "decorate its function"),
        ],
    )
    def test_what_cannot_be_awaited(self, loop: asyncio.AbstractEventLoop, thing: Any, remedy: str) -> None:
        """It is told at the ``yield``, where it can even be caught."""

        @weft.coroutine
        def main() -> Generator[Any, Any, str]:
            with pytest.raises(TypeError, match=rf"main\(\) yielded .* cannot be awaited; {remedy}"):
                yield thing
            yield
            return "went on"

        assert loop.run_until_complete(main()) == "went on"

    @pytest.mark.filterwarnings("ignore:coroutine 'noop' was never awaited:RuntimeWarning")
    def test_never_awaited(self) -> None:
        with pytest.warns(RuntimeWarning, match="coroutine 'noop' was never awaited"):
            _ = noop()
            del _


class TestDecorating:
    def test_makes_a_coroutine_function(self) -> None:
        assert inspect.iscoroutinefunction(noop)
        coroutine = noop()
        assert asyncio.iscoroutine(coroutine)
        assert "noop" in repr(coroutine)
        coroutine.close()

    @pytest.mark.parametrize(
        ("thing", "remedy"),
        [
            (answer, "leave @weft.coroutine out"),
            (lambda: None, "no `yield`"),
            (print, "no `yield`"),
            ((turn for turn in range(1)), "decorate the function"),
            (42, "use it as a decorator"),
            (None, "use it as a decorator"),
        ],
    )
    def test_what_is_no_generator_function(self, thing: Any, remedy: str) -> None:
        with pytest.raises(TypeError, match=f"takes a generator function, not .*{remedy}"):
            weft.coroutine(thing)

    def test_an_async_generator_function(self) -> None:
        async def numbers() -> Any:
            yield 1

        with pytest.raises(TypeError, match="async for"):
            weft.coroutine(numbers)
