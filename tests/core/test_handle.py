"""Handles: what they are to asyncio's users, cancelling at every moment, and how they end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from tests.core.kit import reports_of, run_script, turns


def callback(*args: object) -> None: ...


class Nothing:
    """Something that can be referred to weakly."""

    def __call__(self, *args: object) -> None: ...


class TestIdentity:
    def test_is_an_asyncio_handle(self, loop: asyncio.AbstractEventLoop) -> None:
        for handle in (loop.call_soon(callback), loop.call_soon_threadsafe(callback), loop.call_later(0, callback)):
            assert isinstance(handle, asyncio.Handle)
            assert issubclass(handle.__class__, asyncio.Handle)
        assert not isinstance(loop.call_soon(callback), asyncio.TimerHandle)

    def test_repr(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)  # from 3.13 on, arguments are shown in debug mode only
        handle = loop.call_soon(callback, 1, "two")
        assert repr(handle).startswith("<Handle callback(1, 'two') at ")
        handle.cancel()
        assert repr(handle).startswith("<Handle cancelled callback(1, 'two') at ")

    def test_private_names_that_libraries_read(self, loop: asyncio.AbstractEventLoop) -> None:
        handle: Any = loop.call_soon(callback, 1)
        assert (handle._callback, handle._args, handle._loop) == (callback, (1,), loop)
        assert handle._cancelled is False
        assert isinstance(handle._context, contextvars.Context)
        assert handle._source_traceback is None

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context() came with 3.12")
    def test_context(self, loop: asyncio.AbstractEventLoop) -> None:
        context = contextvars.Context()
        assert loop.call_soon(callback, context=context).get_context() is context  # type: ignore[attr-defined]

    def test_can_be_referred_to_weakly_and_hashed(self, loop: asyncio.AbstractEventLoop) -> None:
        handle = loop.call_soon(callback)
        ref = weakref.ref(handle)
        assert ref() is handle
        assert {handle: 1}[handle] == 1
        turns(loop)
        del handle
        assert ref() is None

    @pytest.mark.weft_only
    def test_cannot_be_made_by_hand(self, loop: asyncio.AbstractEventLoop) -> None:
        for handle in (loop.call_soon(callback), loop.call_later(0, callback)):
            with pytest.raises(TypeError, match=r"made by loop\.call_soon"):
                type(handle)()  # type: ignore[call-arg]
            handle.cancel()

    @pytest.mark.weft_only
    def test_an_empty_one_does_not_crash(self) -> None:
        run_script(
            """
            import contextlib, weft
            loop = weft.new_event_loop()
            for made in (loop.call_soon(print), loop.call_later(1, print)):
                kind = type(made)
                handle = kind.__new__(kind)
                for name in ("_run", "cancelled", "get_context", "__repr__", "cancel", "_run", "__repr__", "when"):
                    with contextlib.suppress(Exception):
                        getattr(handle, name)()
                made.cancel()
            loop.close()
            """
        )


class TestCancel:
    def test_before_it_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []
        handle = loop.call_soon(ran.append, 1)
        assert not handle.cancelled()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        turns(loop)
        assert not ran

    def test_by_a_callback_of_the_same_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []
        handles: list[asyncio.Handle] = []
        loop.call_soon(lambda: [handle.cancel() for handle in handles])  # type: ignore[func-returns-value]
        handles += [loop.call_soon(ran.append, index) for index in range(1000)]
        turns(loop)
        assert not ran

    def test_by_itself_while_it_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        """The callback and its arguments live until it returns, although the handle has let go of them."""
        alive: list[bool] = []
        handles: list[asyncio.Handle] = []

        class Callback:
            def __call__(self, argument: Nothing) -> None:
                refs = weakref.ref(self), weakref.ref(argument)
                handles[0].cancel()
                gc.collect()
                alive.extend(ref() is not None for ref in refs)

        handles.append(loop.call_soon(Callback(), Nothing()))
        turns(loop)
        assert alive == [True, True]

    def test_after_it_ran(self, loop: asyncio.AbstractEventLoop) -> None:
        handle = loop.call_soon(callback)
        turns(loop)
        handle.cancel()
        assert handle.cancelled()

    def test_lets_go_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        thing = Nothing()
        ref = weakref.ref(thing)
        handles = [loop.call_soon(thing, thing), loop.call_soon_threadsafe(thing), loop.call_later(100, thing)]
        del thing
        for handle in handles:
            assert ref() is not None
            handle.cancel()
        assert ref() is None

    def test_by_the_destructor_of_its_own_argument(self, loop: asyncio.AbstractEventLoop) -> None:
        class Argument:
            handle: asyncio.Handle

            def __del__(self) -> None:
                self.handle.cancel()

        for schedule in (loop.call_soon, loop.call_soon_threadsafe, lambda *args: loop.call_later(100, *args)):
            argument = Argument()
            handle = argument.handle = schedule(callback, argument)
            del argument
            handle.cancel()
            assert handle.cancelled()

    def test_of_a_closed_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        handles = [loop.call_soon(callback), loop.call_soon_threadsafe(callback), loop.call_later(100, callback)]
        loop.close()
        for handle in handles:
            handle.cancel()
            assert handle.cancelled()


class TestEnd:
    def test_dies_with_its_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """By reference counts alone: a busy server must not depend on the collector."""
        gc.disable()
        try:
            thing = Nothing()
            ref = weakref.ref(thing)
            loop.call_soon(thing)
            loop.call_later(0, thing)
            loop.call_soon_threadsafe(thing, thing)
            del thing
            turns(loop, 3)
            assert ref() is None
        finally:
            gc.enable()

    def test_a_chain_of_them_does_not_exhaust_the_stack(self) -> None:
        """Each handle holds the one before it by a bound method; when the last goes, all go."""
        run_script(
            """
            import weft
            loop = weft.new_event_loop()
            for schedule in (
                loop.call_soon,
                loop.call_soon_threadsafe,
                lambda callback: loop.call_at(0, callback),
            ):
                handle = schedule(int)
                for _ in range(300_000):
                    handle = schedule(handle.cancelled)
                for _ in range(2):
                    loop.call_soon(loop.stop)
                    loop.run_forever()
                del handle
            loop.close()
            """
        )

    def test_cycles_through_a_handle_are_collected(self, loop: asyncio.AbstractEventLoop) -> None:
        thing = Nothing()
        ref = weakref.ref(thing)
        for handle in (loop.call_soon(thing), loop.call_soon_threadsafe(thing), loop.call_later(0, thing)):
            thing.__dict__[str(id(handle))] = handle
        turns(loop, 3)
        del thing, handle
        gc.collect()
        assert ref() is None

    def test_closing_the_loop_lets_go_of_everything(self, loop: asyncio.AbstractEventLoop) -> None:
        thing = Nothing()
        ref = weakref.ref(thing)
        for _ in range(500):
            loop.call_soon(thing)
            loop.call_later(100, thing)
            loop.call_soon_threadsafe(thing)
        del thing
        loop.close()
        gc.collect()
        assert ref() is None


class TestRunByHand:
    """Tools that drive handles themselves (test loops, profilers) call ``_run``."""

    def test_runs_in_its_context(self, loop: asyncio.AbstractEventLoop) -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
        context = contextvars.Context()
        handle: Any = loop.call_soon(variable.set, 1, context=context)
        handle._run()
        assert context[variable] == 1
        handle.cancel()

    def test_reports_errors(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        handle: Any = loop.call_soon(divmod, 1, 0)
        handle._run()
        handle.cancel()
        assert [report["handle"] for report in reports] == [handle]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="from 3.14 on cancel() waits")
class TestThreadSafeHandle:
    def test_cancel_waits_for_a_callback_that_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        running, go, ended = threading.Event(), threading.Event(), threading.Event()
        order: list[str] = []

        def work() -> None:
            running.set()
            assert go.wait(30)
            order.append("callback")

        def cancel() -> None:
            assert running.wait(30)
            go.set()
            handle.cancel()
            order.append("cancelled")
            ended.set()
            loop.call_soon_threadsafe(loop.stop)

        handle = loop.call_soon_threadsafe(work)
        thread = threading.Thread(target=cancel)
        thread.start()
        loop.run_forever()
        thread.join()
        assert order == ["callback", "cancelled"]
        assert ended.is_set()

    def test_many_threads_wait_for_its_end(self, loop: asyncio.AbstractEventLoop) -> None:
        running, order = threading.Event(), list[str]()

        def work() -> None:
            running.set()
            time.sleep(0.05)
            order.append("callback")

        def cancel() -> None:
            assert running.wait(30)
            assert handle.cancelled() in (False, True)
            handle.cancel()
            order.append("cancelled")

        handle = loop.call_soon_threadsafe(work)
        threads = [threading.Thread(target=cancel) for _ in range(5)]
        for thread in threads:
            thread.start()
        turns(loop)
        for thread in threads:
            thread.join(30)
        assert order == ["callback", *["cancelled"] * 5]

    def test_its_end_is_an_exception(self, loop: asyncio.AbstractEventLoop) -> None:
        running = threading.Event()

        def work() -> None:
            running.set()
            time.sleep(0.05)
            raise KeyboardInterrupt

        def cancel() -> None:
            assert running.wait(30)
            handle.cancel()

        handle = loop.call_soon_threadsafe(work)
        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        thread.join(30)
        assert not thread.is_alive()
        assert handle.cancelled()

    def test_can_be_cancelled_by_its_own_callback(self, loop: asyncio.AbstractEventLoop) -> None:
        handles: list[asyncio.Handle] = []
        handles.append(loop.call_soon_threadsafe(lambda: handles[0].cancel()))
        turns(loop)
        assert handles[0].cancelled()

    def test_cancelled_by_a_thread_before_it_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        ran: list[int] = []
        handle = loop.call_soon_threadsafe(ran.append, 1)
        thread = threading.Thread(target=handle.cancel)
        thread.start()
        thread.join()
        turns(loop)
        assert not ran
