"""Signal handlers, and a loop that wakes for every signal."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import weft

NewLoop = Callable[[], asyncio.AbstractEventLoop]
variable = contextvars.ContextVar("variable", default="unset")


def raise_in_process(signum: int) -> None:
    os.kill(os.getpid(), signum)


def is_blocked(tid: int) -> bool:
    """Whether thread ``tid`` sleeps in epoll_wait; where the kernel does not say in what, whether it sleeps."""
    with open(f"/proc/self/task/{tid}/wchan") as wchan, open(f"/proc/self/task/{tid}/stat") as stat:
        where = wchan.read()
        return "poll" in where or (where in {"", "0"} and stat.read().rpartition(")")[2].split()[0] == "S")


@contextmanager
def when_blocked(action: Callable[[], None]) -> Iterator[None]:
    """Do ``action`` in a thread, once the main thread waits in epoll."""
    main = threading.main_thread().native_id
    assert main is not None
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            if is_blocked(main):
                action()
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def raise_in_this_thread(signum: int) -> None:
    """In a thread that is not the main one: unlike a signal to the process, it does not interrupt the main thread."""
    signal.pthread_kill(threading.get_ident(), signum)


@contextmanager
def python_handler(signum: int, handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


@contextmanager
def wakeup_fd() -> Iterator[tuple[socket.socket, int]]:
    """Somebody else's wake-up descriptor: what arrives at it, and its number."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        receiver.setblocking(False)
        sender.setblocking(False)
        before = signal.set_wakeup_fd(sender.fileno())
        try:
            yield receiver, sender.fileno()
        finally:
            signal.set_wakeup_fd(before)


def current_wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def until_called(loop: asyncio.AbstractEventLoop, signum: int, *signals: int) -> list[Any]:
    """Send ``signals`` and run until the loop's handler for ``signum`` was called."""
    calls: list[Any] = []

    def called() -> None:
        calls.append(signum)
        loop.stop()

    loop.add_signal_handler(signum, called)
    for sent in signals:
        raise_in_process(sent)
    loop.run_forever()
    return calls


