"""The driver under a loop: what it holds, what it gives back, forked children, and many loops."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
from typing import Any

import pytest

from tests.core.kit import NewLoop, run_script, turns
from tests.core.streams import Log, connected, until


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestResources:
    def test_a_closed_loop_gives_everything_back(self, new_loop: NewLoop) -> None:
        before = descriptors()
        for _ in range(20):
            loop = new_loop()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        assert descriptors() == before

    @pytest.mark.weft_only
    def test_descriptors_of_a_loop_are_not_inherited(self, new_loop: NewLoop) -> None:
        before = set(os.listdir("/proc/self/fd"))
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        mine = [int(name) for name in set(os.listdir("/proc/self/fd")) - before]
        inheritable = []
        for fd in mine:
            try:
                inheritable += [fd] if os.get_inheritable(fd) else []
            except OSError:
                continue  # the descriptor of a listing
        loop.close()
        assert not inheritable

    def test_high_descriptor_numbers(self, loop: asyncio.AbstractEventLoop) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        high = min(soft - 10, 5000)
        ours, theirs = socket.socketpair()
        moved = socket.socket(fileno=os.dup2(ours.fileno(), high))
        ours.close()
        moved.setblocking(False)
        transport, protocol = loop.run_until_complete(loop.create_connection(Log, sock=moved))
        theirs.send(b"data")
        until(loop, lambda: protocol.data)
        transport.close()
        until(loop, lambda: protocol.is_lost)
        theirs.close()


class TestInterruption:
    def test_signals_that_nobody_handles_end_no_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """EINTR: the wait is taken up again, and what is due still happens."""
        hits: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
        main_thread = threading.main_thread().ident
        assert main_thread is not None

        def pester() -> None:
            for _ in range(20):
                signal.pthread_kill(main_thread, signal.SIGUSR1)
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=pester)
        try:
            loop.call_soon(thread.start)
            loop.run_forever()
            thread.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert hits

    def test_a_signal_handler_that_raises_leaves_the_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """While the loop waits for the kernel, that is; in a callback it would be the callback's error."""

        class Interrupt(Exception):
            pass

        def handler(*_: Any) -> None:
            raise Interrupt

        main_thread = threading.main_thread().ident
        assert main_thread is not None
        waiting = threading.Event()

        def strike() -> None:
            # No event tells that the main thread is in the kernel; by then it has been idle for a thousand turns' time.
            waiting.wait(0.05)
            signal.pthread_kill(main_thread, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, handler)
        thread = threading.Thread(target=strike)
        try:
            loop.call_soon(thread.start)
            with pytest.raises(Interrupt):
                loop.run_forever()
        finally:
            signal.signal(signal.SIGUSR1, before)
        thread.join()
        assert not loop.is_running()
        turns(loop, 2)


class TestThreads:
    def test_a_loop_in_each_of_many_threads(self, new_loop: NewLoop) -> None:
        results: list[int] = []

        async def work() -> int:
            total = 0
            for _ in range(50):
                await asyncio.sleep(0)
                total += await asyncio.to_thread(int, "1") if total < 3 else 1
            return total

        def run() -> None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                results.append(runner.run(work()))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [50] * 8

    def test_a_loop_that_moves_from_thread_to_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        """Between runs a loop belongs to nobody: whoever runs it next, owns it."""
        with connected(loop) as (_, protocol, peer):
            for index in range(4):
                peer.send(b"x")
                thread = threading.Thread(target=until, args=(loop, lambda: len(protocol.data) == index + 1))  # noqa: B023
                thread.start()
                thread.join()
            assert len(protocol.data) == 4


FORK = """
    import asyncio, os, signal, socket, sys, weft

    async def child(sock):
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"hello from the child")
        await writer.drain()
        assert await loop.run_in_executor(None, int, "7") == 7
        await asyncio.sleep(0.001)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        assert await process.wait() == 3
        got = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, got.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR1)
        await got
        loop.remove_signal_handler(signal.SIGUSR1)
        writer.close()
        await writer.wait_closed()

    async def main():
        loop = asyncio.get_running_loop()
        wrong = []
        loop.add_signal_handler(signal.SIGUSR1, wrong.append, "the parent got the signal of the child")
        ours, theirs = socket.socketpair()
        other, quiet = socket.socketpair()
        loop.add_reader(other, wrong.append, "nobody has written yet")
        waiting = asyncio.create_task(asyncio.sleep(0.05))
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                fresh = weft.new_event_loop()
                fresh.run_until_complete(child(theirs))
                fresh.close()
                status = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(status)
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        assert await reader.read() == b"hello from the child"
        _, status = await loop.run_in_executor(None, os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await waiting
        writer.close()
        # The parent's own watches are what they were.
        assert not wrong
        read = loop.create_future()
        loop.add_reader(other, read.set_result, None)
        quiet.send(b"x")
        await read
        loop.remove_reader(other)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not wrong:
            await asyncio.sleep(0)
        loop.remove_signal_handler(signal.SIGUSR1)
        for sock in (other, quiet):
            sock.close()

    weft.run(main())
"""


class TestFork:
    def test_a_new_loop_in_the_child_of_a_running_program(self) -> None:
        run_script(FORK, flags=("-W", "ignore::DeprecationWarning"))

    def test_closing_the_inherited_loop_in_the_child(self) -> None:
        """It must not disturb the parent's: what the child closes are copies."""
        run_script(
            """
            import asyncio, os, socket, sys, weft
            loop = weft.new_event_loop()
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            got = []
            loop.add_reader(ours, lambda: (got.append(ours.recv(10)), loop.stop()))
            loop.run_until_complete(asyncio.sleep(0))
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    loop.close()
                    fresh = weft.new_event_loop()
                    fresh.run_until_complete(asyncio.sleep(0.001))
                    fresh.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            theirs.send(b"data")
            loop.call_later(10, loop.stop)
            loop.run_forever()
            assert got == [b"data"], got
            loop.close()
            """,
            flags=("-W", "ignore::DeprecationWarning"),
        )
