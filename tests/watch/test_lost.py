"""What counts as lost work, each kind; and what looks like it and is in good order: no word about that."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import weft
from weft.loop import troubles
from weft.watch import lost
from weft.watch.lost import Finding

pytestmark = pytest.mark.weft_only

Run = Callable[[Coroutine[Any, Any, Any]], list[Finding]]
LOST, SWALLOWED = "lost exception", "swallowed cancellation"


class Halt(Exception):
    pass


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    lost.clear()
    yield
    lost.clear()


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Run:
    """Runs a coroutine on a weft loop without a garbage collection, and gives what was found."""

    def run(main: Coroutine[Any, Any, Any]) -> list[Finding]:
        gc.collect()
        gc.disable()
        try:
            weft.run(main)
        finally:
            gc.enable()
        return lost.findings()

    return run


def kinds(found: list[Finding]) -> list[str]:
    return [finding.kind for finding in found]


async def fail() -> None:
    await asyncio.sleep(0)
    raise Halt


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class TestExceptions:
    def test_nobody_holds_the_task(self, run: Run) -> None:
        reports: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
            asyncio.create_task(fail())  # noqa: RUF006 - that is what this is about
            await turns()
            assert len(reports) == 1

        assert kinds(run(main())) == [LOST]
        assert set(reports[0]) == {"message", "exception", "future"}
        assert reports[0]["message"] == "Task exception was never retrieved"
        reports.clear()

    @pytest.mark.parametrize("way", ["current_task", "timeout", "group", "attribute", "cause"])
    def test_only_its_own_traceback_holds_the_task(self, run: Run, way: str) -> None:
        reports: list[str] = []

        class Worker:
            def __init__(self) -> None:
                self.task = asyncio.create_task(self.work())

            async def work(self) -> None:
                await asyncio.sleep(0)
                raise Halt

        async def work() -> None:
            if way == "current_task":
                me = asyncio.current_task()
                assert me
            elif way == "timeout":
                async with asyncio.timeout(60) as scope:
                    assert scope
                    await fail()
            elif way == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
            else:
                me = asyncio.current_task()
                try:
                    raise KeyError(str(me))
                except KeyError as error:
                    raise Halt from error
            raise Halt

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["message"]))
            if way == "attribute":
                Worker()
            else:
                asyncio.create_task(work())  # noqa: RUF006
            await turns(10)
            assert reports == ["Task exception was never retrieved"]

        assert kinds(run(main())) == [LOST]
        gc.collect()
        assert len(reports) == 1

    @pytest.mark.parametrize("holder", ["variable", "set", "closure", "frame"])
    def test_who_holds_the_task_may_read_it_later(
        self, run: Run, caplog: pytest.LogCaptureFixture, holder: str
    ) -> None:
        async def waits(task: asyncio.Task[None]) -> None:
            await turns(10)
            with pytest.raises(Halt):
                await task

        async def main() -> None:
            task = asyncio.create_task(fail())
            if holder == "frame":
                waiter = asyncio.create_task(waits(task))
                del task
                await waiter
                return
            kept: Any = {"set": {task}, "closure": lambda: task}.get(holder, task)
            if holder != "closure":
                del task
            await turns()
            assert [one.done() for one in lost.unread()] == [True]
            held = kept if holder not in ("set", "closure") else kept() if holder == "closure" else kept.pop()
            with pytest.raises(Halt):
                await held

        assert run(main()) == []
        assert lost.unread() == []
        assert caplog.text == ""

    def test_what_is_still_held_and_unread_at_the_end_is_listed(self, run: Run) -> None:
        kept: list[asyncio.Task[None]] = []

        async def main() -> None:
            kept.append(asyncio.create_task(fail(), name="kept"))
            await turns()

        assert run(main()) == []
        lost.record_unread()
        (found,) = lost.findings()
        assert found.kind == "unread exception"
        assert "Halt() of task 'kept'" in str(found)
        assert found.place.file == __file__
        with pytest.raises(Halt):
            kept.pop().result()

    def test_a_background_set_is_no_holder(self, run: Run) -> None:
        background: set[asyncio.Task[None]] = set()

        async def main() -> None:
            task = asyncio.create_task(fail())
            background.add(task)
            task.add_done_callback(background.discard)
            del task
            await turns()
            assert kinds(lost.findings()) == [LOST]

        run(main())

    @pytest.mark.parametrize("way", ["await", "gather", "wait", "callback", "group", "shield", "as_completed"])
    def test_what_is_read_is_not_lost(self, run: Run, caplog: pytest.LogCaptureFixture, way: str) -> None:
        async def main() -> None:
            task = asyncio.create_task(fail())
            with contextlib.suppress(Halt, ExceptionGroup):
                if way == "await":
                    await task
                elif way == "gather":
                    await asyncio.gather(task)
                elif way == "wait":
                    done, _ = await asyncio.wait([task])
                    assert done.pop().exception()
                elif way == "callback":
                    task.add_done_callback(lambda task: task.exception())
                elif way == "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail())
                elif way == "shield":
                    await asyncio.shield(task)
                else:
                    for future in asyncio.as_completed([task]):
                        await future
            await turns()
            task.cancel()

        assert run(main()) == []
        assert caplog.text == ""

    def test_where_it_was_spawned_is_told_when_it_is_noted(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(troubles, "detailed", True)

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(turns())
                asyncio.create_task(fail())  # noqa: RUF006
            await turns()

        (found,) = run(main())
        assert found.spawned is not None
        assert (found.spawned.file, found.spawned.function) == (__file__, main.__qualname__)
        assert f"spawned at {found.spawned}" in str(found)

    def test_the_same_line_is_counted(self, run: Run) -> None:
        async def main() -> None:
            for _ in range(5):
                asyncio.create_task(fail())  # noqa: RUF006
            await turns()

        (found,) = run(main())
        assert found.count == 5
        assert str(found).endswith("(seen 5x)")


async def swallow() -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        await asyncio.sleep(0)


async def swallow_and_go_on() -> None:
    await swallow()
    await turns()


class TestCancellation:
    @pytest.mark.parametrize("work", [swallow, swallow_and_go_on])
    def test_swallowed(self, run: Run, caplog: pytest.LogCaptureFixture, work: Any) -> None:
        async def main() -> None:
            task = asyncio.create_task(work(), name="swallower")
            await asyncio.sleep(0)
            task.cancel()
            await task

        (found,) = run(main())
        assert (found.kind, found.count) == (SWALLOWED, 1)
        assert (found.place.file, found.place.line) == (__file__, swallow.__code__.co_firstlineno + 2)
        assert "task 'swallower' was cancelled at " in caplog.text
        assert [(record.name, record.levelno) for record in caplog.records] == [("weft.lost", logging.WARNING)]

    def test_the_inner_one_is_named_not_who_awaits_it(self, run: Run) -> None:
        async def outer() -> None:
            await asyncio.create_task(swallow(), name="inner")

        async def main() -> None:
            task = asyncio.create_task(outer(), name="outer")
            await turns(2)
            task.cancel()
            await task

        (found,) = run(main())
        assert "task 'inner'" in found.message

    async def cleans_up(self) -> None:
        try:
            await forever()
        finally:
            await turns()

    async def cleans_up_deeper(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(turns)
            await self.cleans_up()

    async def cleans_up_in_a_generator(self) -> None:
        async def numbers() -> AsyncGenerator[int, None]:
            try:
                await forever()
                yield 1
            finally:
                await turns()

        async for _ in numbers():
            pass

    async def takes_it_back(self) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task
            task.uncancel()
        await turns()

    async def raises_another(self) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await turns()
            raise Halt from None

    async def raises_it_later(self) -> None:
        try:
            await forever()
        except asyncio.CancelledError as error:
            kept = error
        await turns()
        raise kept

    async def in_a_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.cleans_up())
            group.create_task(forever())

    async def in_wait_for(self) -> None:
        await asyncio.wait_for(self.cleans_up(), 60)

    async def in_a_gather(self) -> None:
        await asyncio.gather(self.cleans_up(), self.cleans_up_deeper())

    @pytest.mark.parametrize(
        "name",
        [
            "cleans_up",
            "cleans_up_deeper",
            "cleans_up_in_a_generator",
            "takes_it_back",
            "raises_another",
            "raises_it_later",
            "in_a_group",
            "in_wait_for",
            "in_a_gather",
        ],
    )
    def test_in_good_order(self, run: Run, caplog: pytest.LogCaptureFixture, name: str) -> None:
        async def main() -> None:
            task = asyncio.create_task(getattr(self, name)())
            await turns()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() or name == "takes_it_back"
            await turns()

        assert run(main()) == []
        assert caplog.text == ""

    def test_time_limits_and_groups_that_cancel_who_uses_them(self, run: Run) -> None:
        async def main() -> None:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await forever()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(forever(), 0.001)
                for block in (forever, turns):  # it fails in the block, and at its end
                    with pytest.raises(ExceptionGroup):
                        async with asyncio.TaskGroup() as group:
                            group.create_task(fail())
                            await (forever() if block is forever else asyncio.sleep(0))
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await turns()

        assert run(main()) == []

    def test_anyio(self, run: Run) -> None:
        anyio = pytest.importorskip("anyio")

        async def child(started: Any = None) -> None:
            try:
                await anyio.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)

        async def main() -> None:
            for _ in range(2):
                with anyio.move_on_after(0.001):
                    await child()
                with pytest.raises(TimeoutError), anyio.fail_after(0.001):
                    await child()
                async with anyio.create_task_group() as group:
                    group.start_soon(child)
                    with anyio.move_on_after(0.001):
                        await anyio.sleep(60)
                    group.cancel_scope.cancel()
                with anyio.CancelScope() as outer:
                    with anyio.CancelScope():
                        outer.cancel()
                        await anyio.sleep(60)
                with pytest.raises(ExceptionGroup):
                    async with anyio.create_task_group() as group:
                        group.start_soon(child)
                        group.start_soon(fail)
                await anyio.to_thread.run_sync(int)
                await turns()

        assert run(main()) == []

    def test_the_end_of_a_run_cancels_for_the_sake_of_the_end(self, run: Run) -> None:
        async def main() -> None:
            kept.append(asyncio.create_task(swallow()))
            await asyncio.sleep(0)

        kept: list[asyncio.Task[None]] = []
        assert run(main()) == []
        with asyncio.Runner(loop_factory=weft.new_event_loop) as runner:
            runner.run(main())
        assert lost.findings() == []


class TestLeftBehind:
    def test_siblings_of_a_failed_gather(self, run: Run) -> None:
        async def slow() -> None:
            await turns(20)

        async def main() -> None:
            with pytest.raises(Halt):
                await asyncio.gather(fail(), slow(), slow())
            await turns(30)

        (found,) = run(main())
        assert found.kind == "siblings of a failed gather"
        assert found.message.startswith("2 go on after Halt() at ")
        assert found.count == 1

    @pytest.mark.parametrize("way", ["cancelled", "awaited", "ended", "return_exceptions"])
    def test_siblings_that_somebody_sees_to(self, run: Run, caplog: pytest.LogCaptureFixture, way: str) -> None:
        async def main() -> None:
            tasks = [asyncio.create_task(turns(0 if way == "ended" else 20)) for _ in range(2)]
            try:
                await asyncio.gather(fail(), *tasks, return_exceptions=way == "return_exceptions")
            except Halt:
                if way == "cancelled":
                    for task in tasks:
                        task.cancel()
            await asyncio.wait(tasks)

        assert run(main()) == []
        assert caplog.text == ""

    def test_a_shielded_task_that_nobody_holds(self, run: Run) -> None:
        async def outer() -> None:
            await asyncio.shield(turns(30))

        async def main() -> None:
            task = asyncio.create_task(outer())
            await turns(2)
            task.cancel()
            await asyncio.wait([task])
            await turns(40)

        (found,) = run(main())
        assert found.kind == "shielded task without owner"
        assert (found.place.file, found.place.function) == (__file__, "turns")

    @pytest.mark.parametrize("way", ["held", "awaited", "group"])
    def test_a_shielded_task_with_an_owner(self, run: Run, way: str) -> None:
        async def outer(inner: asyncio.Task[None]) -> None:
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError:
                if way == "awaited":
                    await inner
                raise

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                inner = (group if way == "group" else asyncio).create_task(turns(20))
                task = asyncio.create_task(outer(inner))
                if way != "held":
                    del inner
                await turns(2)
                task.cancel()
                await asyncio.wait([task])
                await turns(30)

        assert run(main()) == []


class TestGenerators:
    async def with_finally(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)

    async def without(self) -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    @pytest.mark.parametrize(("name", "count"), [("with_finally", 1), ("without", 0)])
    def test_left_by_break(self, run: Run, name: str, count: int) -> None:
        async def main() -> None:
            async for _ in getattr(self, name)():
                break
            await turns()

        found = run(main())
        assert kinds(found) == ["generator never closed"] * count
        for finding in found:
            assert "was dropped before its end" in finding.message
            assert finding.place.line == self.with_finally.__code__.co_firstlineno + 2

    def test_open_at_the_end(self, run: Run) -> None:
        kept: list[Any] = []

        async def main() -> None:
            kept.append(self.with_finally())
            await anext(kept[0])

        (found,) = run(main())
        assert "was open until the end of the run" in found.message

    def test_closed_or_exhausted(self, run: Run) -> None:
        async def main() -> None:
            async with contextlib.aclosing(self.with_finally()) as numbers:
                async for _ in numbers:
                    break
            async for _ in self.with_finally():
                pass

        assert run(main()) == []


class TestFindings:
    def test_watchers(self, run: Run) -> None:
        seen: list[Finding] = []
        stop = lost.on_finding(seen.append)

        async def main() -> None:
            asyncio.create_task(fail())  # noqa: RUF006
            await turns()

        run(main())
        stop()
        assert seen == lost.findings() != []
        lost.clear()
        run(main())
        assert len(seen) == 1

    def test_an_error_in_a_watcher_does_not_reach_the_program(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        def bad(finding: Finding) -> None:
            raise Halt

        stop = lost.on_finding(bad)

        async def main() -> None:
            task = asyncio.create_task(swallow())
            await asyncio.sleep(0)
            task.cancel()
            await task

        try:
            assert kinds(run(main())) == [SWALLOWED]
        finally:
            stop()
        assert "Halt" in caplog.text
