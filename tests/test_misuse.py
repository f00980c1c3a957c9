"""Wrong use: each gets an error that names the object, its state and the remedy, and the loop works on afterwards."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

import weft
from tests.core.kit import NewLoop, turns
from tests.core.streams import connected
from weft.errors import LoopClosedError, LoopRunningError, WeftError, WrongThreadError


def skip_where_stock_forgets(loop: asyncio.AbstractEventLoop) -> None:
    """CPython 3.13.0: a ``run_forever`` that was refused cleans up after the loop that runs, and no second is."""
    if not isinstance(loop, weft.EventLoop) and sys.version_info[:3] == (3, 13, 0):
        pytest.skip("asyncio 3.13.0 forgets which loop runs when it refuses a second one")


async def nothing() -> None: ...


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def remedy(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


@pytest.fixture
def weft_loop() -> Iterator[weft.EventLoop]:
    """A weft loop that must still work at the end of the test."""
    loop = weft.new_event_loop()
    yield loop
    if not loop.is_closed():
        assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"
        loop.close()


class TestErrors:
    def test_are_what_asyncio_raises(self) -> None:
        for kind in (LoopClosedError, LoopRunningError, WrongThreadError):
            assert issubclass(kind, RuntimeError)
            assert issubclass(kind, WeftError)

    def test_carry_their_remedy(self) -> None:
        assert "make another with weft.new_event_loop()" in remedy(LoopClosedError())
        assert "use await or create_task()" in remedy(LoopRunningError())
        assert "use loop.call_soon_threadsafe()" in remedy(WrongThreadError())


def in_thread(call: Callable[[], object]) -> BaseException | None:
    """What ``call`` raises in a thread of its own."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised[0] if raised else None


