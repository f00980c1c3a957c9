"""What a run that ends by itself does about what is left: what asyncio.run() does, too."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

import weft

pytestmark = pytest.mark.weft_only


def test_another_loop_is_left_to_asyncio() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    with weft.Runner(loop_factory=asyncio.SelectorEventLoop, shutdown_timeout=0) as runner:
        runner.run(main())


def test_a_task_may_take_its_time_to_clean_up() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            log.append("clean")

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert not task.done()

    weft.run(main())
    assert log == ["clean"]


def test_who_cleans_up_already_is_not_interrupted() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            log.append("clean")

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)

    weft.run(main())
    assert log == ["clean"]


@pytest.mark.realtime
def test_but_not_for_ever() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        return task

    assert weft.run(main(), shutdown_timeout=None).cancelled()


def test_an_exit_in_a_task_that_is_left() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise SystemExit(7)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert not task.done()

    with pytest.raises(SystemExit, match="7"):
        weft.run(main())


def test_runs_after_an_interrupt() -> None:
    async def interrupted() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    with weft.Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(interrupted())
        assert runner.run(answer()) == 42