class TestHandlers:
    def test_is_called_with_its_arguments_in_its_context(self, loop: asyncio.AbstractEventLoop) -> None:
        calls = []

        def called(*args: int) -> None:
            calls.append((args, variable.get(), asyncio.get_running_loop() is loop))
            loop.stop()

        loop.add_signal_handler(signal.SIGUSR2, int)
        token = variable.set("set")
        loop.add_signal_handler(signal.SIGUSR1, called, 1, 2)
        variable.reset(token)
        with when_blocked(lambda: raise_in_process(signal.SIGUSR1)):
            loop.run_forever()
        assert calls == [((1, 2), "set", True)]

    def test_is_called_once_for_each_signal_in_order(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
        loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)

        async def main() -> None:
            for signum in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
                raise_in_process(signum)
            while len(calls) < 4:
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        assert calls == [2, 1, 1, 2]

    def test_a_signal_between_two_runs_is_kept_for_the_next(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(asyncio.sleep(0))
        assert until_called(loop, signal.SIGUSR1, signal.SIGUSR1) == [signal.SIGUSR1]
        raise_in_process(signal.SIGUSR1)
        assert until_called(loop, signal.SIGUSR1) == [signal.SIGUSR1]

    def test_the_last_handler_counts(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGUSR1, pytest.fail, "replaced")
        assert until_called(loop, signal.SIGUSR1, signal.SIGUSR1)

    def test_remove(self, loop: asyncio.AbstractEventLoop) -> None:
        for signum, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGUSR1, signal.SIG_DFL)):
            assert not loop.remove_signal_handler(signum)
            loop.add_signal_handler(signum, int)
            assert signal.getsignal(signum) is not default
            assert loop.remove_signal_handler(signum)
            assert not loop.remove_signal_handler(signum)
            assert signal.getsignal(signum) is default
        assert current_wakeup_fd() == -1

    def test_close_removes_all(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.add_signal_handler(signal.SIGINT, int)
        loop.close()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert current_wakeup_fd() == -1

    def test_an_exception_in_a_handler_goes_to_the_exception_handler(self, loop: asyncio.AbstractEventLoop) -> None:
        contexts: list[dict[str, Any]] = []

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            contexts.append(context)
            loop.stop()

        loop.set_exception_handler(handle)
        loop.add_signal_handler(signal.SIGUSR1, divmod, 1, 0)
        raise_in_process(signal.SIGUSR1)
        loop.run_forever()
        assert isinstance(contexts[0]["exception"], ZeroDivisionError)


class TestWrongUse:
    def test_bad_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        wrong: Any
        for wrong in ("SIGTERM", 1.0, None):
            with pytest.raises(TypeError, match="sig must be an int"):
                loop.add_signal_handler(wrong, int)
            with pytest.raises(TypeError, match="sig must be an int"):
                loop.remove_signal_handler(wrong)
        for wrong in (0, -1, signal.NSIG + 1):
            with pytest.raises(ValueError, match="invalid signal number"):
                loop.add_signal_handler(wrong, int)
            with pytest.raises(ValueError, match="invalid signal number"):
                loop.remove_signal_handler(wrong)

    def test_signals_that_cannot_be_caught(self, loop: asyncio.AbstractEventLoop) -> None:
        for signum in (signal.SIGKILL, signal.SIGSTOP):
            with pytest.raises(RuntimeError, match="cannot be caught"):
                loop.add_signal_handler(signum, int)
            assert not loop.remove_signal_handler(signum)
        assert current_wakeup_fd() == -1

    def test_coroutines(self, loop: asyncio.AbstractEventLoop) -> None:
        async def coroutine_function() -> None:
            """Never called."""

        coroutine: Any = coroutine_function()
        for wrong in (coroutine_function, coroutine):
            with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
                loop.add_signal_handler(signal.SIGUSR1, wrong)
        coroutine.close()

    def test_another_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        caught: list[BaseException] = []

        def work() -> None:
            try:
                loop.add_signal_handler(signal.SIGUSR1, int)
            except RuntimeError as exc:
                caught.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert "main thread" in str(caught[0])
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    def test_closed_loop(self, new_loop: NewLoop) -> None:
        loop = new_loop()
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.add_signal_handler(signal.SIGUSR1, int)


class TestWaking:
    """A loop that waits notices signals that it has no handler for."""

    def test_keyboard_interrupt(self, loop: asyncio.AbstractEventLoop) -> None:
        with when_blocked(lambda: raise_in_process(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))

    def test_runner_cancels_its_task(self, new_loop: NewLoop) -> None:
        cancelled = []

        async def main() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with (
            asyncio.Runner(loop_factory=new_loop) as runner,
            when_blocked(lambda: raise_in_process(signal.SIGINT)),
            pytest.raises(KeyboardInterrupt),
        ):
            runner.run(main())
        assert cancelled == [True]

    @pytest.mark.weft_only  # asyncio sleeps on unless the handler wakes it
    @pytest.mark.parametrize("send", [raise_in_process, raise_in_this_thread])
    def test_a_python_handler_may_simply_stop_the_loop(
        self, loop: asyncio.AbstractEventLoop, send: Callable[[int], None]
    ) -> None:
        with python_handler(signal.SIGUSR1, lambda *_: loop.stop()):
            for _ in range(20):
                with when_blocked(lambda: send(signal.SIGUSR1)):
                    loop.run_forever()

    @pytest.mark.weft_only  # asyncio sleeps on
    def test_keyboard_interrupt_in_another_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        with when_blocked(lambda: raise_in_this_thread(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
            loop.run_forever()

    def test_handler_of_the_loop_for_a_signal_in_another_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        with when_blocked(lambda: raise_in_this_thread(signal.SIGUSR1)):
            loop.run_forever()

    @pytest.mark.weft_only
    def test_many_signals_do_not_fill_the_pipe(self, loop: asyncio.AbstractEventLoop) -> None:
        count = 0

        def handle(*_: object) -> None:
            nonlocal count
            count += 1

        async def main() -> None:
            for _ in range(100):
                for _ in range(1000):
                    raise_in_process(signal.SIGUSR1)
                await asyncio.sleep(0)

        with python_handler(signal.SIGUSR1, handle):
            loop.run_until_complete(main())
        assert count == 100_000


@pytest.mark.weft_only
class TestWakeupDescriptor:
    """``signal.set_wakeup_fd`` belongs to the process: what was there comes back, and is served meanwhile."""

    def test_is_installed_for_the_run_only(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> int:
            return current_wakeup_fd()

        assert loop.run_until_complete(main()) >= 0
        assert current_wakeup_fd() == -1

    def test_comes_back_when_the_run_raises(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon(signal.default_int_handler, signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert current_wakeup_fd() == -1

    def test_somebody_elses_comes_back_and_is_fed(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main() -> None:
            raise_in_process(signal.SIGUSR1)

        with python_handler(signal.SIGUSR1, lambda *_: None), wakeup_fd() as (receiver, fd):
            loop.run_until_complete(main())
            assert current_wakeup_fd() == fd
            assert receiver.recv(100) == bytes([signal.SIGUSR1])
            raise_in_process(signal.SIGUSR1)
            assert receiver.recv(100) == bytes([signal.SIGUSR1])

    def test_somebody_else_gets_what_comes_last(self, loop: asyncio.AbstractEventLoop) -> None:
        def last() -> None:
            raise_in_process(signal.SIGUSR1)
            loop.stop()

        with python_handler(signal.SIGUSR1, lambda *_: None), wakeup_fd() as (receiver, _):
            loop.call_soon(last)
            loop.run_forever()
            assert receiver.recv(100) == bytes([signal.SIGUSR1])

    def test_somebody_elses_comes_back_when_the_last_handler_goes(self, loop: asyncio.AbstractEventLoop) -> None:
        with wakeup_fd() as (_, fd):
            loop.add_signal_handler(signal.SIGUSR1, int)
            loop.run_until_complete(asyncio.sleep(0))
            assert current_wakeup_fd() != fd
            loop.remove_signal_handler(signal.SIGUSR1)
            assert current_wakeup_fd() == fd

    def test_one_that_is_put_in_during_the_run_stays(self, loop: asyncio.AbstractEventLoop) -> None:
        async def main(fd: int) -> None:
            signal.set_wakeup_fd(fd)

        with wakeup_fd() as (_, fd):
            signal.set_wakeup_fd(-1)
            loop.run_until_complete(main(fd))
            assert current_wakeup_fd() == fd

    def test_one_that_was_closed_does_not_come_back(self, loop: asyncio.AbstractEventLoop) -> None:
        receiver, sender = socket.socketpair()
        sender.setblocking(False)

        async def main() -> None:
            sender.close()
            raise_in_process(signal.SIGUSR1)

        with receiver, python_handler(signal.SIGUSR1, lambda *_: None):
            signal.set_wakeup_fd(sender.fileno())
            loop.run_until_complete(main())
            assert current_wakeup_fd() == -1

    def test_in_another_thread_nothing_is_touched(self, new_loop: NewLoop) -> None:
        def work() -> None:
            loop = new_loop()
            loop.run_until_complete(asyncio.sleep(0))
            fds.append(current_from_main())
            loop.close()

        fds: list[int] = []
        with wakeup_fd() as (receiver, fd):

            def current_from_main() -> int:
                raise_in_process(signal.SIGUSR1)
                return fd

            with python_handler(signal.SIGUSR1, lambda *_: None):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            assert receiver.recv(100) == bytes([signal.SIGUSR1])
            assert current_wakeup_fd() == fd

    def test_a_signal_for_a_stopped_loop_reaches_it_through_the_one_that_runs(self, new_loop: NewLoop) -> None:
        stopped, running = new_loop(), new_loop()
        calls: list[int] = []
        stopped.add_signal_handler(signal.SIGUSR1, calls.append, 1)

        async def main() -> None:
            raise_in_process(signal.SIGUSR1)
            await asyncio.sleep(0)

        running.run_until_complete(main())
        assert not calls
        stopped.call_soon(stopped.stop)
        stopped.run_forever()
        stopped.run_until_complete(asyncio.sleep(0))
        running.close()
        stopped.close()
        assert calls == [1]

    @pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    def test_loops_with_handlers_close_in_any_order(self, new_loop: NewLoop, order: tuple[int, ...]) -> None:
        with wakeup_fd() as (_, fd):
            loops = [new_loop() for _ in range(3)]
            for loop, signum in zip(loops, (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM), strict=True):
                loop.add_signal_handler(signum, int)
            for n in order:
                loops[n].close()
                current = current_wakeup_fd()
                os.fstat(current)  # open, whosever it is
                assert (current == fd) == all(loop.is_closed() for loop in loops)

    def test_a_forked_child_does_not_write_to_the_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
        loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)

        async def main() -> None:
            pid = os.fork()
            if pid == 0:
                raise_in_process(signal.SIGUSR1)
                os._exit(0 if current_wakeup_fd() == -1 else 1)
            assert os.waitpid(pid, 0)[1] == 0
            raise_in_process(signal.SIGUSR2)
            while not calls:
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        assert calls == [2]

    def test_a_new_loop_in_a_forked_child(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child = weft.new_event_loop()
                status = 0 if until_called(child, signal.SIGUSR1, signal.SIGUSR1) == [signal.SIGUSR1] else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        loop.run_until_complete(asyncio.sleep(0))
        assert not calls

    def test_a_forked_child_may_close_its_copy_of_the_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        calls: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                loop.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        loop.add_signal_handler(signal.SIGUSR2, loop.stop)
        raise_in_process(signal.SIGUSR1)
        raise_in_process(signal.SIGUSR2)
        loop.run_forever()
        assert calls == [1]
