"""The scheduler from outside: order, growth, sleeping and waking, errors, stopping, and threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.core.kit import NewLoop, reports_of, run_script, turns

# -- order: a plan of callbacks that schedule and cancel callbacks, played by a loop and by a model

Action: TypeAlias = tuple[str, int]
Plan: TypeAlias = list[list[Action]]

MOST = 2000  # callbacks in one play: the ready ring begins with 256 places and grows twice or more
ACTIONS = st.one_of(
    st.tuples(st.just("soon"), st.integers(1, 3)),
    st.tuples(st.just("soon"), st.sampled_from((255, 256, 257, 600))),
    st.tuples(st.just("threadsafe"), st.integers(1, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("cancel every"), st.integers(2, 5)),
)


class Play:
    """Runs callback number i: it does what the plan says for it, and notes that it ran."""

    def __init__(self, plan: Plan, schedule: Callable[[str, int], Any], cancel: Callable[[Any], None]) -> None:
        self.plan = plan
        self.schedule = schedule
        self.cancel = cancel
        self.handles: list[Any] = []
        self.order: list[int] = []

    def start(self) -> None:
        for how, number in self.plan[0]:
            self.act(how, number)

    def run(self, index: int) -> None:
        self.order.append(index)
        for how, number in self.plan[(index + 1) % len(self.plan)]:
            self.act(how, number)

    def act(self, how: str, number: int) -> None:
        if how == "cancel":
            if self.handles:
                self.cancel(self.handles[-1 - number % len(self.handles)])
        elif how == "cancel every":
            for handle in self.handles[-100::number]:
                self.cancel(handle)
        else:
            for _ in range(min(number, MOST - len(self.handles))):
                self.handles.append(self.schedule(how, len(self.handles)))


def played_by_model(plan: Plan) -> list[int]:
    ready: deque[int] = deque()
    cancelled: set[int] = set()

    def schedule(how: str, index: int) -> int:
        ready.append(index)
        return index

    play = Play(plan, schedule, cancelled.add)
    play.start()
    while ready:
        index = ready.popleft()
        if index not in cancelled:
            play.run(index)
    return play.order


def played_by_loop(plan: Plan, loop: asyncio.AbstractEventLoop) -> list[int]:
    def schedule(how: str, index: int) -> asyncio.Handle:
        method = loop.call_soon if how == "soon" else loop.call_soon_threadsafe
        return method(play.run, index)

    play = Play(plan, schedule, lambda handle: handle.cancel())
    play.start()
    idle = 0
    while idle < 2:
        before = len(play.order)
        turns(loop)
        idle = 0 if len(play.order) > before else idle + 1
    return play.order


class TestOrder:
    @given(plan=st.lists(st.lists(ACTIONS, max_size=4), min_size=1, max_size=8))
    def test_first_in_first_out(self, plan: Plan) -> None:
        expected = played_by_model(plan)
        loop = weft.new_event_loop()
        try:
            assert played_by_loop(plan, loop) == expected
        finally:
            loop.close()

    def test_the_model_is_right_about_asyncio(self, loop: asyncio.AbstractEventLoop) -> None:
        plan: Plan = [[("soon", 3), ("cancel", 1)], [("soon", 2), ("threadsafe", 1)], [("cancel", 0)], [("soon", 257)]]
        assert played_by_loop(plan, loop) == played_by_model(plan)

    def test_a_turn_is_a_snapshot(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []

        def again(depth: int) -> None:
            ran.append(depth)
            loop.call_soon(again, depth + 1)

        loop.call_soon(again, 0)
        turns(loop)
        assert ran == [0]

    def test_callbacks_cannot_starve_timers_and_descriptors(self, loop: asyncio.AbstractEventLoop) -> None:
        """A callback that schedules itself for ever keeps the loop busy, and nothing else waiting."""
        seen: set[Any] = set()

        def spin() -> None:
            if seen != {"timer", "thread"}:
                loop.call_soon(spin)
            else:
                loop.stop()

        loop.call_soon(spin)
        loop.call_later(0, seen.add, "timer")
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.add, "thread"))
        thread.start()
        loop.run_forever()
        thread.join()
        assert seen == {"timer", "thread"}

    def test_many_callbacks_in_one_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []
        for index in range(100_000):
            loop.call_soon(ran.append, index)
        turns(loop)
        assert ran == list(range(100_000))


class TestContext:
    def test_is_a_copy_of_the_callers(self, loop: asyncio.AbstractEventLoop) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        def callback(value: str) -> None:
            seen.append(variable.get())
            variable.set(value)

        token = variable.set("outside")
        loop.call_soon(callback, "first")
        loop.call_soon(callback, "second")
        variable.reset(token)
        turns(loop)
        assert seen == ["outside", "outside"]
        assert variable.get() == "unset"

    def test_a_given_one_is_used_itself(self, loop: asyncio.AbstractEventLoop) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        context = contextvars.Context()
        loop.call_soon(variable.set, "soon", context=context)
        turns(loop)
        assert context[variable] == "soon"

    def test_one_that_is_entered_already_is_reported(
        self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Not to a handler of the user's, which would run in that context as well (from 3.12 on), but to the log."""
        ran: list[int] = []
        context = contextvars.Context()
        loop.call_soon(ran.append, 1, context=context)
        loop.call_soon(ran.append, 2)
        loop.call_soon(loop.stop)
        context.run(loop.run_forever)
        assert ran == [2]
        assert "is already entered" in caplog.text

    def test_something_else_is_reported_and_breaks_nothing(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        ran: list[int] = []
        loop.call_soon(ran.append, 1, context="no context")  # type: ignore[arg-type]
        loop.call_soon(ran.append, 2)
        turns(loop)
        assert ran == [2]
        assert len(reports) == 1


class TestErrors:
    def test_are_reported_and_the_rest_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        ran: list[int] = []
        for index in range(5):
            loop.call_soon(ran.append, index)
            loop.call_soon(divmod, index, 0)
        turns(loop)
        assert ran == list(range(5))
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 5
        assert all(isinstance(report["handle"], asyncio.Handle) for report in reports)
        assert all(report["message"].startswith("Exception in callback divmod(") for report in reports)

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_the_two_that_leave_the_loop(self, loop: asyncio.AbstractEventLoop, kind: type[BaseException]) -> None:
        ran: list[int] = []

        def leave() -> None:
            raise kind

        loop.call_soon(ran.append, 1)
        loop.call_soon(leave)
        loop.call_soon(ran.append, 2)
        with pytest.raises(kind):
            loop.run_forever()
        assert ran == [1]
        assert not loop.is_running()
        turns(loop)
        assert ran == [1, 2]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_from_the_exception_handler(self, loop: asyncio.AbstractEventLoop, kind: type[BaseException]) -> None:
        ran: list[int] = []

        def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            raise kind

        loop.set_exception_handler(handler)
        loop.call_soon(divmod, 1, 0)
        loop.call_soon(ran.append, 1)
        with pytest.raises(kind):
            loop.run_forever()
        loop.set_exception_handler(None)
        turns(loop)
        assert ran == [1]

    def test_of_a_callback_that_cancels_itself(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        handles: list[asyncio.Handle] = []

        def fail() -> None:
            handles[0].cancel()
            raise LookupError

        handles.append(loop.call_soon(fail))
        turns(loop)
        assert [type(report["exception"]) for report in reports] == [LookupError]

    def test_the_current_task_is_none_in_a_handler(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[Any] = []
        loop.set_exception_handler(lambda *_: seen.append(asyncio.current_task(loop)))

        async def main() -> None:
            loop.call_soon(divmod, 1, 0)

        loop.run_until_complete(main())
        turns(loop)
        assert seen == [None]


class TestSleep:
    """Nothing that becomes ready may be slept over, whenever it does."""

    @pytest.mark.time_limit(20)
    @pytest.mark.parametrize("how", ["call_soon", "call_soon_threadsafe", "call_later", "create_task"])
    def test_what_the_end_of_the_last_task_makes_ready(self, loop: asyncio.AbstractEventLoop, how: str) -> None:
        """The loop holds the last reference to a task that has ended; its result makes something ready when it goes."""

        async def stop() -> None:
            loop.stop()

        class Result:
            def __del__(self) -> None:
                if how == "create_task":
                    tasks.append(loop.create_task(stop()))
                elif how == "call_later":
                    loop.call_later(0, loop.stop)
                else:
                    getattr(loop, how)(loop.stop)

        async def main() -> Result:
            return Result()

        tasks: list[asyncio.Task[None]] = []
        loop.create_task(main())
        loop.run_forever()

    def test_a_thread_wakes_the_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(50):
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
            loop.call_soon(thread.start)
            loop.run_forever()
            thread.join()

    def test_nothing_that_threads_schedule_is_lost(self, loop: asyncio.AbstractEventLoop) -> None:
        """Four threads against one loop that sleeps whenever it can, with the smallest switch interval there is."""
        threads, each = 4, 3000
        got: list[tuple[int, int]] = []

        def receive(thread: int, number: int) -> None:
            got.append((thread, number))
            if len(got) == threads * each:
                loop.stop()

        def send(thread: int) -> None:
            for number in range(each):
                loop.call_soon_threadsafe(receive, thread, number)

        workers = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for worker in workers:
                worker.start()
            loop.run_forever()
        finally:
            sys.setswitchinterval(interval)
        for worker in workers:
            worker.join()
        for thread in range(threads):
            assert [number for sender, number in got if sender == thread] == list(range(each))

    def test_one_at_a_time_from_a_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        """Each call finds the loop asleep, or about to be."""
        rounds = 2000
        done = threading.Event()
        count = 0

        def receive() -> None:
            nonlocal count
            count += 1
            done.set()
            if count == rounds:
                loop.stop()

        def send() -> None:
            for _ in range(rounds):
                done.clear()
                loop.call_soon_threadsafe(receive)
                assert done.wait(30)

        thread = threading.Thread(target=send)
        thread.start()
        loop.run_forever()
        thread.join()
        assert count == rounds


class TestStop:
    def test_runs_what_is_ready_and_no_more(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[str] = []
        loop.call_soon(loop.stop)
        loop.call_soon(loop.call_soon, ran.append, "next turn")
        loop.call_soon(ran.append, "this turn")
        loop.run_forever()
        assert ran == ["this turn"]
        turns(loop)
        assert ran == ["this turn", "next turn"]

    def test_before_the_run_gives_one_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []
        loop.stop()
        loop.call_soon(loop.call_soon, ran.append, 2)
        loop.call_soon(ran.append, 1)
        loop.run_forever()
        assert ran == [1]

    def test_due_timers_run_in_the_last_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []
        loop.call_at(loop.time() - 1, ran.append, 1)
        loop.stop()
        loop.run_forever()
        assert ran == [1]


class TestDebug:
    def test_names_a_slow_callback(self, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
        def slow() -> None: ...

        async def slow_step() -> None: ...

        loop.set_debug(True)
        loop.slow_callback_duration = 0
        loop.call_soon(slow)
        task = loop.create_task(slow_step(), name="the slow one")
        turns(loop)
        assert task.done()
        lines = [record.getMessage() for record in caplog.records]
        assert any("TestDebug.test_names_a_slow_callback.<locals>.slow() at" in line for line in lines)
        assert any("the slow one" in line and " took " in line for line in lines)

    def test_handles_know_where_they_were_made(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        reports = reports_of(loop)
        handle = loop.call_soon(divmod, 1, 0)
        assert f"created at {__file__}:" in repr(handle)
        turns(loop)
        (report,) = reports
        assert report["source_traceback"][-1].filename == __file__


@pytest.mark.weft_only
class TestUnready:
    """A loop whose ``__init__`` has not run, or has failed, says so; it does not crash."""

    @pytest.mark.parametrize(
        "call",
        [
            "loop.call_soon(print)",
            "loop.call_soon_threadsafe(print)",
            "loop.call_later(1, print)",
            "loop.call_at(1, print)",
            "loop.time()",
            "loop.add_reader(0, print)",
            "loop.remove_reader(0)",
            "loop.stop()",
            "loop.is_running()",
            "loop.run_forever()",
            "loop.close()",
            "repr(loop)",
        ],
    )
    def test_each_method(self, call: str) -> None:
        run_script(
            """
            import contextlib, sys, weft
            class Loop(weft.EventLoop):
                def __init__(self): pass
            loop = Loop()
            with contextlib.suppress(RuntimeError, AttributeError):
                exec(sys.argv[1])
            """,
            call,
        )

    def test_a_driver_that_is_none_leaves_no_trace(self, recwarn: pytest.WarningsRecorder) -> None:
        with pytest.raises(TypeError):
            weft.EventLoop(driver=object())  # type: ignore[arg-type]
        gc.collect()
        assert not recwarn.list

    def test_out_of_descriptors(self) -> None:
        """OSError and nothing else: no warning, no exception that nobody can be told of, nothing left open."""
        run_script(
            """
            import gc, os, resource, weft
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            taken = []
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            for _ in range(3):
                try:
                    weft.new_event_loop()
                except OSError as error:
                    assert error.errno == 24, error
                else:
                    raise AssertionError("a loop without descriptors")
                gc.collect()
            while taken:
                os.close(taken.pop())
            before = len(os.listdir("/proc/self/fd"))
            weft.new_event_loop().close()
            assert len(os.listdir("/proc/self/fd")) == before
            """,
            flags=("-W", "error", "-X", "dev"),
        )


class TestDropped:
    """A loop that nobody closes and nobody holds any more is collected, warns, and gives everything back."""

    @pytest.mark.parametrize("what", ["new", "has run", "callback", "timer", "reader", "task"])
    def test_is_collected(self, what: str, new_loop: NewLoop) -> None:
        script = """
            import asyncio, gc, os, socket, sys, warnings, weakref, weft
            what, kind = sys.argv[1:]
            descriptors = lambda: len(os.listdir("/proc/self/fd"))
            before = descriptors()
            loop = asyncio.SelectorEventLoop() if kind == "asyncio" else weft.new_event_loop()
            ours, theirs = socket.socketpair()
            if what == "has run":
                loop.run_until_complete(asyncio.sleep(0))
            elif what == "callback":
                loop.call_soon(print)
            elif what == "timer":
                loop.call_later(1000, print)
            elif what == "reader":
                loop.add_reader(ours, print)
            elif what == "task":
                loop.create_task(asyncio.sleep(0))
            ref = weakref.ref(loop)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del loop
                gc.collect()
            ours.close(); theirs.close()
            said = [str(warning.message) for warning in caught]
            caught.clear()  # each warning holds what it is about
            gc.collect()
            assert ref() is None, "leaked"
            assert any("unclosed event loop" in message for message in said), said
            assert descriptors() == before
        """
        loop = new_loop()
        loop.close()
        run_script(script, what, "weft" if isinstance(loop, weft.EventLoop) else "asyncio")
