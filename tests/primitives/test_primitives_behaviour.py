"""The primitives in the situations that random programs do not reach: other loops, subclasses, copies, words, leaks."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import re
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import weft
from tests.core.kit import NewLoop, turns, virtual_loop

Run = Callable[[Any], Any]

CLASSES = ["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Queue", "LifoQueue", "PriorityQueue"]


def waits(lib: Any) -> Iterator[tuple[Any, Callable[[], Any]]]:
    """Each primitive in a state in which somebody has to wait, and how to wait for it."""
    lock = lib.Lock()
    lock._locked = True
    yield lock, lock.acquire
    event = lib.Event()
    yield event, event.wait
    semaphore = lib.Semaphore(0)
    yield semaphore, semaphore.acquire
    queue = lib.Queue(1)
    yield queue, queue.get
    full = lib.Queue(1)
    full.put_nowait(1)
    yield full, lambda: full.put(2)
    yield full, full.join


class TestKind:
    """What the classes and what they return pass for."""

    @pytest.mark.parametrize("name", [*CLASSES, "Timeout"])
    def test_weft_derives_from_asyncio(self, name: str) -> None:
        ours, stock = getattr(weft, name), getattr(asyncio, name)
        assert ours is not stock
        assert issubclass(ours, stock)
        assert isinstance(ours(1) if name == "Timeout" else ours(), stock)

    def test_relations_among_them_are_asyncios(self) -> None:
        assert issubclass(weft.BoundedSemaphore, weft.Semaphore)
        assert issubclass(weft.PriorityQueue, weft.Queue)
        assert issubclass(weft.LifoQueue, weft.Queue)

    def test_queues_are_generic(self, lib: Any) -> None:
        assert lib.Queue[int].__args__ == (int,)

    @pytest.mark.parametrize("name", CLASSES)
    def test_what_is_no_parameter_is_refused_in_the_same_words(self, lib: Any, name: str) -> None:
        with pytest.raises(TypeError, match=r"\w+\.__init__\(\) got an unexpected keyword argument 'loop'"):
            getattr(lib, name)(loop=None)

    def test_waiting_makes_coroutines(self, lib: Any) -> None:
        for _, wait in waits(lib):
            waiting = wait()
            assert asyncio.iscoroutine(waiting)
            assert inspect.isawaitable(waiting)
            waiting.close()
        asyncio.run(self._sleeps(lib))

    async def _sleeps(self, lib: Any) -> None:
        sleeping = lib.sleep(0)
        assert asyncio.iscoroutine(sleeping)
        await sleeping

    def test_sleep_is_a_coroutine_function(self, lib: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # asyncio's goes in 3.16
            assert asyncio.iscoroutinefunction(lib.sleep)
        assert list(inspect.signature(lib.sleep).parameters) == ["delay", "result"]

    def test_who_never_awaits_is_told(self, lib: Any) -> None:
        for _, wait in waits(lib):
            with pytest.warns(RuntimeWarning, match="was never awaited"):
                wait()
        with pytest.warns(RuntimeWarning, match="coroutine 'sleep' was never awaited"):
            lib.sleep(1)

    def test_repr(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            lock, queue = lib.Lock(), lib.Queue(3)
            assert re.fullmatch(r"<\S+\.?Lock object at 0x\w+ \[unlocked\]>", repr(lock))
            async with lock:
                task = asyncio.create_task(lock.acquire())
                await asyncio.sleep(0)
                assert repr(lock).endswith("[locked, waiters:1]>")
            await task
            queue.put_nowait("x")
            assert str(queue) == "<Queue maxsize=3 _queue=['x'] tasks=1>"

        run(main())


class TestSubclasses:
    """Whoever derives from a primitive has its methods called as asyncio would call them."""

    def test_a_queue_with_a_store_of_its_own(self, lib: Any, run: Run) -> None:
        class Once(lib.Queue):  # type: ignore[misc]
            """Every item once, the longest first."""

            def _init(self, maxsize: int) -> None:
                self._queue: set[str] = set()

            def _put(self, item: str) -> None:
                self._queue.add(item)

            def _get(self) -> str:
                longest: str = max(self._queue, key=len)
                self._queue.remove(longest)
                return longest

        async def main() -> list[str]:
            queue = Once(3)
            getter = asyncio.create_task(queue.get())
            await asyncio.sleep(0)
            for item in ("a", "bb", "bb", "ccc"):
                await queue.put(item)
            return [await getter, await queue.get(), await queue.get()]

        assert run(main()) == ["ccc", "bb", "a"]

    def test_a_queue_that_counts(self, lib: Any, run: Run) -> None:
        class Counted(lib.Queue):  # type: ignore[misc]
            count = 0

            def put_nowait(self, item: object) -> None:
                self.count += 1
                super().put_nowait(item)

        async def main() -> int:
            queue = Counted()
            await queue.put(1)
            queue.put_nowait(2)
            count: int = queue.count
            return count

        assert run(main()) == 2

    def test_a_lock_that_tells(self, lib: Any, run: Run) -> None:
        calls = []

        class Telling(lib.Lock):  # type: ignore[misc]
            async def acquire(self) -> bool:
                calls.append("acquire")
                return bool(await super().acquire())

            def release(self) -> None:
                calls.append("release")
                super().release()

        async def main() -> None:
            lock = Telling()

            async def use() -> None:
                async with lock:
                    await asyncio.sleep(0)

            await asyncio.gather(use(), use())
            async with lib.Condition(lock):
                pass

        run(main())
        assert calls == ["acquire", "acquire", "release", "release", "acquire", "release"]

    def test_a_queue_whose_store_is_exchanged(self, lib: Any, run: Run) -> None:
        class Stack(list[int]):
            popleft = list.pop

        async def main() -> list[int]:
            queue = lib.Queue()
            queue._queue = Stack([1, 2])
            await queue.put(3)
            return [await queue.get(), queue.get_nowait(), queue.qsize()]

        assert run(main()) == [3, 2, 1]

    def test_the_private_parts_that_tools_look_at(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            queue = lib.Queue(1)
            queue.put_nowait(1)
            putter = asyncio.create_task(queue.put(2))
            await asyncio.sleep(0)
            assert len(queue._putters) == 1
            assert queue._unfinished_tasks == 1
            queue._queue.clear()
            assert queue.empty()
            queue._wakeup_next(queue._putters)  # as one who has taken something out by hand
            await putter
            assert queue.get_nowait() == 2
            queue._maxsize = 5
            assert queue.maxsize == 5
            semaphore = lib.Semaphore(2)
            semaphore._value -= 1
            await semaphore.acquire()
            assert semaphore.locked()

        run(main())


class TestLoops:
    """One object belongs to one loop, and need not know whose."""

    def test_another_loop_is_refused(self, lib: Any, new_loop: NewLoop) -> None:
        for subject, wait in waits(lib):
            first, second = new_loop(), new_loop()

            async def main(wait: Callable[[], Any] = wait) -> None:
                await asyncio.wait_for(wait(), 10)

            task = first.create_task(main())
            turns(first, 3)
            with pytest.raises(RuntimeError, match="is bound to a different event loop"):
                second.run_until_complete(main())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                first.run_until_complete(task)
            first.close()
            second.close()
            assert "waiters" not in repr(subject)

    def test_tasks_of_foreign_make(self, lib: Any, new_loop: NewLoop) -> None:
        loop = new_loop()
        python_task: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
        for make in (asyncio.Task, python_task):
            queue = lib.Queue(1)
            getter = make(queue.get(), loop=loop)
            turns(loop, 2)
            queue.put_nowait("item")
            turns(loop, 3)
            assert getter.result() == "item"
            cancelled = make(queue.get(), loop=loop)
            turns(loop, 2)
            cancelled.cancel()
            turns(loop, 3)
            assert cancelled.cancelled()
            assert not queue._getters
        loop.close()

    def test_a_loop_that_closes_on_those_who_wait(self, lib: Any, new_loop: NewLoop) -> None:
        loop = new_loop()
        tasks = [loop.create_task(wait()) for _, wait in waits(lib)]
        tasks += [loop.create_task(lib.sleep(1000))]
        turns(loop, 2)
        for task in tasks:
            task.cancel()
        turns(loop, 4)
        assert all(task.cancelled() for task in tasks)
        loop.close()

    @pytest.mark.weft_only
    def test_a_loop_that_is_closed_under_those_who_wait(self) -> None:
        loop = weft.new_event_loop()
        for _, wait in waits(weft):
            loop.create_task(wait())
        loop.create_task(weft.sleep(1000))
        turns(loop, 2)
        loop.close()  # what a coroutine lets out while it is closed would be an error of this test
        gc.collect()


class TestCopies:
    """As asyncio's can be copied, within what is deep-copied, say, while nobody waits."""

    @pytest.mark.parametrize("name", CLASSES)
    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
    def test_a_copy_works(self, lib: Any, run: Run, name: str, how: Callable[[Any], Any]) -> None:
        other = how(getattr(lib, name)())
        assert type(other) is getattr(lib, name)

        async def main() -> None:
            if name == "Event":
                other.set()
                await other.wait()
            elif "Queue" in name:
                await other.put(1)
                assert await other.get() == 1
            else:
                async with other:
                    assert other.locked()

        run(main())

    def test_the_state_is_copied(self, lib: Any) -> None:
        queue = lib.Queue(3)
        queue.put_nowait("x")
        other = copy.deepcopy(queue)
        assert other.get_nowait() == "x"
        assert (queue.qsize(), other.qsize(), other.maxsize) == (1, 0, 3)

    def test_nobody_may_wait(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            for subject, wait in waits(lib):
                task = asyncio.create_task(wait())
                await asyncio.sleep(0)
                with pytest.raises(TypeError, match=r"cannot (copy|pickle)"):
                    copy.deepcopy(subject)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        run(main())


class TestNothingIsKept:
    def test_after_a_cancellation(self, lib: Any, run: Run) -> None:
        async def main() -> None:
            for subject, wait in waits(lib):
                before = repr(subject)
                for _ in range(10):
                    tasks = [asyncio.create_task(wait()) for _ in range(5)]
                    await asyncio.sleep(0)
                    assert repr(subject) != before or wait == getattr(subject, "join", None)
                    for task in reversed(tasks):
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    assert repr(subject) == before

        run(main())

    def test_cycles_are_collected(self, lib: Any, run: Run) -> None:
        class Item:
            pass

        async def main() -> weakref.ref[Item]:
            queue, item = lib.Queue(), Item()
            item.queue = queue  # type: ignore[attr-defined]
            queue.put_nowait(item)
            return weakref.ref(item)

        reference = run(main())
        gc.collect()
        assert reference() is None

    def test_a_result_is_not_kept(self, lib: Any, run: Run) -> None:
        class Item:
            pass

        async def main() -> None:
            queue = lib.Queue()
            queue.put_nowait(Item())
            reference = weakref.ref(await queue.get())
            assert reference() is None
            reference = weakref.ref(await lib.sleep(0, Item()))
            assert reference() is None

        run(main())

    @pytest.mark.weft_only
    def test_cancelled_sleeps_leave_the_heap(self) -> None:
        with virtual_loop() as loop:

            async def main() -> None:
                for _ in range(20):
                    tasks = [asyncio.create_task(weft.sleep(1000 + number)) for number in range(100)]
                    await asyncio.sleep(0)
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                assert loop.time() < 1e9

            started = loop.time()
            loop.run_until_complete(main())
            loop.run_until_complete(weft.sleep(2000))
            assert loop.time() - started == pytest.approx(2000, abs=1)


class TestInCancelScopes:
    """AnyIO cancels a task again and again, through what it waits for, until it has left the scope."""

    def test_whoever_waits_leaves(self, lib: Any, run: Run) -> None:
        anyio = pytest.importorskip("anyio")

        async def main() -> None:
            for subject, wait in waits(lib):
                before = repr(subject)
                with anyio.CancelScope() as scope:
                    asyncio.get_running_loop().call_later(0, scope.cancel)
                    await wait()
                assert scope.cancel_called
                assert repr(subject) == before
            condition = lib.Condition()
            with anyio.CancelScope() as scope:
                asyncio.get_running_loop().call_later(0, scope.cancel)
                async with condition:
                    await condition.wait()
            assert not condition.locked()

        run(main())
