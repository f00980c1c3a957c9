"""What a task is to others while it waits: the callback of its future, whatever the program has made of its loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import weft
from tests.core.kit import turns


async def wait_for(future: asyncio.Future[str]) -> str:
    return await future


class Recording(weft.EventLoop):
    """A loop whose program has its own ``call_soon``, which calls the callbacks itself."""

    seen = 0

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        def run() -> None:
            self.seen += 1
            callback(*args)

        # The step that a new task schedules is the loop's own affair.
        if args:
            return super().call_soon(run, context=context)
        return super().call_soon(callback, context=context)


class TestCallSoonOfTheProgram:
    def test_a_derived_loop(self) -> None:
        loop = Recording()
        try:
            assert self.woken(loop) == "came"
            assert loop.seen >= 1
        finally:
            loop.close()

    def test_one_put_on_a_loop(self) -> None:
        loop = weft.new_event_loop()
        seen = []
        general = loop.call_soon

        def call_soon(callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
            if not args:
                return general(callback, context=context)
            seen.append(callback)
            return general(lambda: callback(*args), context=context)

        loop.call_soon = call_soon  # type: ignore[assignment, method-assign]
        try:
            assert self.woken(loop) == "came"
            assert seen
        finally:
            del loop.call_soon
            loop.close()

    def woken(self, loop: asyncio.AbstractEventLoop) -> str:
        future: asyncio.Future[str] = loop.create_future()
        task = loop.create_task(wait_for(future))
        turns(loop)
        loop.call_later(0, future.set_result, "came")
        return loop.run_until_complete(asyncio.wait_for(task, 5))


class TestTheTaskAsCallback:
    def test_it_cannot_be_called(self, loop: asyncio.AbstractEventLoop) -> None:
        future: asyncio.Future[str] = loop.create_future()
        task = loop.create_task(wait_for(future))
        turns(loop)
        assert not callable(task)
        future.set_result("came")
        assert loop.run_until_complete(task) == "came"

    def test_it_is_no_callback_for_others(self) -> None:
        loop = weft.new_event_loop()
        try:
            future: asyncio.Future[str] = loop.create_future()
            other: asyncio.Future[str] = loop.create_future()
            task = loop.create_task(wait_for(future))
            turns(loop)
            for arguments in ((), (other,), (None,)):
                with pytest.raises(TypeError, match="callable"):
                    loop.call_soon(task, *arguments)  # type: ignore[arg-type]
            assert not task.done()
            future.set_result("came")
            assert loop.run_until_complete(task) == "came"
            with pytest.raises(TypeError, match="callable"):
                loop.call_soon(task, future)  # type: ignore[arg-type]
        finally:
            loop.close()

    def test_tasks_of_a_derived_class(self) -> None:
        class Mine(weft.Task[str]):
            pass

        loop = weft.new_event_loop()
        try:
            future: asyncio.Future[str] = loop.create_future()
            task = Mine(wait_for(future), loop=loop)
            turns(loop)
            assert "cb=[Task.task_wakeup()]" in repr(task)
            future.set_result("came")
            turns(loop, 1)
            assert task.result() == "came"
        finally:
            loop.close()


class TestTheState:
    def test_other_objects_have_none(self) -> None:
        with pytest.raises(TypeError, match="int object is no weft.Task"):
            weft.Task.cancelling(3)  # type: ignore[arg-type]

    def test_a_task_is_started_once(self) -> None:
        loop = weft.new_event_loop()
        try:
            future: asyncio.Future[str] = loop.create_future()
            task = loop.create_task(wait_for(future))
            second = wait_for(future)
            with pytest.raises(RuntimeError, match="was started already"):
                task.__init__(second, loop=loop)  # type: ignore[misc]
            second.close()
            turns(loop)
            future.set_result("came")
            assert loop.run_until_complete(task) == "came"
        finally:
            loop.close()

    def test_nothing_is_left_of_a_task(self) -> None:
        loop = weft.new_event_loop()
        try:
            future: asyncio.Future[str] = loop.create_future()
            task = loop.create_task(wait_for(future))
            turns(loop)
            future.set_result("came")
            turns(loop)
            gone, coroutine = weakref.ref(task), weakref.ref(task.get_coro())
            del task, future
            gc.collect()
            assert gone() is None
            assert coroutine() is None
        finally:
            loop.close()


class TestARush:
    """The stores grow with what they hold and are made smaller again: nothing is lost or changes places."""

    @pytest.mark.parametrize("size", [5_000, 70_000])
    def test_callbacks(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        ran: list[int] = []

        def both(number: int) -> None:
            ran.append(number)
            if number % 7 == 0:
                loop.call_soon(ran.append, -number)

        for number in range(size):
            loop.call_soon(both, number)
        turns(loop, 4)
        assert ran == [*range(size), *(-number for number in range(0, size, 7))]

    def test_timers(self, loop: asyncio.AbstractEventLoop) -> None:
        fired: list[int] = []
        start, size = loop.time() - 100, 20_000
        order = [number * 7919 % size for number in range(size)]
        handles = [loop.call_at(start + number / size, fired.append, number) for number in order]
        for handle, number in zip(handles, order, strict=True):
            if number % 10:
                handle.cancel()
        turns(loop, 3)
        assert fired == list(range(0, size, 10))
