"""``weft.Task``: everywhere an ``asyncio.Task``, to programs, to asyncio's own functions and to debuggers."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import io
import sys
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

import weft
from tests.core.kit import NewLoop, turns
from weft import TaskState
from weft.versions import EAGER_TASKS

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def nothing() -> None: ...


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def cancel_all(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestIdentity:
    def test_is_an_asyncio_task(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(nothing())
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert asyncio.isfuture(task)
        assert inspect.isawaitable(task)
        assert issubclass(weft.Task, asyncio.Task)
        assert task.get_loop() is loop
        loop.run_until_complete(task)

    @pytest.mark.weft_only
    def test_every_way_to_make_one(self, new_loop: NewLoop) -> None:
        loop = new_loop()

        async def main() -> list[asyncio.Future[None]]:
            async with asyncio.TaskGroup() as group:
                grouped = group.create_task(nothing())
            made = [asyncio.create_task(nothing()), asyncio.ensure_future(nothing()), weft.Task(nothing())]
            await asyncio.gather(*made)
            return [grouped, *made]

        made = loop.run_until_complete(main())
        assert [type(task) for task in made] == [weft.Task] * 4
        loop.close()

    def test_name(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            named = asyncio.create_task(nothing(), name="named")
            numbered = asyncio.create_task(nothing(), name=5)  # type: ignore[arg-type]
            unnamed = [asyncio.create_task(nothing()) for _ in range(2)]
            assert named.get_name() == "named"
            assert numbered.get_name() == "5"
            first, second = (int(task.get_name().removeprefix("Task-")) for task in unnamed)
            assert second == first + 1
            named.set_name("renamed")
            assert named.get_name() == "renamed"
            assert "name='renamed'" in repr(named)
            await asyncio.gather(named, numbered, *unnamed)

        loop.run_until_complete(main())

    def test_coroutine_and_context(self, loop: asyncio.AbstractEventLoop) -> None:
        context = contextvars.Context()
        coroutine = nothing()
        task = loop.create_task(coroutine, context=context)
        assert task.get_coro() is coroutine
        if sys.version_info >= (3, 12):
            assert task.get_context() is context
        loop.run_until_complete(task)

    def test_repr(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            task = asyncio.create_task(forever(), name="it")
            assert repr(task).startswith("<Task pending name='it' coro=<forever() running at ")
            await asyncio.sleep(0)
            assert "wait_for=<Future pending cb=[Task.task_wakeup()]>" in repr(task)
            waiting = asyncio.create_task(asyncio.wait([task]))
            await asyncio.sleep(0)
            assert "cb=[_wait.<locals>._on_completion() at " in repr(task)
            task.cancel()
            assert repr(task).startswith("<Task cancelling name='it' ")
            await waiting
            assert repr(task).startswith("<Task cancelled name='it' ")
            done = asyncio.create_task(asyncio.sleep(0, "result"), name="done")
            await done
            assert repr(done).startswith("<Task finished name='done' ")
            assert repr(done).endswith("result='result'>")

        loop.run_until_complete(main())

    def test_stack(self, loop: asyncio.AbstractEventLoop) -> None:
        async def inner() -> None:
            await forever()

        async def fail() -> None:
            raise LookupError("on purpose")

        async def main() -> None:
            task, failed = asyncio.create_task(inner()), asyncio.create_task(fail())
            assert [frame.f_code.co_name for frame in task.get_stack()] == ["inner"]
            await asyncio.sleep(0)
            assert [frame.f_code.co_name for frame in task.get_stack()] == ["inner"]
            text = io.StringIO()
            task.print_stack(file=text)
            assert "await forever()" in text.getvalue()
            assert [frame.f_code.co_name for frame in failed.get_stack()] == ["fail"]
            text = io.StringIO()
            failed.print_stack(file=text)
            assert "LookupError: on purpose" in text.getvalue()
            await cancel_all(task, failed)
            assert task.get_stack() == []

        loop.run_until_complete(main())

    def test_results_cannot_be_set(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(nothing())
        with pytest.raises(RuntimeError, match="set_result"):
            task.set_result(None)
        with pytest.raises(RuntimeError, match="set_exception"):
            task.set_exception(ValueError())
        with pytest.raises(asyncio.InvalidStateError):
            task.result()
        with pytest.raises(asyncio.InvalidStateError):
            task.exception()
        loop.run_until_complete(task)

    def test_subclasses_work(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        base = weft.Task if isinstance(loop, weft.EventLoop) else asyncio.Task

        class Traced(base):  # type: ignore[valid-type, misc]
            cancelled_with: Any = None

            def cancel(self, msg: Any = None) -> bool:
                self.cancelled_with = msg
                return bool(super().cancel(msg))

        loop.set_task_factory(lambda loop, coro, **options: Traced(coro, loop=loop, **options))

        async def main() -> None:
            task = asyncio.create_task(forever())
            outer = asyncio.create_task(wait_for(task))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            outer.cancel("why")
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert task.cancelled()
            assert isinstance(task, Traced)
            assert task.cancelled_with == "why"

        async def wait_for(task: Awaitable[None]) -> None:
            await task

        loop.run_until_complete(main())
        loop.close()


@pytest.mark.weft_only
class TestState:
    def test_each(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        seen: list[TaskState] = []

        def state(task: asyncio.Future[Any]) -> TaskState:
            assert isinstance(task, weft.Task)
            return task.state

        async def look() -> None:
            task = asyncio.current_task()
            assert task is not None
            seen.append(state(task))
            nested = asyncio.create_task(nothing())
            seen.append(state(nested))
            await nested
            seen.append(state(nested))
            seen.append(state(task))

        async def fail() -> None:
            raise LookupError

        async def main() -> None:
            waiting = asyncio.create_task(forever())
            assert state(waiting) is TaskState.PENDING
            await asyncio.sleep(0)
            assert state(waiting) is TaskState.PENDING
            waiting.cancel()
            assert state(waiting) is TaskState.PENDING
            failed = asyncio.create_task(fail())
            await asyncio.gather(waiting, failed, return_exceptions=True)
            assert state(waiting) is TaskState.CANCELLED
            assert state(failed) is TaskState.DONE
            await look()

        loop.run_until_complete(main())
        assert seen == [TaskState.RUNNING, TaskState.PENDING, TaskState.DONE, TaskState.RUNNING]
        loop.close()

    def test_after_the_loop_was_left(self, new_loop: NewLoop) -> None:
        loop = new_loop()

        async def leave() -> None:
            raise KeyboardInterrupt

        task = loop.create_task(leave())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        assert isinstance(task, weft.Task)
        assert task.state is TaskState.DONE
        assert isinstance(task.exception(), KeyboardInterrupt)
        loop.close()

    def test_is_an_enum_for_people(self) -> None:
        assert [state.name for state in TaskState] == ["PENDING", "RUNNING", "DONE", "CANCELLED"]


class TestRegistry:
    def test_all_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            me = asyncio.current_task()
            others = {asyncio.create_task(forever()) for _ in range(3)}
            assert asyncio.all_tasks() == {me, *others}
            done = asyncio.create_task(nothing())
            await done
            assert asyncio.all_tasks() == {me, *others}
            await cancel_all(*others)
            assert asyncio.all_tasks() == {me}

        loop.run_until_complete(main())
        assert asyncio.all_tasks(loop) == set()

    def test_of_two_loops(self, new_loop: NewLoop) -> None:
        loops = [new_loop(), new_loop()]
        tasks = [loop.create_task(nothing()) for loop in loops]
        for loop, task in zip(loops, tasks, strict=True):
            assert asyncio.all_tasks(loop) == {task}
            loop.run_until_complete(task)
            loop.close()

    def test_from_another_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> int:
            task = asyncio.create_task(forever())
            counts: list[int] = []
            thread = threading.Thread(target=lambda: counts.append(len(asyncio.all_tasks(loop))))
            thread.start()
            thread.join()
            await cancel_all(task)
            return counts[0]

        assert loop.run_until_complete(main()) == 2


class TestCurrentTask:
    """asyncio's current task is this task from its first instruction to its last, and nothing's at any other time."""

    def test_in_a_step_and_out_of_it(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[tuple[str, str | None]] = []

        def look(where: str) -> None:
            task = asyncio.current_task(loop)
            seen.append((where, task and task.get_name()))  # type: ignore[arg-type]

        async def step(name: str) -> None:
            look(name)
            loop.call_soon(look, "call_soon")
            await asyncio.sleep(0)
            look(name)
            loop.call_later(0, look, "call_later")
            future = loop.create_future()
            future.add_done_callback(lambda _: look("done callback"))
            loop.call_soon(future.set_result, None)
            await future
            look(name)

        async def main() -> None:
            await asyncio.gather(*[asyncio.create_task(step(name), name=name) for name in ("a", "b", "c")])
            await asyncio.sleep(0.001)

        loop.run_until_complete(main())
        look("after the run")
        in_tasks = [(where, name) for where, name in seen if where in ("a", "b", "c")]
        assert len(in_tasks) == 9
        assert all(where == name for where, name in in_tasks)
        assert len(seen) == 9 + 3 + 3 + 3 + 1
        assert all(name is None for where, name in seen if where not in ("a", "b", "c"))

    def test_in_everything_that_is_no_step(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[Any] = []

        def look(*args: object) -> None:
            seen.append(asyncio.current_task(loop))

        class Result:
            def __del__(self) -> None:
                look()

        async def main() -> None:
            task = asyncio.create_task(asyncio.sleep(0, Result()))
            task.add_done_callback(look)
            await task
            loop.call_soon_threadsafe(look)
            loop.add_signal_handler(10, look)
            loop.remove_signal_handler(10)

        loop.run_until_complete(main())
        loop.call_soon(look)
        turns(loop, 2)
        assert seen
        assert [task for task in seen if task is not None and task.get_coro().__name__ != "main"] == []

    def test_after_a_step_that_raised(self, loop: asyncio.AbstractEventLoop) -> None:
        async def fail() -> None:
            raise LookupError

        async def leave() -> None:
            raise KeyboardInterrupt

        task = loop.create_task(fail())
        seen: list[Any] = []
        loop.call_soon(lambda: seen.append(asyncio.current_task(loop)))
        turns(loop)
        assert seen == [None]
        with pytest.raises(LookupError):
            task.result()
        leaving = loop.create_task(leave())
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert asyncio.current_task(loop) is None
        with pytest.raises(KeyboardInterrupt):
            leaving.result()

    def test_outside_of_a_loop(self) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.current_task()

    @pytest.mark.skipif(not EAGER_TASKS, reason="eager tasks came with 3.12")
    def test_nested_in_eager_steps(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        kind: Any = weft.Task if isinstance(loop, weft.EventLoop) else asyncio.Task
        seen: list[str] = []

        def look() -> None:
            task = asyncio.current_task()
            seen.append(task.get_name() if task else "none")

        async def nest(depth: int) -> None:
            look()
            if depth == 0:
                raise LookupError
            inner = kind(nest(depth - 1), name=f"depth {depth - 1}", eager_start=True, loop=loop)
            look()
            await inner

        async def main() -> None:
            with pytest.raises(LookupError):
                await kind(nest(2), name="depth 2", eager_start=True, loop=loop)
            look()
            loop.call_soon(lambda: tasks.append(kind(asyncio.sleep(0), eager_start=True, loop=loop)))
            loop.call_soon(look)
            await asyncio.sleep(0)
            await tasks[0]

        tasks: list[Any] = []
        loop.run_until_complete(loop.create_task(main(), name="main"))
        assert seen == ["depth 2", "depth 1", "depth 0", "depth 1", "depth 2", "main", "none"]
        loop.close()


class TestContext:
    def test_is_a_copy(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[str] = []

        async def child() -> None:
            seen.append(variable.get())
            variable.set("of the child")
            await asyncio.sleep(0)
            seen.append(variable.get())

        async def main() -> None:
            variable.set("of the parent")
            await asyncio.create_task(child())
            assert variable.get() == "of the parent"

        loop.run_until_complete(main())
        assert seen == ["of the parent", "of the child"]
        assert variable.get() == "unset"

    def test_done_callbacks_have_their_own(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[str] = []

        async def main() -> None:
            task = asyncio.create_task(nothing())
            variable.set("when it was added")
            task.add_done_callback(lambda _: seen.append(variable.get()))
            variable.set("later")
            await task
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        assert seen == ["when it was added"]

    def test_shared_by_two_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Two tasks in one context take turns in it, and each sees what the other has set."""
        seen: list[str] = []
        context = contextvars.Context()

        async def step(name: str) -> None:
            for _ in range(2):
                seen.append(variable.get())
                variable.set(name)
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(*[asyncio.create_task(step(name), context=context) for name in "ab"])

        loop.run_until_complete(main())
        assert seen == ["unset", "a", "b", "a"]

    def test_that_is_entered_already(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
        """A task cannot run in the context that its loop runs in: the log says so, and the loop goes on."""
        context = contextvars.Context()
        coroutine = nothing()
        task = loop.create_task(coroutine, context=context)
        ran: list[int] = []
        loop.call_soon(ran.append, 1)
        loop.call_soon(loop.stop)
        context.run(loop.run_forever)
        assert ran == [1]
        assert "is already entered" in caplog.text
        caplog.clear()
        assert not task.done()  # it can never run again, in asyncio neither
        coroutine.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()


class TestFactory:
    def test_gets_coroutine_and_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        made: list[Any] = []

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
            made.append(options)
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        context = contextvars.Context()
        loop.run_until_complete(loop.create_task(nothing(), name="named", context=context))
        loop.set_task_factory(None)
        assert loop.get_task_factory() is None
        assert made[0]["context"] is context

    def test_must_be_callable(self, loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(TypeError, match="task factory must be a callable or None"):
            loop.set_task_factory(1)  # type: ignore[arg-type]

    def test_an_unknown_argument_starts_nothing(self, loop: asyncio.AbstractEventLoop) -> None:
        coroutine = nothing()
        with pytest.raises(TypeError):
            loop.create_task(coroutine, colour="red")  # type: ignore[call-arg]
        assert asyncio.all_tasks(loop) == set()
        coroutine.close()

    def test_stock_tasks_and_ours_together(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tasks of asyncio's own class on a weft loop: they await ours, and ours await them."""
        order: list[tuple[str, bool]] = []

        async def step(name: str, awaited: Awaitable[Any] | None = None) -> str:
            for _ in range(3):
                await asyncio.sleep(0)
                task = asyncio.current_task()
                order.append((name, task is not None and task.get_name() == name))
            if awaited is not None:
                await awaited
            return name

        async def main() -> None:
            last: asyncio.Future[str] | None = None
            for index in range(6):
                if index % 2:
                    last = asyncio.Task(step(f"stock {index}", last), loop=loop, name=f"stock {index}")
                else:
                    last = loop.create_task(step(f"own {index}", last), name=f"own {index}")
            assert last is not None
            assert await last == "stock 5"
            first = asyncio.Task(step("stock", loop.create_task(forever())), loop=loop)
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

        loop.run_until_complete(main())
        assert len(order) == 18
        assert all(right for _, right in order)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        turns(loop, 2)
