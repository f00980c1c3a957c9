"""Exceptions, tasks and generators that are lost, each kind; and what looks like it and is in good order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import weft
from tests.watch.kit import LOST, SWALLOWED, Halt, Run, fail, kinds, swallow, turns
from weft.loop import troubles
from weft.watch import lost
from weft.watch.lost import Finding

pytestmark = pytest.mark.weft_only


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
        assert found.place.file == fail.__code__.co_filename
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


class TestLeftBehind:
    @pytest.mark.parametrize("gather", [asyncio.gather, weft.gather], ids=["asyncio's", "weft's"])
    def test_siblings_of_a_failed_gather(self, run: Run, gather: Any) -> None:
        async def slow() -> None:
            await turns(20)

        async def main() -> None:
            with pytest.raises(Halt):
                await gather(fail(), slow(), slow())
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
        assert (found.place.file, found.place.function) == (turns.__code__.co_filename, "turns")

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