class TestWrongThread:
    """A running loop belongs to the thread that runs it: checked always, as it costs one comparison."""

    CALLS: ClassVar[dict[str, Callable[[Any], object]]] = {
        "call_soon": lambda loop: loop.call_soon(print),
        "call_later": lambda loop: loop.call_later(1, print),
        "call_at": lambda loop: loop.call_at(1, print),
        "add_reader": lambda loop: loop.add_reader(0, print),
        "remove_reader": lambda loop: loop.remove_reader(0),
        "add_writer": lambda loop: loop.add_writer(0, print),
        "remove_writer": lambda loop: loop.remove_writer(0),
        "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    }

    @pytest.mark.parametrize("name", CALLS)
    def test_methods(self, weft_loop: weft.EventLoop, name: str) -> None:
        async def main() -> BaseException | None:
            return await weft_loop.run_in_executor(None, in_thread, lambda: self.CALLS[name](weft_loop))

        error = weft_loop.run_until_complete(main())
        if name in ("remove_reader", "remove_writer", "run_in_executor") and error is None:
            return  # harmless: nothing was watched, or the call is safe in any thread
        assert isinstance(error, WrongThreadError)
        text = str(error)
        assert text.startswith("Non-thread-safe operation invoked on an event loop other than the current one")
        assert f"runs in thread {threading.get_ident()}" in text
        assert "<EventLoop running=True closed=False" in text
        assert "use loop.call_soon_threadsafe()" in remedy(error)
        weft_loop.run_until_complete(weft_loop.shutdown_default_executor())

    def test_create_task(self, weft_loop: weft.EventLoop) -> None:
        coroutine = nothing()
        made = []

        async def main() -> BaseException | None:
            error = in_thread(lambda: made.append(weft_loop.create_task(coroutine)))
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return error

        assert isinstance(weft_loop.run_until_complete(main()), WrongThreadError)
        assert not made
        coroutine.close()

    def test_cancelling_a_task(self, weft_loop: weft.EventLoop) -> None:
        """It is refused before anything changes: half a cancellation would leave the task asleep for ever."""

        async def main() -> None:
            for awaitable in (forever(), asyncio.sleep(1000)):
                task = asyncio.create_task(awaitable)
                await asyncio.sleep(0)
                error = in_thread(task.cancel)
                assert isinstance(error, WrongThreadError)
                assert not task.done()
                assert task.cancelling() == 0
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 10)

        weft_loop.run_until_complete(main())

    def test_completing_a_future_that_is_awaited(self, weft_loop: weft.EventLoop) -> None:
        async def main() -> None:
            future = weft_loop.create_future()
            task = asyncio.create_task(self.wait_for(future))
            await asyncio.sleep(0)
            assert isinstance(in_thread(lambda: future.set_result(1)), WrongThreadError)
            task.cancel()
            await asyncio.sleep(0)

        weft_loop.run_until_complete(main())
        for task in asyncio.all_tasks(weft_loop):
            task.cancel()
        turns(weft_loop, 3)

    async def wait_for(self, future: asyncio.Future[Any]) -> None:
        await future

    @pytest.mark.parametrize(
        "call",
        [
            lambda transport: transport.write(b"data"),
            lambda transport: transport.writelines([b"data"]),
            lambda transport: transport.write_eof(),
            lambda transport: transport.close(),
            lambda transport: transport.abort(),
            lambda transport: transport.pause_reading(),
            lambda transport: transport.resume_reading(),
        ],
    )
    def test_transports(self, weft_loop: weft.EventLoop, call: Callable[[Any], object]) -> None:
        with connected(weft_loop) as (transport, protocol, peer):

            async def main() -> BaseException | None:
                return in_thread(lambda: call(transport))

            assert isinstance(weft_loop.run_until_complete(main()), WrongThreadError)
            turns(weft_loop, 3)
            assert protocol.events == [("made",)]
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            assert transport.get_write_buffer_size() == 0

    def test_running_it_again(self, weft_loop: weft.EventLoop) -> None:
        async def main() -> list[BaseException | None]:
            coroutine = nothing()
            errors = [
                in_thread(weft_loop.run_forever),
                in_thread(lambda: weft_loop.run_until_complete(coroutine)),
                in_thread(weft_loop.close),
            ]
            coroutine.close()
            return errors

        first, second, third = weft_loop.run_until_complete(main())
        assert isinstance(first, LoopRunningError)
        assert isinstance(second, LoopRunningError)
        assert str(first) == str(second) == "This event loop is already running"
        assert isinstance(third, LoopRunningError)
        assert str(third) == "Cannot close a running event loop"

    def test_what_any_thread_may_do(self, weft_loop: weft.EventLoop) -> None:
        async def main() -> None:
            for call in (
                lambda: weft_loop.call_soon_threadsafe(str),
                weft_loop.time,
                weft_loop.is_running,
                weft_loop.is_closed,
                weft_loop.get_debug,
                weft_loop.get_task_factory,
                lambda: repr(weft_loop),
                lambda: asyncio.all_tasks(weft_loop),
            ):
                if call.__name__ == "<lambda>":
                    continue
                assert in_thread(call) is None
            assert in_thread(lambda: weft_loop.call_soon_threadsafe(int)) is None
            assert in_thread(lambda: repr(weft_loop)) is None
            assert in_thread(lambda: asyncio.all_tasks(weft_loop)) is None

        weft_loop.run_until_complete(main())

    def test_a_loop_that_does_not_run_belongs_to_nobody(self, weft_loop: weft.EventLoop) -> None:
        assert in_thread(lambda: weft_loop.call_soon(int)) is None
        assert in_thread(lambda: weft_loop.call_later(0, int)) is None
        assert in_thread(lambda: weft_loop.run_until_complete(asyncio.sleep(0))) is None


