"""Tasks in AnyIO's asyncio backend: task groups, cancel scopes, deadlines, shields, and what tasks share.

Its cancellation reaches deep into a task (it reads ``_must_cancel`` and ``_fut_waiter``), so it is tested at length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

pytest.importorskip("anyio", reason="weft[frameworks] is not installed: no anyio")

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from tests.conftest import LoopFactory
from tests.frameworks.kit import LIMIT

Run: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture
def run(new_loop: LoopFactory) -> Run:
    """``anyio.run`` on the loop under test."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(LIMIT):
                return await main()

        return anyio.run(bounded, backend_options={"loop_factory": new_loop})

    return run


class TestTaskGroups:
    def test_all_tasks_are_waited_for(self, run: Run) -> None:
        async def main() -> list[int]:
            done: list[int] = []

            async def one(n: int) -> None:
                await anyio.sleep(0)
                done.append(n)

            async with anyio.create_task_group() as group:
                for n in range(100):
                    group.start_soon(one, n)
            return done

        assert run(main) == list(range(100))

    def test_one_failure_cancels_the_others(self, run: Run) -> None:
        cancelled = []

        async def main() -> None:
            async def waits(n: int, task_status: TaskStatus[None]) -> None:
                try:
                    task_status.started()
                    await anyio.sleep_forever()
                finally:
                    cancelled.append(n)

            async def fails() -> None:
                raise LookupError("one")

            async with anyio.create_task_group() as group:
                for n in range(3):
                    await group.start(waits, n)
                group.start_soon(fails)
                await anyio.sleep_forever()

        with pytest.raises(ExceptionGroup) as caught:
            run(main)
        assert [str(error) for error in caught.value.exceptions] == ["one"]
        assert sorted(cancelled) == [0, 1, 2]

    def test_a_task_says_when_it_has_started(self, run: Run) -> None:
        async def main() -> Any:
            async def service(task_status: TaskStatus[str]) -> None:
                await anyio.sleep(0)
                task_status.started("ready")
                await anyio.sleep_forever()

            async with anyio.create_task_group() as group:
                said = await group.start(service)
                group.cancel_scope.cancel()
            return said

        assert run(main) == "ready"

    def test_a_task_that_fails_before_it_has_started(self, run: Run) -> None:
        async def main() -> None:
            async def service(task_status: TaskStatus[None]) -> None:
                await anyio.sleep(0)
                raise LookupError("early")

            async with anyio.create_task_group() as group:
                with pytest.raises(LookupError, match="early"):
                    await group.start(service)

        run(main)

    def test_groups_within_groups(self, run: Run) -> None:
        async def main() -> int:
            count = 0

            async def tree(depth: int) -> None:
                nonlocal count
                count += 1
                if depth:
                    async with anyio.create_task_group() as group:
                        group.start_soon(tree, depth - 1)
                        group.start_soon(tree, depth - 1)

            await tree(7)
            return count

        assert run(main) == 2**8 - 1


class TestCancelScopes:
    def test_a_deadline(self, run: Run) -> None:
        async def main() -> None:
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.01):
                    await anyio.sleep_forever()
            with anyio.move_on_after(LIMIT) as scope:
                await anyio.sleep(0)
            assert not scope.cancel_called

        run(main)

    def test_a_deadline_that_has_passed(self, run: Run) -> None:
        async def main() -> None:
            reached = False
            with anyio.move_on_after(0) as scope:
                await anyio.sleep(0)
                reached = True
            assert scope.cancelled_caught
            assert not reached

        run(main)

    def test_cancellation_comes_again_until_the_scope_is_left(self, run: Run) -> None:
        """What swallows one cancellation gets the next: a scope is cancelled as long as it lasts."""

        async def main() -> int:
            times = 0
            with anyio.CancelScope() as scope:
                scope.cancel()
                for _ in range(5):
                    try:
                        await anyio.sleep_forever()
                    except asyncio.CancelledError:
                        times += 1
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            await anyio.sleep(0)
            return times

        assert run(main) == 5

    def test_a_shield(self, run: Run) -> None:
        async def main() -> None:
            finished = False
            with anyio.CancelScope() as outer:
                outer.cancel()
                with anyio.CancelScope(shield=True):
                    for _ in range(3):
                        await anyio.sleep(0)
                    finished = True
                await anyio.sleep_forever()
            assert finished
            assert outer.cancelled_caught

        run(main)

    def test_only_the_scope_that_is_cancelled_is_left(self, run: Run) -> None:
        async def main() -> None:
            with anyio.CancelScope() as outer:
                with anyio.CancelScope() as inner:
                    inner.cancel()
                    await anyio.sleep_forever()
                assert inner.cancelled_caught
                await anyio.lowlevel.checkpoint()
            assert not outer.cancelled_caught

        run(main)

    def test_from_outside_while_waiting_for_a_future(self, run: Run) -> None:
        async def main() -> None:
            scopes: list[anyio.CancelScope] = []
            caught = []

            async def waits() -> None:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await asyncio.get_running_loop().create_future()
                caught.append(scope.cancelled_caught)

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(waits)
                await anyio.wait_all_tasks_blocked()
                for scope in scopes:
                    scope.cancel()
            assert caught == [True] * 20

        run(main)

    def test_a_task_before_its_first_step(self, run: Run) -> None:
        async def main() -> None:
            steps = []

            async def task() -> None:
                steps.append("begun")
                await anyio.sleep(0)
                steps.append("ended")

            async with anyio.create_task_group() as group:
                group.start_soon(task)
                group.cancel_scope.cancel()
            assert steps == ["begun"]

        run(main)

    def test_native_cancellation_passes_through(self, run: Run) -> None:
        async def main() -> None:
            entered = asyncio.Event()

            async def inside() -> None:
                with anyio.CancelScope():
                    entered.set()
                    await anyio.sleep_forever()

            task = asyncio.ensure_future(inside())
            await entered.wait()
            assert task.cancel("native")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

        run(main)

    def test_asyncio_timeout_and_a_scope_together(self, run: Run) -> None:
        async def main() -> None:
            with anyio.CancelScope() as scope:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anyio.sleep_forever()
                scope.cancel()
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

        run(main)


class TestMemory:
    def test_object_streams(self, run: Run) -> None:
        async def main() -> list[int]:
            sender, receiver = anyio.create_memory_object_stream[int](2)
            taken: list[int] = []

            async def send(n: int) -> None:
                async with sender.clone() as mine:
                    await mine.send(n)

            async with anyio.create_task_group() as group, receiver:
                with sender:
                    for n in range(50):
                        group.start_soon(send, n)
                    await anyio.sleep(0)
                async for n in receiver:
                    taken.append(n)
            return taken

        assert sorted(run(main)) == list(range(50))

    def test_locks_and_limits(self, run: Run) -> None:
        async def main() -> None:
            limiter, lock, most, inside = anyio.CapacityLimiter(3), anyio.Lock(), 0, 0

            async def one() -> None:
                nonlocal most, inside
                async with limiter:
                    inside += 1
                    most = max(most, inside)
                    async with lock:
                        await anyio.sleep(0)
                    inside -= 1

            async with anyio.create_task_group() as group:
                for _ in range(30):
                    group.start_soon(one)
            assert (most, inside) == (3, 0)

        run(main)
