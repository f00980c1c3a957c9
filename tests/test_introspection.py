"""What tools see of weft's tasks: from inside (``asyncio.print_call_graph``) and from another process (``asyncio ps``).

Both came with Python 3.14. The tools read asyncio's own structures, the second kind as bytes of another process; so
these tests hold weft's tasks to being laid out, registered and linked to each other as asyncio's are.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import re
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs of tasks came with Python 3.14")

PR_SET_PTRACER, ANYBODY = 0x59616D61, -1
GRAPH: Any = asyncio  # the checker looks at the oldest supported Python, which has no call graphs


class Stage:
    """Tasks that wait for each other: ``waits`` for ``works``, the gathering for both."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def leaf(self) -> None:
        await self.over.wait()

    async def branch(self) -> None:
        await self.leaf()

    async def waits_for(self, task: asyncio.Future[Any]) -> None:
        await task

    async def gathers_all(self) -> None:
        await asyncio.gather(self.works, self.waits)

    async def __aenter__(self) -> Stage:
        loop = asyncio.get_running_loop()
        self.works = loop.create_task(self.branch(), name="works")
        self.waits = loop.create_task(self.waits_for(self.works), name="waits")
        self.gathers = loop.create_task(self.gathers_all(), name="gathers")
        self.tasks = [self.works, self.waits, self.gathers]
        for _ in range(3):
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.over.set()
        await asyncio.wait(self.tasks)


def functions(graph: Any) -> list[str]:
    return [entry.frame.f_code.co_name for entry in graph.call_stack]


def awaiters(graph: Any) -> dict[str, list[str]]:
    """Which tasks await, and where in them."""
    return {parent.future.get_name(): functions(parent) for parent in graph.awaited_by}


class TestCallGraph:
    def test_of_a_task_that_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            async with Stage() as stage:
                graph = GRAPH.capture_call_graph(stage.works)
                assert graph.future is stage.works
                assert functions(graph) == ["wait", "leaf", "branch"]
                assert awaiters(graph) == {"waits": ["waits_for"], "gathers": ["gathers_all"]}
                assert awaiters(GRAPH.capture_call_graph(stage.waits)) == {"gathers": ["gathers_all"]}
            assert GRAPH.capture_call_graph(stage.works).awaited_by == ()

        loop.run_until_complete(main())

    def test_of_the_task_that_asks(self, loop: asyncio.AbstractEventLoop) -> None:
        async def asks() -> Any:
            return GRAPH.capture_call_graph()

        async def outer() -> Any:
            return await asks()

        async def main() -> None:
            task = loop.create_task(outer(), name="outer")
            graph = await task
            assert graph.future is task
            assert functions(graph)[-2:] == ["asks", "outer"]
            assert list(awaiters(graph).values()) == [["main"]]

        loop.run_until_complete(main())

    def test_of_a_group(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(over.wait(), name="member")
                await asyncio.sleep(0)
                found = awaiters(GRAPH.capture_call_graph(task))
                assert list(found.values()) == [["main"]]
                over.set()
            assert awaiters(GRAPH.capture_call_graph(task)) == {}

        loop.run_until_complete(main())

    def test_of_a_wait_that_was_cancelled(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            async with Stage() as stage:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(stage.works), 0)
                impatient = loop.create_task(stage.waits_for(asyncio.shield(stage.works)), name="impatient")
                await asyncio.sleep(0)
                impatient.cancel()
                await asyncio.wait([impatient])
                assert "impatient" not in GRAPH.format_call_graph(stage.works)

        loop.run_until_complete(main())

    def test_printed(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> str:
            printed = io.StringIO()
            async with Stage() as stage:
                GRAPH.print_call_graph(stage.works, file=printed)
            return printed.getvalue()

        text = loop.run_until_complete(main())
        lines = [re.sub(r"id=\w+|'/[^']*', line \d+", "*", line).strip() for line in text.splitlines()]
        assert lines[0] == "* Task(name='works', *)"
        stack = [line for line in lines if "async Stage.branch" in line or "async Stage.leaf" in line]
        assert [line.rpartition(" ")[2] for line in stack] == ["Stage.leaf()", "Stage.branch()"]
        assert "* Task(name='waits', *)" in lines
        assert "* Task(name='gathers', *)" in lines


def look(command: str) -> str:
    """What ``python -m asyncio COMMAND`` says of this process; skips where no process may look into another."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_long(ANYBODY))  # Yama else allows it to parents only
    done = subprocess.run(
        [sys.executable, "-m", "asyncio", command, str(os.getpid())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode and re.search("ermission|not permitted", said):
        pytest.skip("this machine lets no process read another one's memory (needs root, or CAP_SYS_PTRACE)")
    assert done.returncode == 0, said
    return done.stdout


class TestFromOutside:
    """The reader looks at this process while one of its tasks runs, and that one is to be seen as well."""

    def see(self, loop: asyncio.AbstractEventLoop, command: str) -> str:
        async def asks() -> str:
            return look(command)

        async def eager() -> None:
            await asyncio.sleep(3600)

        async def main() -> str:
            ended = loop.create_task(asyncio.sleep(0), name="ended")
            early = loop.create_task(eager(), name="eager", eager_start=True)  # type: ignore[call-arg]  # since 3.14
            await ended
            async with Stage():
                said = await loop.create_task(asks(), name="asks")
            early.cancel()
            await asyncio.wait([early])
            return said

        return loop.run_until_complete(main())

    def test_table(self, loop: asyncio.AbstractEventLoop) -> None:
        rows = [re.split(r"\s{2,}", line.strip()) for line in self.see(loop, "ps").splitlines()[2:]]
        # Thread, identity, name, stack, and if somebody awaits it: that one's stack and name.
        seen = {(row[2], row[3], *row[4:6]) if len(row) > 6 else (row[2], row[3]) for row in rows}
        named = {row for row in seen if not row[0].startswith("Task-")}
        assert ("works", "Event.wait -> Stage.leaf -> Stage.branch", "Stage.waits_for", "waits") in named
        assert {row[0] for row in named} == {"works", "waits", "gathers", "eager", "asks"}
        assert next(row for row in named if row[0] == "eager")[1].startswith("sleep -> ")
        asking = next(row for row in named if row[0] == "asks")
        assert asking[1].endswith("asks")
        assert asking[2].endswith("main")

    def test_tree(self, loop: asyncio.AbstractEventLoop) -> None:
        lines = [re.sub(r"^[^(\w]*| /.*", "", line) for line in self.see(loop, "pstree").splitlines()]
        at = lines.index("(T) waits")
        assert lines[at : at + 6] == [
            "(T) waits",
            "Stage.waits_for",
            "(T) works",
            "Stage.branch",
            "Stage.leaf",
            "Event.wait",
        ]
        assert "(T) asks" in lines
        assert "(T) eager" in lines
        assert "(T) ended" not in lines