class TestSecondLoop:
    def test_in_the_same_thread(self, new_loop: NewLoop, weft_loop: weft.EventLoop) -> None:
        other = new_loop()
        skip_where_stock_forgets(other)

        async def main() -> None:
            for call in (other.run_forever, lambda: other.run_until_complete(other.create_future())):
                with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
                    call()

        weft_loop.run_until_complete(main())
        other.run_until_complete(asyncio.sleep(0))
        other.close()

    def test_inside_itself(self, loop: asyncio.AbstractEventLoop) -> None:
        skip_where_stock_forgets(loop)

        async def main() -> None:
            with pytest.raises(RuntimeError, match="This event loop is already running"):
                loop.run_forever()
            future = loop.create_future()
            with pytest.raises(RuntimeError, match="This event loop is already running"):
                loop.run_until_complete(future)
            future.cancel()

        loop.run_until_complete(main())
        errors: list[BaseException] = []
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        loop.call_soon(loop.run_forever)
        turns(loop)
        assert [str(error) for error in errors] == ["This event loop is already running"]

    def test_a_future_of_another_loop(self, loop: asyncio.AbstractEventLoop, new_loop: NewLoop) -> None:
        other = new_loop()
        future = other.create_future()
        with pytest.raises(ValueError, match="The future belongs to a different loop"):
            loop.run_until_complete(future)
        other.close()

    def test_run_inside_run(self) -> None:
        async def main() -> None:
            coroutine = nothing()
            with pytest.raises(LoopRunningError) as caught:
                weft.run(coroutine)
            assert str(caught.value) == "weft.run() cannot be called from a running event loop"
            assert "use await or create_task()" in remedy(caught.value)

        weft.run(main())


