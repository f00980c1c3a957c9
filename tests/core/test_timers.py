"""Timers from outside, mostly on the virtual clock: order, cancelling, and what happens in the middle of it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.core.kit import NewLoop, reports_of, run_script, virtual_driver, virtual_loop

# -- a plan of timers that schedule and cancel timers, played by a loop on the virtual clock and by a model

Action: TypeAlias = tuple[str, int]
Plan: TypeAlias = list[list[Action]]

MOST = 700  # timers in one play; the heap drops the cancelled ones from 100 timers on
ACTIONS = st.one_of(
    st.tuples(st.just("at"), st.integers(0, 12)),
    st.tuples(st.just("later"), st.integers(-3, 6)),
    st.tuples(st.just("burst"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("cancel every"), st.integers(1, 4)),
    st.tuples(st.just("soon"), st.just(0)),
)


class Play:
    """Runs timer number i: it does what the plan says for it, and notes that it ran, and when."""

    def __init__(self, plan: Plan, backend: Any) -> None:
        self.plan = plan
        self.backend = backend
        self.handles: list[Any] = []
        self.order: list[tuple[int, float]] = []

    def run(self, index: int) -> None:
        self.order.append((index, round(self.backend.time(), 6)))
        self.act(self.plan[(index + 1) % len(self.plan)])

    def act(self, actions: list[Action]) -> None:
        for how, number in actions:
            if how == "cancel":
                if self.handles:
                    self.handles[-1 - number % len(self.handles)].cancel()
            elif how == "cancel every":
                for handle in self.handles[-300::number]:
                    handle.cancel()
            elif how == "burst":
                for place in range(110):
                    self.add("at", number + place % 7)
            else:
                self.add(how, number)

    def add(self, how: str, number: int) -> None:
        index = len(self.handles)
        if index == MOST:
            return
        if how == "at":
            self.handles.append(self.backend.call_at(number, self.run, index))
        elif how == "later":
            self.handles.append(self.backend.call_later(number, self.run, index))
        else:
            self.handles.append(self.backend.call_soon(self.run, index))


class Entry:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Model:
    """A loop made of two lists: what is ready, and what has a moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: list[Entry] = []
        self.timers: list[tuple[float, int, Entry]] = []
        self.count = 0

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[int], None], index: int) -> Entry:
        entry = Entry(lambda: callback(index))
        self.ready.append(entry)
        return entry

    def call_at(self, when: float, callback: Callable[[int], None], index: int) -> Entry:
        entry = Entry(lambda: callback(index))
        self.count += 1
        self.timers.append((when, self.count, entry))
        return entry

    def call_later(self, delay: float, callback: Callable[[int], None], index: int) -> Entry:
        return self.call_at(self.now + delay, callback, index)

    def turn(self) -> bool:
        self.timers = sorted(timer for timer in self.timers if not timer[2].cancelled)
        if not self.ready and self.timers:
            self.now = max(self.now, self.timers[0][0])
        self.ready += [entry for when, _, entry in self.timers if when <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        batch, self.ready = self.ready, []
        for entry in batch:
            if not entry.cancelled:
                entry.call()
        return bool(self.ready or self.timers)


class TestOrder:
    @pytest.mark.weft_only
    @given(plan=st.lists(st.lists(ACTIONS, max_size=4), min_size=1, max_size=6))
    def test_by_moment_then_by_arrival(self, plan: Plan) -> None:
        model = Model()
        expected = Play(plan, model)
        expected.act(plan[0])
        while model.turn():
            pass
        with virtual_loop() as loop:
            play = Play(plan, loop)
            play.act(plan[0])
            loop.call_at(10_000, loop.stop)
            loop.run_forever()
        assert play.order == expected.order

    @pytest.mark.weft_only
    def test_of_the_same_moment(self) -> None:
        ran: list[int] = []
        with virtual_loop() as loop:
            for index in range(1000):
                loop.call_at(5, ran.append, index)
            loop.call_at(6, loop.stop)
            loop.run_forever()
        assert ran == list(range(1000))

    @pytest.mark.weft_only
    def test_a_nanosecond_apart(self) -> None:
        ran: list[int] = []
        with virtual_loop() as loop:
            for index in (3, 1, 2, 0):
                loop.call_at(1 + index * 1e-9, ran.append, index)
            loop.call_at(2, loop.stop)
            loop.run_forever()
        assert ran == [0, 1, 2, 3]

    @pytest.mark.time_limit(20)
    def test_one_that_schedules_itself_for_the_past(self, loop: asyncio.AbstractEventLoop) -> None:
        """It runs once a turn: what it schedules runs in the next, and starves nobody."""
        order: list[str] = []

        def again() -> None:
            order.append("timer")
            loop.call_soon(order.append, "soon")
            if len(order) < 20:
                loop.call_at(loop.time() - 1, again)
            else:
                loop.stop()

        loop.call_at(loop.time() - 1, again)
        loop.call_later(0.001, order.append, "other")
        loop.run_forever()
        while "other" in order:
            order.remove("other")
        assert order[:6] == ["timer", "soon", "timer", "soon", "timer", "soon"]

    def test_never_early(self, loop: asyncio.AbstractEventLoop) -> None:
        seen: list[tuple[float, float]] = []

        def check(when: float) -> None:
            seen.append((loop.time(), when))

        for index in range(50):
            when = loop.time() + index * 0.000_21
            loop.call_at(when, check, when)
        loop.call_later(0.03, loop.stop)
        loop.run_forever()
        assert len(seen) == 50
        # A float second of a machine that is up for months has a step of some nanoseconds.
        resolution = getattr(loop, "_clock_resolution", 0)
        assert all(now >= when - resolution - 1e-8 for now, when in seen)


class TestMoments:
    def test_infinity_is_never(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        handles = [loop.call_later(1e30, print), loop.call_at(1e300, print)]
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        assert not reports
        for handle in handles:
            handle.cancel()

    @pytest.mark.weft_only
    def test_infinity_itself(self) -> None:
        with virtual_loop() as loop:
            loop.call_later(math.inf, print)
            loop.call_at(math.inf, print)
            ran: list[int] = []
            loop.call_at(-math.inf, ran.append, 2)
            loop.call_later(-math.inf, ran.append, 3)
            loop.call_at(-1e9, ran.append, 4)
            loop.call_at(1, loop.stop)
            loop.run_forever()
        assert ran == [2, 3, 4]

    @pytest.mark.weft_only
    def test_nan_is_refused(self) -> None:
        with virtual_loop() as loop:
            with pytest.raises(ValueError, match="NaN"):
                loop.call_later(math.nan, print)
            with pytest.raises(ValueError, match="NaN"):
                loop.call_at(math.nan, print)

    def test_none_is_refused(self, loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(TypeError):
            loop.call_later(None, print)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            loop.call_at(None, print)  # type: ignore[arg-type]

    @pytest.mark.weft_only
    def test_the_clock_is_rounded_as_pythons_is(self) -> None:
        """Whole seconds are whole, and ``loop.time()`` agrees with ``time.monotonic()`` to the last bit."""
        driver = virtual_driver()
        loop = weft.EventLoop(driver=driver)
        try:
            for second in range(1, 1000):
                driver.now = second * 1_000_000_000 + second
                assert loop.time() == (second * 1_000_000_000 + second) / 1e9
        finally:
            loop.close()

    def test_when(self, loop: asyncio.AbstractEventLoop) -> None:
        moment = loop.time() + 100
        handle = loop.call_at(moment, print)
        assert handle.when() == moment
        before = loop.time()
        later = loop.call_later(100, print)
        assert before + 100 <= later.when() <= loop.time() + 100
        handle.cancel()
        later.cancel()


class TestCancel:
    def test_from_another_timer_of_the_same_moment(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[str] = []
        moment = loop.time()
        handles: list[asyncio.TimerHandle] = []
        loop.call_at(moment, lambda: handles[0].cancel())
        handles.append(loop.call_at(moment, ran.append, "cancelled"))
        loop.call_at(moment, ran.append, "kept")
        loop.call_later(0, loop.stop)
        loop.run_forever()
        assert ran == ["kept"]

    def test_after_it_has_run(self, loop: asyncio.AbstractEventLoop) -> None:
        handle = loop.call_later(0, loop.stop)
        loop.run_forever()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()

    def test_lets_go_of_callback_and_arguments(self, loop: asyncio.AbstractEventLoop) -> None:
        class Argument:
            pass

        argument = Argument()
        count = len(gc.get_referrers(argument))
        handles = [loop.call_later(1000 - index, print, argument) for index in range(10)]
        for handle in handles:
            handle.cancel()
        assert len(gc.get_referrers(argument)) == count

    @pytest.mark.weft_only
    def test_very_many(self) -> None:
        """All cancelled, in the three orders that meet the heap's different ways of dropping a slot."""
        with virtual_loop() as loop:
            for order in (1, -1, 7919):
                handles = [loop.call_at(1 + index % 1013, print) for index in range(100_000)]
                for index in range(len(handles)):
                    handles[index * order % len(handles)].cancel()
                del handles
            ran: list[int] = []
            loop.call_at(2, ran.append, 1)
            loop.call_at(3000, loop.stop)
            loop.run_forever()
            assert ran == [1]

    def test_the_cancelled_are_not_kept_for_long(self, loop: asyncio.AbstractEventLoop) -> None:
        """A timeout around each of many quick operations must not fill the memory until the timeouts are due."""

        class Argument:
            pass

        arguments = [Argument() for _ in range(2000)]
        first = loop.call_later(1, print)
        for argument in arguments:
            loop.call_later(3600, print, argument).cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        handles = [thing for thing in gc.get_objects() if type(thing) is type(first)]
        assert len(handles) < 300
        first.cancel()


class TestDestructors:
    """The heap drops handles, which ends contexts and arguments, which may call the loop: in a process of its own."""

    @pytest.mark.parametrize("what", ["schedule", "cancel", "both"])
    def test_that_change_the_heap_in_the_middle(self, what: str) -> None:
        run_script(SCRIPT_OF_DESTRUCTORS, what, env={"PYTHONMALLOC": "debug"})

    def test_that_cancel_the_next_timer_and_so_on(self) -> None:
        """The innermost cancellation finds that half of the heap is cancelled, most of it not counted yet."""
        run_script(
            """
            import weft
            loop = weft.new_event_loop()
            handles = []

            class Argument:
                def __init__(self, index):
                    self.index = index
                def __del__(self):
                    if self.index + 1 < len(handles):
                        handles[self.index + 1].cancel()

            for index in range(150):
                handles.append(loop.call_later(100 + index, print, Argument(index)))
            others = [loop.call_later(1000 + index, print) for index in range(120)]
            for index in range(17):
                loop.call_later(5000, print)
            for handle in others:
                handle.cancel()
            handles[0].cancel()
            del handles[:]
            loop.close()
            """,
            env={"PYTHONMALLOC": "malloc", "MALLOC_CHECK_": "3"},
        )


SCRIPT_OF_DESTRUCTORS = """
    import contextvars, gc, importlib, sys, weft
    what = sys.argv[1]
    variable = contextvars.ContextVar("variable")
    loop = weft.EventLoop(driver=importlib.import_module("weft._core.virtual").VirtualDriver())
    ran, made, kept = [], 0, []

    class Value:
        def __init__(self, index):
            self.index = index
        def __del__(self):
            global made
            if what != "schedule":
                for handle in kept[:20]:
                    handle.cancel()
                del kept[:20]
            if what != "cancel":
                for index in range(30):
                    made += 1
                    loop.call_later(1000 + index, ran.append, index)

    def schedule(index):
        variable.set(Value(index))
        return loop.call_later(10 + index, print, "must not run")

    handles = []
    for index in range(400):
        handles.append(contextvars.copy_context().run(schedule, index))
        kept.append(loop.call_later(500 + index, print, "must not run either"))
    while handles:
        handles.pop(0).cancel()
    while kept:
        kept.pop(0).cancel()
    gc.collect()
    loop.call_later(5000, loop.stop)
    loop.run_forever()
    assert what == "cancel" or made >= 400 * 30, made
    assert len(ran) == made, (len(ran), made)
    loop.close()
"""


class TestHandles:
    def test_compare_by_moment(self, loop: asyncio.AbstractEventLoop) -> None:
        first, second = loop.call_later(100, print), loop.call_later(200, print)
        assert first < second <= second
        assert second > first >= first
        assert sorted([second, first]) == [first, second]
        first.cancel()
        second.cancel()

    def test_are_timer_handles(self, loop: asyncio.AbstractEventLoop) -> None:
        handle = loop.call_later(100, print)
        assert isinstance(handle, asyncio.TimerHandle)
        assert isinstance(handle, asyncio.Handle)
        assert repr(handle).startswith(f"<TimerHandle when={handle.when()} print(")
        handle.cancel()
        assert repr(handle) == f"<TimerHandle cancelled when={handle.when()}>"

    def test_keep_their_context(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        context = contextvars.Context()
        handle = loop.call_later(100, print, context=context)
        assert handle._context is context  # type: ignore[attr-defined]
        handle.cancel()
        loop.close()
