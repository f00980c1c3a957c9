"""The stepper against stock asyncio: the same tasks, awaits and cancellations on both loops leave the same trace.

A scenario is data: what each of a few tasks does, and what somebody else does to them turn by turn. It is played once
on ``weft.Task`` and once on ``asyncio.Task``. The trace holds every step, the order of callbacks, what was thrown and
returned with all chained exceptions, and after each turn the state of every task.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import weft
from tests.core.kit import NewLoop, describe_error, turns
from weft.versions import EAGER_TASKS

Op: TypeAlias = tuple[Any, ...]

TASKS = 4
FUTURES = 3

# -- scenarios

other = st.integers(0, TASKS - 1)
message = st.sampled_from((None, "first", "second"))
awaiting = st.one_of(
    st.just(("sleep",)),
    st.tuples(st.just("future"), st.integers(0, FUTURES - 1)),
    st.tuples(st.just("task"), other),
    st.tuples(st.just("gather"), other, st.integers(0, FUTURES - 1), st.booleans()),
    st.tuples(st.just("shield"), other),
    st.tuples(st.just("wait"), other, st.integers(0, FUTURES - 1)),
    st.tuples(st.just("group"), st.integers(0, FUTURES - 1)),
)
at_once = st.one_of(
    st.tuples(st.just("cancel"), other, message),
    st.tuples(st.just("cancel me"), message),
    st.just(("uncancel me",)),
    st.tuples(st.just("set"), st.integers(0, FUTURES - 1), st.sampled_from(("result", "error", "cancel"))),
    st.tuples(st.just("callback"), other),
    st.just(("current",)),
)
ending = st.sampled_from((("return",), ("raise",), ("raise cancelled",), ("bad yield",), ("await me",)))
# How a task takes an exception: lets it through, swallows it, takes the cancellation back, answers with another.
guards = st.sampled_from(("none", "none", "swallow", "uncancel", "convert", "chain", "finally"))
body = st.lists(st.tuples(guards, st.one_of(awaiting, awaiting, at_once, ending)), max_size=5)
outside = st.lists(
    st.one_of(
        st.tuples(st.just("cancel"), other, message),
        st.tuples(st.just("uncancel"), other),
        st.tuples(st.just("set"), st.integers(0, FUTURES - 1), st.sampled_from(("result", "error", "cancel"))),
        st.tuples(st.just("callback"), other),
    ),
    max_size=3,
)


class Yielding:
    """Awaiting it yields ``thing`` to the task."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self.thing)


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