class TestClosedLoop:
    CALLS: ClassVar[dict[str, Callable[[Any], object]]] = {
        "run_forever": lambda loop: loop.run_forever(),
        "call_soon": lambda loop: loop.call_soon(print),
        "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
        "call_later": lambda loop: loop.call_later(1, print),
        "call_at": lambda loop: loop.call_at(1, print),
        "add_reader": lambda loop: loop.add_reader(0, print),
        "add_writer": lambda loop: loop.add_writer(0, print),
        "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
        "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    }

    @pytest.mark.parametrize("name", CALLS)
    def test_refuses(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed") as caught:
            self.CALLS[name](loop)
        if isinstance(loop, weft.EventLoop):
            assert isinstance(caught.value, LoopClosedError)
            assert "make another with weft.new_event_loop()" in remedy(caught.value)

    def test_refuses_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.close()
        coroutine = nothing()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.create_task(coroutine)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.run_until_complete(coroutine)
        coroutine.close()

    @pytest.mark.parametrize(
        "method", ["create_connection", "create_server", "create_datagram_endpoint", "getaddrinfo", "sock_recv"]
    )
    def test_a_coroutine_of_it_cannot_run(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        """Made before the end or after: nothing runs it, and nothing breaks."""
        loop.close()
        with socket.socket() as sock:
            arguments: dict[str, tuple[Any, ...]] = {
                "create_connection": (asyncio.Protocol, "127.0.0.1", 1),
                "create_server": (asyncio.Protocol, "127.0.0.1", 0),
                "create_datagram_endpoint": (asyncio.DatagramProtocol, ("127.0.0.1", 0)),
                "getaddrinfo": ("localhost", 1),
                "sock_recv": (sock, 1),
            }
            coroutine = getattr(loop, method)(*arguments[method])
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                loop.run_until_complete(coroutine)
            coroutine.close()

    def test_answers_what_it_can(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.close()
        assert loop.is_closed()
        assert not loop.is_running()
        assert isinstance(loop.time(), float)
        assert loop.get_task_factory() is None
        assert loop.get_exception_handler() is None
        loop.stop()
        loop.set_debug(False)
        loop.set_exception_handler(None)
        loop.remove_reader(0)
        loop.remove_writer(0)


class TestArguments:
    """What is no coroutine, no callable, no address or no descriptor; the loop works afterwards."""

    @pytest.fixture(autouse=True)
    def still_works(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        yield
        assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"

    @pytest.mark.parametrize("thing", [None, 1, "callback", object()])
    @pytest.mark.parametrize("debug", [False, True])
    def test_no_callable(self, loop: asyncio.AbstractEventLoop, thing: Any, debug: bool) -> None:
        loop.set_debug(debug)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("call_soon", lambda: loop.call_soon(thing)),
            ("call_soon_threadsafe", lambda: loop.call_soon_threadsafe(thing)),
            ("call_later", lambda: loop.call_later(1, thing)),
            ("call_at", lambda: loop.call_at(1, thing)),
        ]
        for name, call in calls:
            if not isinstance(loop, weft.EventLoop) and not debug:
                continue  # asyncio finds out when it calls
            # asyncio's call_later() speaks of call_at().
            with pytest.raises(TypeError, match=rf"a callable object was expected by ({name}|call_at)\(\), got "):
                call()

    def test_a_coroutine_where_a_callable_belongs(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        coroutine = nothing()
        for thing in (coroutine, nothing):
            for call in (loop.call_soon, loop.call_soon_threadsafe, lambda thing: loop.call_later(1, thing)):
                with pytest.raises(TypeError, match="coroutines cannot be used with call_"):
                    call(thing)  # type: ignore[arg-type]
        coroutine.close()

    def test_call_later_without_a_time(self, loop: asyncio.AbstractEventLoop) -> None:
        # asyncio takes the text, and cannot go on then.
        for delay in (None, "1", object()) if isinstance(loop, weft.EventLoop) else (None,):
            with pytest.raises(TypeError):
                loop.call_later(delay, print)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                loop.call_at(delay, print)  # type: ignore[arg-type]

    @pytest.mark.parametrize("thing", [None, 1, nothing, "coroutine"])
    def test_no_coroutine(self, loop: asyncio.AbstractEventLoop, thing: Any) -> None:
        with pytest.raises(TypeError, match="coroutine"):
            loop.create_task(thing)
        with pytest.raises(TypeError, match="coroutine|awaitable"):
            loop.run_until_complete(thing)
        assert asyncio.all_tasks(loop) == set()

    @pytest.mark.parametrize("fd", [-1, -100, object(), "1", None, 1.5])
    def test_no_descriptor(self, loop: asyncio.AbstractEventLoop, fd: Any) -> None:
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises((ValueError, OSError), match=r"Invalid file|fileno|negative"):
                method(fd, print)
        for remove in (loop.remove_reader, loop.remove_writer):
            with pytest.raises((ValueError, OSError), match=r"Invalid file|fileno|negative"):
                remove(fd)

    def test_a_closed_descriptor(self, loop: asyncio.AbstractEventLoop) -> None:
        with socket.socket() as sock:
            number = sock.fileno()
        with pytest.raises(OSError):
            loop.add_reader(number, print)
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.add_reader(sock, print)
        assert not loop.remove_reader(number)

    @pytest.mark.parametrize(
        "address", [("127.0.0.1", 99999), ("127.0.0.1", -1), ("127.0.0.1", "no such service"), ("999.999.999.999", 80)]
    )
    def test_a_bad_address(self, loop: asyncio.AbstractEventLoop, address: Any) -> None:
        with pytest.raises((OSError, OverflowError)):
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, *address))
        with pytest.raises((OSError, OverflowError)):
            loop.run_until_complete(loop.create_server(asyncio.Protocol, *address))

    @pytest.mark.parametrize("address", [42, "127.0.0.1", ("127.0.0.1",), (1, 2)])
    def test_what_is_no_address(self, loop: asyncio.AbstractEventLoop, address: Any) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises((TypeError, ValueError, OSError)):
                loop.run_until_complete(loop.sock_connect(sock, address))
            with pytest.raises((TypeError, ValueError, OSError)):
                loop.run_until_complete(loop.sock_sendto(sock, b"data", address))

    def test_a_blocking_socket_in_debug_mode(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        with socket.socket() as sock:
            for call in (loop.sock_recv(sock, 1), loop.sock_sendall(sock, b"x"), loop.sock_accept(sock)):
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    loop.run_until_complete(call)

    @pytest.mark.weft_only  # asyncio leaves an unclosed transport behind
    def test_protocols_that_are_none(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, theirs = socket.socketpair()
        with pytest.raises(AttributeError, match="connection_made"):
            loop.run_until_complete(loop.create_connection(lambda: None, sock=ours))  # type: ignore[type-var]
        theirs.close()
        ours.close()
