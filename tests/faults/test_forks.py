"""A fork in the middle of a program: the parent and its peers notice nothing, whatever the child does."""

from __future__ import annotations

import pytest

from tests.core.kit import run_script

pytestmark = pytest.mark.weft_only

FLAGS = ("-W", "ignore::DeprecationWarning")

# The parent serves, has written something to three clients that has not left yet, and forks. Afterwards each must get
# it once, with nothing of the child's in it, and the server must accept as before. The clients are plain sockets, so
# that no loop in the child can read what the child has sent.
PROGRAM = """
    import asyncio, logging, multiprocessing, os, signal, socket, sys, time, traceback, weft
    how = sys.argv[1]
    logging.disable(logging.CRITICAL)

    made = []

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            made.append(transport)
        def data_received(self, data):
            self.transport.write(data)

    def receive(client):
        data = client.recv(100)
        while len(data) < 16:
            data += client.recv(100)
        return data

    async def echo(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def fresh():
        loop = asyncio.get_running_loop()
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"in the child")
        assert await reader.readexactly(12) == b"in the child"
        writer.close()
        await writer.wait_closed()
        assert await loop.run_in_executor(None, int, "7") == 7
        server.close()

    def behave(loop, server):
        if how == "sys.exit":
            sys.exit(3)
        elif how == "raise":
            raise LookupError("in the child")
        elif how == "return":
            return
        elif how == "close what it has inherited":
            for transport in made:
                transport.close()
            server.close()
        elif how == "abort what it has inherited":
            for transport in made:
                transport.abort()
        elif how == "wake the loop":
            loop.call_soon_threadsafe(os._exit, 9)
        elif how == "close the loop":
            asyncio._set_running_loop(None)
            try:
                loop.close()
            except RuntimeError:
                pass
        elif how == "new loop":
            asyncio._set_running_loop(None)
            with asyncio.Runner(loop_factory=weft.new_event_loop) as runner:
                runner.run(fresh())
        elif how == "weft.run":
            weft.run(fresh())
        elif how == "signal":
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.01)
        elif how != "os._exit":
            raise AssertionError(how)
        os._exit(3)

    def target():
        weft.run(fresh())
        sys.exit(3)

    async def fork(loop, server):
        if how == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=target)
            process.start()
            await loop.run_in_executor(None, process.join)
            code = process.exitcode
            process.close()
            return code
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # not closed: to fail to flush it at exit is status 120
            behave(loop, server)
            return None
        _, status = await loop.run_in_executor(None, os.waitpid, pid, 0)
        return os.waitstatus_to_exitcode(status)

    async def main():
        loop = asyncio.get_running_loop()
        wrong, stop = [], asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, wrong.append, "the parent got the child's signal")
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address, timeout=20) for _ in range(3)]
        waiting = asyncio.create_task(stop.wait())
        while len(made) < 3:
            await asyncio.sleep(0)
        for transport in made:
            transport.write(b"before it, ")
        code = await fork(loop, server)
        if code is None:
            return  # the child goes its way
        for client, transport in zip(clients, list(made)):
            client.sendall(b"after")
            got = await loop.run_in_executor(None, receive, client)
            assert got == b"before it, after", got
            transport.close()
            assert await loop.run_in_executor(None, client.recv, 100) == b""
            client.close()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"new")
        assert await reader.readexactly(3) == b"new"
        writer.close()
        await writer.wait_closed()
        server.close()
        stop.set()
        await waiting
        loop.remove_signal_handler(signal.SIGUSR1)
        assert not wrong, wrong
        return code

    me = os.getpid()
    code = weft.run(main())
    if os.getpid() == me:
        print(code)
"""

CODES = {
    "os._exit": 3,
    "sys.exit": 3,
    "raise": 1,
    "return": 0,
    "close what it has inherited": 3,
    "abort what it has inherited": 3,
    "wake the loop": 3,
    "close the loop": 3,
    "new loop": 3,
    "weft.run": 3,
    "signal": 3,
    "multiprocessing": 3,
}


@pytest.mark.parametrize("how", CODES)
def test_the_parent_goes_on(how: str) -> None:
    assert run_script(PROGRAM, how, flags=FLAGS).strip() == str(CODES[how])


def test_in_a_protocol() -> None:
    """What the kernel had reported before the fork, and is not delivered yet, is the parent's alone."""
    out = run_script(
        """
        import asyncio, os, socket, sys, weft
        loop = weft.new_event_loop()
        got = {}
        class Forking(asyncio.Protocol):
            pid = None
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                if Forking.pid is None:
                    Forking.pid = os.fork()
                got[self] = data
                if len(got) == 8 or Forking.pid == 0:
                    loop.stop()
        pairs = [socket.socketpair() for _ in range(8)]
        for ours, _ in pairs:
            loop.run_until_complete(loop.create_connection(Forking, sock=ours))
        for number, (_, theirs) in enumerate(pairs):
            theirs.send(b"%d" % number)
        loop.run_forever()
        if Forking.pid == 0:
            os._exit(len(got))
        assert os.waitstatus_to_exitcode(os.waitpid(Forking.pid, 0)[1]) == 1
        print(sorted(int(data) for data in got.values()))
        for protocol in got:
            protocol.transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """,
        flags=FLAGS,
    )
    assert out.strip() == str(list(range(8)))


def test_from_another_thread() -> None:
    """The thread of the loop does not exist in the child, which can still make a loop of its own."""
    run_script(
        """
        import asyncio, os, threading, weft
        loop = weft.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        async def hello():
            await asyncio.sleep(0.001)
            return 7
        assert asyncio.run_coroutine_threadsafe(hello(), loop).result(10) == 7
        pid = os.fork()
        if pid == 0:
            os._exit(weft.run(hello()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert asyncio.run_coroutine_threadsafe(hello(), loop).result(10) == 7
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """,
        flags=FLAGS,
    )


def test_before_the_loop_runs() -> None:
    """A server that listens first and forks then: each child serves with the loop that it has inherited."""
    run_script(
        """
        import asyncio, os, socket, weft
        async def echo(reader, writer):
            writer.write(await reader.readexactly(4) + b"%d" % os.getpid())
            writer.close()
            await writer.wait_closed()
            asyncio.get_running_loop().stop()
        loop = weft.new_event_loop()
        ours, theirs = socket.socketpair()
        early = loop.run_until_complete(asyncio.open_connection(sock=ours))
        server = loop.run_until_complete(asyncio.start_server(echo, "127.0.0.1", 0))
        address = server.sockets[0].getsockname()
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                loop.run_forever()
                assert loop.run_until_complete(early[0].readexactly(5)) == b"early"
                os._exit(7)
            with socket.create_connection(address) as sock:
                sock.settimeout(10)
                sock.send(b"hey ")
                assert sock.recv(100) == b"hey %d" % pid
            theirs.send(b"early")
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        with socket.create_connection(address) as sock:
            sock.send(b"hey ")
            loop.run_forever()
            sock.settimeout(10)
            assert sock.recv(100) == b"hey %d" % os.getpid()
        early[1].close()
        server.close()
        theirs.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        """,
        flags=FLAGS,
    )
