"""How tasks stay alive, end, and are let go of: strong references, cycles, memory, cancelling, and the loop's end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import weft
from tests.core.kit import NewLoop, reports_of, run_script, turns

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


class Thing:
    """Something that can be referred to weakly."""


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class TestAlive:
    @pytest.mark.weft_only
    def test_a_task_that_nobody_holds_finishes(self, new_loop: NewLoop) -> None:
        """asyncio keeps weak references, and loses such a task (gh-91887): future, callback and task are one cycle."""
        loop = new_loop()
        ended: list[int] = []

        async def work(index: int) -> None:
            future = Holder.future = loop.create_future()
            variable.set(future)
            Holder.future = None
            loop.call_soon(make_ready, weakref.ref(future))
            await future
            ended.append(index)

        class Holder:
            future: asyncio.Future[None] | None = None

        def make_ready(ref: weakref.ref[asyncio.Future[None]]) -> None:
            gc.collect()
            future = ref()
            assert future is not None
            future.set_result(None)

        for index in range(5):
            loop.create_task(work(index))
        turns(loop, 5)
        assert ended == list(range(5))
        loop.close()

    def test_a_task_that_waits_for_a_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        ended: list[int] = []

        async def work(index: int) -> None:
            await asyncio.sleep(0.001)
            gc.collect()
            ended.append(index)

        for index in range(5):
            loop.create_task(work(index))
        gc.collect()
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        assert ended == list(range(5))


class TestEnd:
    """What a task held is freed by reference counts alone, so that memory does not wait for the collector."""

    def ended(self, loop: asyncio.AbstractEventLoop, how: str) -> list[weakref.ref[Any]]:
        refs: list[weakref.ref[Any]] = []

        async def work() -> Thing:
            local, result = Thing(), Thing()
            refs.extend((weakref.ref(local), weakref.ref(result)))
            await asyncio.sleep(0)
            if how == "exception":
                raise LookupError
            if how in ("cancelled", "cancelled by message"):
                await loop.create_future()
            return result

        coroutine = work()
        refs.append(weakref.ref(coroutine))
        task = loop.create_task(coroutine)
        refs.append(weakref.ref(task))
        del coroutine
        turns(loop, 2)
        if how == "cancelled":
            task.cancel()
        elif how == "cancelled by message":
            task.cancel("why")
        turns(loop, 3)
        assert task.done()
        if how == "exception":
            task.exception()
        return refs

    @pytest.mark.parametrize("how", ["result", "exception", "cancelled", "cancelled by message"])
    def test_leaves_nothing(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        with no_collector():
            refs = self.ended(loop, how)
            turns(loop)  # a loop may hold its last task until it does something else
            if how != "result" and sys.version_info >= (3, 12):
                gc.collect()  # CPython's traceback, frame and coroutine are a cycle there
            assert [ref() for ref in refs] == [None] * len(refs)

    @pytest.mark.parametrize("how", ["result", "cancelled", "failed"])
    def test_cycles_through_a_task_are_collected(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        """The task in its own local, in its own context, or in its own exception: the collector must see it all."""
        refs: list[weakref.ref[Thing]] = []

        async def work() -> None:
            me, thing = asyncio.current_task(), Thing()
            refs.append(weakref.ref(thing))
            variable.set((me, thing))
            if how == "failed":
                raise LookupError
            if how == "cancelled":
                await loop.create_future()

        async def main() -> None:
            tasks = [asyncio.create_task(work()) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if how == "failed":
                assert all(task.exception() for task in tasks)

        loop.run_until_complete(main())
        turns(loop)
        gc.collect()
        assert [ref() for ref in refs] == [None] * 5

    def test_cycles_through_a_waiting_task_are_found(self, new_loop: NewLoop) -> None:
        """A loop that is dropped with tasks on it is garbage, tasks and all."""
        loop = new_loop()
        refs: list[weakref.ref[Any]] = []

        async def work() -> None:
            thing = Thing()
            variable.set((asyncio.current_task(), thing))
            refs.extend((weakref.ref(thing), weakref.ref(asyncio.get_running_loop())))
            await loop.create_future()  # noqa: F821

        task = loop.create_task(work())
        turns(loop)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        del task, loop
        gc.collect()
        assert [ref() for ref in refs] == [None, None]

    def test_memory_of_many(self, new_loop: NewLoop) -> None:
        """A hundred thousand tasks of every end leave no objects behind."""
        loop = new_loop()
        loop.set_exception_handler(lambda *_: None)

        async def work(how: int) -> None:
            await asyncio.sleep(0)
            if how == 1:
                raise LookupError
            if how == 2:
                await loop.create_future()

        async def batch(count: int) -> None:
            tasks = [asyncio.create_task(work(index % 3)) for index in range(count)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in tasks[2::3]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        loop.run_until_complete(batch(300))
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(20):
            loop.run_until_complete(batch(5000 if isinstance(loop, weft.EventLoop) else 300))
        gc.collect()
        assert len(gc.get_objects()) < before + 200
        loop.close()


class TestClose:
    def reports(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> list[str]:
        loop.close()
        gc.collect()
        return [record.getMessage() for record in caplog.records]

    def test_says_which_tasks_it_destroys(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            await loop.create_future()

        started = loop.create_task(work(), name="started")
        turns(loop)
        del started
        (line,) = self.reports(loop, caplog)
        assert line.startswith("Task was destroyed but it is pending!\ntask: <Task pending name='started' coro=<")

    @pytest.mark.weft_only
    def test_with_very_many_tasks(self, new_loop: NewLoop, caplog: pytest.LogCaptureFixture) -> None:
        loop = new_loop()
        caplog.set_level(logging.CRITICAL, logger="asyncio")
        reports = reports_of(loop)
        closed: list[int] = []

        async def work(index: int) -> None:
            try:
                await loop.create_future()  # noqa: F821
            finally:
                closed.append(index)

        for index in range(10_000):
            loop.create_task(work(index))
        turns(loop)
        ref = weakref.ref(loop)
        loop.close()
        gc.collect()
        assert [report["message"] for report in reports] == ["Task was destroyed but it is pending!"] * 10_000
        reports.clear()  # each names its task, and so its coroutine and the loop
        del loop
        gc.collect()
        assert len(closed) == 10_000
        assert ref() is None

    def test_a_task_survives_its_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Every method still answers on a task whose loop was closed under it."""

        async def work() -> None:
            await loop.create_future()

        task = loop.create_task(work(), name="left over")
        turns(loop)
        loop.close()
        assert not task.done()
        assert not task.cancelled()
        assert "left over" in repr(task)
        assert task.cancelling() == 0
        assert task.uncancel() == 0
        assert isinstance(task.get_stack(), list)
        with pytest.raises(asyncio.InvalidStateError):
            task.result()
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    def test_cancelling_a_task_of_a_closed_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        async def work() -> None:
            await loop.create_future()

        task = loop.create_task(work())
        turns(loop)
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        try:
            task.cancel()
        except RuntimeError as error:
            assert "Event loop is closed" in str(error)

    def test_a_coroutine_that_uses_the_loop_as_it_dies(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The coroutine of a destroyed task is closed: its ``finally`` meets a closed loop, and that is an error of its own."""  # noqa: E501
        errors: list[BaseException] = []

        async def work() -> None:
            try:
                await loop.create_future()
            finally:
                for call in (lambda: loop.call_soon(print), lambda: loop.call_later(1, print), loop.stop, loop.time):
                    try:
                        call()
                    except RuntimeError as error:
                        errors.append(error)

        task = loop.create_task(work())
        turns(loop)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task
        loop.close()
        gc.collect()
        assert [str(error) for error in errors] == ["Event loop is closed"] * 2


class TestCancel:
    def test_before_the_start(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []

        async def work() -> None:
            ran.append(1)

        task = loop.create_task(work())
        assert task.cancel("early")
        with pytest.raises(asyncio.CancelledError, match="early"):
            loop.run_until_complete(task)
        assert not ran
        assert task.cancelling() == 1

    def test_after_the_end_forgives_the_exception(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever cancels a task does not want its exception: no "never retrieved"."""

        async def fail() -> None:
            raise LookupError

        task = loop.create_task(fail())
        turns(loop)
        assert not task.cancel()
        del task
        turns(loop)
        gc.collect()
        assert not caplog.records

    def test_never_retrieved(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
        async def fail() -> None:
            raise LookupError("forgotten")

        task = loop.create_task(fail(), name="the task")
        turns(loop)
        del task
        turns(loop)
        gc.collect()
        (record,) = caplog.records
        assert record.getMessage().startswith(
            "Task exception was never retrieved\nfuture: <Task finished name='the task'"
        )
        caplog.clear()

    def test_two_that_wait_for_each_other(self) -> None:
        """asyncio refuses by RecursionError; in no case may the stack run over."""
        run_script(
            """
            import asyncio, weft
            async def main():
                tasks = []
                async def wait(other): await tasks[other]
                tasks += [asyncio.create_task(wait(1)), asyncio.create_task(wait(0))]
                await asyncio.sleep(0)
                try:
                    tasks[0].cancel()
                except RecursionError:
                    pass
                for task in tasks:
                    task._log_destroy_pending = False
            loop = weft.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            """
        )

    def test_a_very_long_chain(self) -> None:
        """A hundred thousand tasks, each awaiting the one before it, cancelled at the end that waits for all."""
        run_script(
            """
            import asyncio, weft
            async def wait(other): await other
            async def main():
                last = asyncio.get_running_loop().create_future()
                for _ in range(100_000):
                    last = asyncio.create_task(wait(last))
                await asyncio.sleep(0)
                try:
                    last.cancel()
                except RecursionError:
                    return
                for _ in range(100_010):
                    if last.done(): break
                    await asyncio.sleep(0)
                assert last.cancelled()
            loop = weft.new_event_loop()
            loop.set_exception_handler(lambda *_: None)
            loop.run_until_complete(main())
            loop.close()
            """
        )


class TestSpawningInTheMiddleOfASpawn:
    """Making a task runs Python: names that are objects, the registry's WeakSet, destructors. That may make tasks."""

    def test_by_the_name(self, loop: asyncio.AbstractEventLoop) -> None:
        order: list[str] = []

        async def work(name: str) -> None:
            for _ in range(3):
                order.append(name)
                await asyncio.sleep(0)

        class Name:
            def __str__(self) -> str:
                inner.append(loop.create_task(work("inner")))
                return "a name"

        async def main() -> None:
            outer = loop.create_task(work("outer"), name=Name())  # type: ignore[arg-type]
            assert outer.get_name() == "a name"
            await asyncio.gather(outer, *inner)

        inner: list[asyncio.Task[None]] = []
        reports = reports_of(loop)
        loop.run_until_complete(main())
        assert sorted(order) == ["inner"] * 3 + ["outer"] * 3
        assert not reports

    def test_by_a_name_that_fails(self, loop: asyncio.AbstractEventLoop) -> None:
        class Name:
            def __str__(self) -> str:
                raise LookupError

        async def work() -> str:
            return "done"

        coroutine = work()
        with pytest.raises(LookupError):
            loop.create_task(coroutine, name=Name())  # type: ignore[arg-type]
        coroutine.close()
        assert loop.run_until_complete(loop.create_task(work())) == "done"
        gc.collect()
        assert asyncio.all_tasks(loop) == set()

    def test_by_destructors(self, loop: asyncio.AbstractEventLoop) -> None:
        """As clients do that close themselves when they are collected, which may be at any allocation."""
        made: list[asyncio.Task[None]] = []
        reports = reports_of(loop)
        counts = {"outer": 0, "inner": 0}

        async def work(name: str) -> None:
            await asyncio.sleep(0)
            counts[name] += 1

        class Cycle:
            busy = False

            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                if not Cycle.busy:
                    Cycle.busy = True
                    made.append(loop.create_task(work("inner")))
                    Cycle.busy = False

        async def main() -> None:
            threshold = gc.get_threshold()
            gc.set_threshold(5, 5, 5)
            try:
                for _ in range(300):
                    Cycle()
                    made.append(asyncio.create_task(work("outer")))
            finally:
                gc.set_threshold(*threshold)
            Cycle.busy = True
            done, pending = await asyncio.wait(made, timeout=20)
            assert not pending

        loop.run_until_complete(main())
        assert counts["outer"] == 300
        assert counts["inner"] > 10
        assert not reports
        gc.collect()


class TestCallbacks:
    def test_run_in_order_in_the_next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        order: list[Any] = []
        add: Callable[..., None] = order.append

        async def work() -> None: ...

        task = loop.create_task(work())
        for index in range(4):
            task.add_done_callback(lambda _, index=index: add(index))  # type: ignore[misc]
        removed = lambda _: add("removed")  # noqa: E731
        task.add_done_callback(removed)
        task.add_done_callback(removed)
        assert task.remove_done_callback(removed) == 2
        turns(loop)
        assert task.done()
        assert order == []
        task.add_done_callback(lambda _: add("late"))
        turns(loop)
        assert order == [0, 1, 2, 3, "late"]

    def test_a_callback_that_fails_is_reported(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)

        async def work() -> None: ...

        task = loop.create_task(work())
        task.add_done_callback(lambda _: divmod(1, 0))
        task.add_done_callback(lambda task: task.get_loop().stop())
        loop.run_forever()
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
