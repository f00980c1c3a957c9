"""What a task may await and what becomes of it when it may not; how exceptions come out, and what they show."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest

from tests.core.kit import NewLoop, reports_of, turns


async def nothing() -> None: ...


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class Yield:
    """Awaiting it yields ``thing`` to the task."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self.thing)


class TestAwaiting:
    """What a coroutine may await, and what becomes of it when it may not."""

    def refused(self, loop: asyncio.AbstractEventLoop, thing: object) -> str:
        async def main() -> str:
            try:
                await Yield(thing)
            except RuntimeError as error:
                return str(error)
            return "accepted"

        return loop.run_until_complete(main())

    def test_a_bad_yield(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self.refused(loop, 42) == "Task got bad yield: 42"
        assert self.refused(loop, object).startswith("Task got bad yield: <class 'object'>")
        assert self.refused(loop, nothing).startswith("Task got bad yield: <function nothing")

    def test_a_generator(self, loop: asyncio.AbstractEventLoop) -> None:
        text = self.refused(loop, (number for number in range(3)))
        assert text.startswith("yield was used instead of yield from for generator in task <Task pending")

    def test_a_future_that_was_yielded(self, loop: asyncio.AbstractEventLoop) -> None:
        text = self.refused(loop, loop.create_future())
        assert text.startswith("yield was used instead of yield from in task <Task pending")

    def test_a_future_of_another_loop(self, loop: asyncio.AbstractEventLoop, new_loop: NewLoop) -> None:
        other = new_loop()
        try:

            async def main() -> None:
                await other.create_future()

            with pytest.raises(RuntimeError, match=r"Task .* got Future .* attached to a different loop"):
                loop.run_until_complete(main())
        finally:
            other.close()

    def test_itself(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            await task

        with pytest.raises(RuntimeError, match="Task cannot await on itself: <Task pending"):
            loop.run_until_complete(main())

    def test_the_error_can_be_survived(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> str:
            for thing in (1, loop.create_future(), asyncio.current_task()):
                with pytest.raises(RuntimeError):
                    await Yield(thing)
            await asyncio.sleep(0)
            return "alive"

        assert loop.run_until_complete(main()) == "alive"

    def test_a_cancel_beats_the_refusal(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await Yield(42)

        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(main())

    @pytest.mark.parametrize("make", [asyncio.Future, lambda loop: loop.create_task(asyncio.sleep(0))])
    def test_a_subclass_of_future(self, loop: asyncio.AbstractEventLoop, make: Callable[..., Any]) -> None:
        class Mine(asyncio.Future):  # type: ignore[type-arg]
            pass

        async def main() -> Any:
            future = Mine()
            loop.call_soon(future.set_result, "mine")
            return await future

        assert loop.run_until_complete(main()) == "mine"


class Foreign:
    """A future of foreign make, with what asyncio asks of one; ``broken`` names a method that raises."""

    _asyncio_future_blocking = False

    def __init__(self, loop: asyncio.AbstractEventLoop, broken: str = "") -> None:
        self.loop = loop
        self.broken = broken
        self.callbacks: list[Callable[[Any], object]] = []

    def check(self, method: str) -> None:
        if self.broken == method:
            raise LookupError(method)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        self.check("get_loop")
        return self.loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: contextvars.Context) -> None:
        self.check("add_done_callback")
        assert isinstance(context, contextvars.Context)
        self.callbacks.append(callback)

    def cancel(self, msg: Any = None) -> bool:
        self.check("cancel")
        self.loop.call_soon(self.finish)
        return True

    def result(self) -> str:
        self.check("result")
        return "foreign"

    def finish(self) -> None:
        """Calls its callbacks itself, as futures that know no ``call_soon`` do; from 3.14 on, in the loop only."""
        for callback in self.callbacks:
            callback(self)

    def __await__(self) -> Generator[Any, Any, str]:
        self._asyncio_future_blocking = True
        yield self
        return self.result()


class TestForeignFuture:
    async def wait(self, future: Foreign) -> str:
        return await future

    def test_is_awaited(self, loop: asyncio.AbstractEventLoop) -> None:
        future = Foreign(loop)
        loop.call_soon(loop.call_soon, future.finish)
        assert loop.run_until_complete(self.wait(future)) == "foreign"

    def test_its_result_may_raise(self, loop: asyncio.AbstractEventLoop) -> None:
        future = Foreign(loop, "result")
        loop.call_soon(loop.call_soon, future.finish)
        with pytest.raises(LookupError, match="result"):
            loop.run_until_complete(self.wait(future))

    def test_is_cancelled_with_the_task(self, loop: asyncio.AbstractEventLoop) -> None:
        future = Foreign(loop)
        task = loop.create_task(self.wait(future))
        turns(loop)
        assert task.cancel()
        assert loop.run_until_complete(task) == "foreign"
        assert task.cancelling() == 1

    def test_cancel_may_raise(self, loop: asyncio.AbstractEventLoop) -> None:
        future = Foreign(loop, "cancel")
        task = loop.create_task(self.wait(future))
        turns(loop)
        with pytest.raises(LookupError, match="cancel"):
            task.cancel()
        loop.call_soon(future.finish)
        assert loop.run_until_complete(task) == "foreign"

    @pytest.mark.parametrize("broken", ["get_loop", "add_done_callback"])
    def test_one_that_cannot_be_subscribed_to(self, loop: asyncio.AbstractEventLoop, broken: str) -> None:
        """The step fails: that is reported, once, and the loop goes on. (The task hangs, in asyncio as well.)"""
        reports = reports_of(loop)
        task = loop.create_task(self.wait(Foreign(loop, broken)))
        turns(loop, 2)
        assert [type(report["exception"]) for report in reports] == [LookupError]
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        reports.clear()
        loop.close()

    def test_one_that_calls_back_twice(self, loop: asyncio.AbstractEventLoop) -> None:
        future = Foreign(loop)
        task = loop.create_task(self.wait(future))
        turns(loop)
        reports = reports_of(loop)
        loop.call_soon(future.finish)
        turns(loop)
        assert task.done()
        loop.call_soon(future.finish)
        turns(loop)
        assert [type(report["exception"]) for report in reports] == [asyncio.InvalidStateError]
        assert task.result() == "foreign"

    def test_one_that_calls_back_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        """Inside ``add_done_callback``, while the step is still running: the task must survive it, or say why not."""

        class Hasty(Foreign):
            def add_done_callback(self, callback: Callable[[Any], object], *, context: contextvars.Context) -> None:
                loop.call_soon(callback, self)

        assert loop.run_until_complete(self.wait(Hasty(loop))) == "foreign"


class CoroutineLike(Coroutine[Any, Any, str]):
    """A coroutine that is no native one: Cython's and other compilers' are like this."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.thrown: list[BaseException] = []

    def send(self, value: object) -> Any:
        if not self.steps:
            raise StopIteration("made by hand")
        return self.steps.pop(0)

    def throw(self, error: Any, value: Any = None, trace: Any = None) -> Any:
        self.thrown.append(error)
        if not self.steps:
            raise StopIteration("after a throw")
        return self.steps.pop(0)

    def close(self) -> None: ...

    def __await__(self) -> Generator[Any, Any, str]:
        raise NotImplementedError


class TestCoroutines:
    def test_made_by_hand(self, loop: asyncio.AbstractEventLoop) -> None:
        assert loop.run_until_complete(loop.create_task(CoroutineLike(None, None))) == "made by hand"

    def test_that_end_by_a_throw(self, loop: asyncio.AbstractEventLoop) -> None:
        coroutine = CoroutineLike(None)
        task = loop.create_task(coroutine)
        turns(loop)
        task.cancel("why")
        assert loop.run_until_complete(task) == "after a throw"
        (error,) = coroutine.thrown
        assert isinstance(error, asyncio.CancelledError)
        assert error.args == ("why",)

    def test_that_run_already(self, loop: asyncio.AbstractEventLoop) -> None:
        coroutine = forever()
        task = loop.create_task(coroutine)
        turns(loop)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already|cannot reuse"):
            loop.run_until_complete(self.reuse(coroutine))
        task.cancel()
        turns(loop, 2)

    async def reuse(self, coroutine: Coroutine[Any, Any, None]) -> None:
        coroutine.send(None)
        await coroutine


class TestLeaving:
    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_leaves_the_loop_which_runs_again(self, loop: asyncio.AbstractEventLoop, kind: type[BaseException]) -> None:
        async def leave() -> None:
            await asyncio.sleep(0)
            raise kind("on purpose")

        async def other() -> str:
            for _ in range(10):
                await asyncio.sleep(0)
            return "the other one"

        task = loop.create_task(other())
        with pytest.raises(kind, match="on purpose"):
            loop.run_until_complete(leave())
        assert not loop.is_running()
        assert asyncio.current_task(loop) is None
        assert not task.done()
        assert loop.run_until_complete(task) == "the other one"

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_is_the_result_as_well(self, loop: asyncio.AbstractEventLoop, kind: type[BaseException]) -> None:
        async def leave() -> None:
            raise kind

        task = loop.create_task(leave())
        with pytest.raises(kind):
            loop.run_forever()
        assert task.done()
        with pytest.raises(kind):
            task.result()


def frames(error: BaseException | None) -> list[str]:
    """The files of the traceback and of those chained to it."""
    names: list[str] = []
    while error is not None:
        names += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        error = error.__context__
    return names


class TestTracebacks:
    """A user's traceback shows the user's code, and asyncio's; how a task is stepped is not their business."""

    async def fail(self) -> None:
        raise LookupError

    async def caught(self, awaitable: Awaitable[Any]) -> BaseException:
        try:
            await awaitable
        except BaseException as error:
            return error
        raise AssertionError

    def check(self, error: BaseException) -> None:
        assert [name for name in frames(error) if "weft/" in name and "/tests/" not in name] == []
        assert __file__ in frames(error)

    def test_of_an_exception(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            self.check(await self.caught(asyncio.create_task(self.fail())))
            task = asyncio.create_task(self.fail())
            await asyncio.wait([task])
            for _ in range(3):
                self.check(await self.caught(task))

        loop.run_until_complete(main())

    def test_of_a_cancellation(self, loop: asyncio.AbstractEventLoop) -> None:
        async def cancelled() -> asyncio.Task[None]:
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            task.cancel()
            return task

        async def main() -> None:
            self.check(await self.caught(await cancelled()))
            task = await cancelled()
            await asyncio.wait([task])
            self.check(await self.caught(task))

        loop.run_until_complete(main())

    @pytest.mark.parametrize("method", ["result", "exception"])
    def test_of_asking(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        async def main() -> None:
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            for _ in range(2):
                with pytest.raises(asyncio.CancelledError) as caught:
                    getattr(task, method)()
                self.check(caught.value)

        loop.run_until_complete(main())

    def test_of_a_refusal(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check(loop.run_until_complete(self.caught(Yield(42))))
