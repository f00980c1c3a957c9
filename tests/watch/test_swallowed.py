"""Cancellations that are swallowed; and cleaning up, taking back and passing on, about which not a word is said."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import weft
from tests.watch.kit import SWALLOWED, Halt, Run, fail, forever, swallow, swallow_and_go_on, turns
from weft.watch import lost

pytestmark = pytest.mark.weft_only


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
        assert (found.place.file, found.place.line) == (
            swallow.__code__.co_filename,
            swallow.__code__.co_firstlineno + 2,
        )
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