class Scenario:
    """One play on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bodies: list[list[Any]], events: list[list[Op]]) -> None:
        self.loop = loop
        self.bodies = bodies
        self.events = events
        self.trace: list[Any] = []
        self.futures: list[asyncio.Future[str]] = [loop.create_future() for _ in range(FUTURES)]
        self.tasks: list[asyncio.Task[Any]] = []
        loop.set_exception_handler(self.on_report)

    def create(self) -> None:
        for index in range(TASKS):
            program = self.bodies[index] if index < len(self.bodies) else []
            task = self.loop.create_task(self.run(index, program), name=f"task {index}")
            task.add_done_callback(lambda task: self.note("done callback", task.get_name()))
            self.tasks.append(task)
            self.note("created", index, task.done())

    def note(self, *what: Any) -> None:
        self.trace.append(what)

    def on_report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.note("report", describe_error(context.get("exception")))

    # what tasks do

    async def run(self, index: int, program: list[Any]) -> str:
        for guard, op in program:
            self.note("step", index, guard, op)
            try:
                try:
                    await self.perform(index, op)
                finally:
                    if guard == "finally":
                        await asyncio.sleep(0)
            except (asyncio.CancelledError, Exception, BaseExceptionGroup) as error:
                self.note("caught", index, describe_error(error))
                if guard in ("none", "finally"):
                    raise
                if guard == "uncancel":
                    self.note("uncancel", index, current().uncancel())
                elif guard == "convert":
                    raise LookupError("converted") from error
                elif guard == "chain":
                    raise LookupError("chained")  # noqa: B904  # the context is what is looked at
            if op == ("return",):
                break
        return f"result {index}"

    async def perform(self, index: int, op: Op) -> None:
        me = current()
        match op:
            case ("sleep",):
                await asyncio.sleep(0)
            case ("future", which):
                self.note("got", index, await self.futures[which])
            case ("raise",):
                raise ValueError(f"of {index}")
            case ("raise cancelled",):
                raise asyncio.CancelledError("by hand", index)
            case ("bad yield",):
                await Yielding(42)
            case ("await me",):
                await Yielding(None)
                await me
            case ("current",):
                self.note("current", me.get_name() == f"task {index}")
            case ("cancel me", text):
                self.note("cancel", me.cancel(text))
            case ("uncancel me",):
                self.note("uncancel", me.uncancel())
            case ("cancel" | "set" | "callback", *_):
                self.apply(op)
            case _:
                await self.perform_together(index, op)

    async def perform_together(self, index: int, op: Op) -> None:
        # Only earlier tasks are awaited: two that await each other cannot be cancelled in asyncio (RecursionError).
        earlier = self.tasks[op[1] % index] if index and op[0] in ("task", "gather", "shield", "wait") else None
        match op:
            case ("task", _):
                self.note("got", index, await (earlier or asyncio.sleep(0)))
            case ("gather", _, which, gently):
                both = [earlier or self.futures[0], self.futures[which]]
                self.note("got", index, str(await asyncio.gather(*both, return_exceptions=gently)))
            case ("shield", _):
                self.note("got", index, await asyncio.shield(earlier or self.futures[0]))
            case ("wait", _, which):
                done, _ = await asyncio.wait(
                    [earlier or self.futures[0], self.futures[which]], return_when="FIRST_COMPLETED"
                )
                self.note("waited", index, len(done))
            case ("group", which):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.wait_for(index, which), name=f"first child of {index}")
                    group.create_task(asyncio.sleep(0), name=f"second child of {index}")

    async def wait_for(self, index: int, which: int) -> None:
        try:
            self.note("child got", index, await self.futures[which])
        except asyncio.CancelledError as error:
            self.note("child cancelled", index, describe_error(error))
            raise

    # what happens to them

    def apply(self, op: Op) -> None:
        match op:
            case ("cancel", which, text):
                if which < len(self.tasks):
                    self.note("cancel", which, self.tasks[which].cancel(text))
            case ("uncancel", which):
                self.note("uncancel", which, self.tasks[which].uncancel())
            case ("set", which, how):
                future = self.futures[which]
                if not future.done():
                    if how == "result":
                        future.set_result(f"future {which}")
                    elif how == "error":
                        future.set_exception(OSError(f"future {which}"))
                    else:
                        future.cancel("of the future")
            case ("callback", which):
                if which < len(self.tasks):
                    self.tasks[which].add_done_callback(lambda task: self.note("late callback", task.get_name()))

    def snapshot(self) -> None:
        for task in self.tasks:
            waiter: Any = task._fut_waiter  # type: ignore[attr-defined]
            self.note(
                task.get_name(),
                task.done(),
                task.cancelled(),
                task.cancelling(),
                not task.done() and task._must_cancel,  # type: ignore[attr-defined]
                waiter is not None,
                type(waiter).__name__ if waiter in self.futures else None,
            )

    def play(self, eagerly: bool) -> list[Any]:
        if eagerly:
            self.loop.call_soon(self.create)
            turns(self.loop)
        else:
            self.create()
        for ops in self.events:
            for op in ops:
                self.apply(op)
            self.note("turn")
            turns(self.loop)
            self.snapshot()
        for _ in range(12):  # whoever is still there is asked to leave: a program has five places to refuse at most
            for task in self.tasks:
                task.cancel("the end")
            turns(self.loop, 3)
        for task in self.tasks:
            self.note("end", task.get_name(), task.done(), task.cancelled())
            if task.done() and not task.cancelled():
                self.note(describe_error(task.exception()))
            for _ in range(2):
                self.ask(task)
        for future in self.futures:
            if future.done() and not future.cancelled():
                future.exception()
        return self.trace

    def ask(self, task: asyncio.Task[Any]) -> None:
        try:
            self.note("result", task.result())
        except (asyncio.CancelledError, Exception, BaseExceptionGroup) as error:
            self.note("result", describe_error(error))


def play(new_loop: NewLoop, bodies: list[list[Any]], events: list[list[Op]], eager: type[Any] | None = None) -> Any:
    """The trace of the scenario; with ``eager``, a class of task, every task takes its first step when it is made."""
    loop = new_loop()
    if eager is not None:
        loop.set_task_factory(lambda loop, coro, **options: eager(coro, loop=loop, eager_start=True, **options))
    try:
        trace = Scenario(loop, bodies, events).play(eager is not None)
        left = [task.get_name() for task in asyncio.all_tasks(loop)]
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(loop.shutdown_asyncgens())
        return trace, sorted(left)
    finally:
        loop.close()
        asyncio.set_event_loop(None)


class TestAgainstAsyncio:
    @pytest.mark.weft_only
    @given(bodies=st.lists(body, min_size=1, max_size=TASKS), events=st.lists(outside, max_size=6))
    @example(bodies=[[("none", ("future", 0))]], events=[[], [("cancel", 0, "first")], []])
    @example(bodies=[[("swallow", ("future", 0)), ("none", ("sleep",))]], events=[[], [("cancel", 0, "first")], []])
    @example(bodies=[[("none", ("cancel me", "first")), ("none", ("future", 0))]], events=[[], []])
    @example(bodies=[[("none", ("cancel me", "first"))]], events=[[], []])
    @example(bodies=[[("uncancel", ("future", 0)), ("none", ("sleep",))]], events=[[], [("cancel", 0, None)] * 2, []])
    @example(bodies=[[("none", ("future", 0))], [("none", ("task", 0))]], events=[[], [("cancel", 1, "first")], []])
    @example(bodies=[[("swallow", ("future", 0))], [("none", ("task", 0))]], events=[[], [("cancel", 1, "first")], []])
    @example(bodies=[[("none", ("group", 0))]], events=[[], [("set", 0, "error")], [], []])
    @example(bodies=[[("swallow", ("bad yield",)), ("none", ("await me",))]], events=[[], []])
    def test_the_same_trace(self, bodies: list[list[Any]], events: list[list[Op]]) -> None:
        gc.disable()  # when garbage is found is no part of the trace
        try:
            expected = play(asyncio.SelectorEventLoop, bodies, events)
            got = play(weft.new_event_loop, bodies, events)
        finally:
            gc.enable()
        assert got == expected

    @pytest.mark.skipif(not EAGER_TASKS, reason="eager tasks came with 3.12")
    @pytest.mark.weft_only
    @given(bodies=st.lists(body, min_size=1, max_size=TASKS), events=st.lists(outside, max_size=4))
    @example(bodies=[[("none", ("return",))], [("none", ("task", 0))]], events=[[]])
    @example(bodies=[[("none", ("raise",))], [("none", ("current",))]], events=[[]])
    @example(bodies=[[("none", ("cancel me", "first"))]], events=[[], []])
    @example(bodies=[[("none", ("raise cancelled",))]], events=[[], []])
    def test_the_same_trace_of_eager_tasks(self, bodies: list[list[Any]], events: list[list[Op]]) -> None:
        gc.disable()
        try:
            expected = play(asyncio.SelectorEventLoop, bodies, events, asyncio.Task)
            got = play(weft.new_event_loop, bodies, events, weft.Task)
        finally:
            gc.enable()
        assert got == expected


class TestMixture:
    def test_a_chain_of_awaits(self, new_loop: NewLoop) -> None:
        """Three hundred tasks, each awaiting the one before: the result, and a cancellation, pass through all of them."""  # noqa: E501
        loop = new_loop()

        async def link(previous: asyncio.Future[int]) -> int:
            return await previous + 1

        async def main(cancelled: bool) -> Any:
            first: asyncio.Future[int] = loop.create_future()
            last: asyncio.Future[int] = first
            for _ in range(300):
                last = loop.create_task(link(last))
            await asyncio.sleep(0)
            if cancelled:
                last.cancel("whole chain")
            else:
                first.set_result(0)
            return (await asyncio.gather(last, return_exceptions=True))[0]

        try:
            assert loop.run_until_complete(main(False)) == 300
            error = loop.run_until_complete(main(True))
            assert isinstance(error, asyncio.CancelledError)
        finally:
            loop.close()
