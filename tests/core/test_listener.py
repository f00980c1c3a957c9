"""Accepting when the process has no descriptors left: in processes of their own, with a limit of their own."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.core.kit import reports_of, run_script, turns
from tests.core.streams import Log, until

# Clients connect from this process while the limit lets the server accept only some of them. Whoever waits in the
# kernel's queue must be served when descriptors are free again, and every reply must reach its own client.
SCRIPT = """
    import asyncio, os, resource, socket, sys, weft

    CLIENTS = 40
    reports = []

    class Echo(asyncio.Protocol):
        alive = set()
        def connection_made(self, transport):
            self.transport = transport
            Echo.alive.add(self)
        def data_received(self, data):
            self.transport.write(data)
        def connection_lost(self, exc):
            Echo.alive.discard(self)

    async def ask(number, sock):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"%d" % number)
        answer = await loop.sock_recv(sock, 100)
        assert answer == b"%d" % number, (number, answer)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=CLIENTS)
        address = server.sockets[0].getsockname()
        clients = []
        for number in range(CLIENTS):
            sock = socket.socket()
            sock.setblocking(False)
            clients.append(sock)
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        for sock in clients:
            try:
                sock.connect(address)
            except BlockingIOError:
                pass
        while len(Echo.alive) < 6 or not reports:
            await asyncio.sleep(0.001)
        assert len(Echo.alive) < CLIENTS
        for _ in range(20):  # several tries to accept go by
            await asyncio.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + CLIENTS + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        await asyncio.wait_for(asyncio.gather(*map(ask, range(CLIENTS), clients)), 30)
        assert len(Echo.alive) == CLIENTS
        for sock in clients:
            sock.close()
        server.close()
        await server.wait_closed()
        while Echo.alive:
            await asyncio.sleep(0.001)

    weft.run(main())
    (report,) = reports
    assert report["exception"].errno == 24, report
    assert "out of system resources" in report["message"], report
"""


class TestOutOfDescriptors:
    @pytest.mark.weft_only
    def test_nobody_is_dropped_and_one_report_is_made(self) -> None:
        run_script(SCRIPT)

    @pytest.mark.weft_only
    def test_a_server_that_is_closed_meanwhile(self) -> None:
        run_script(
            """
            import asyncio, os, resource, socket, weft
            reports = []
            async def main():
                loop = asyncio.get_running_loop()
                loop.set_exception_handler(lambda loop, context: reports.append(context))
                server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
                client = socket.socket()
                client.setblocking(False)
                used = len(os.listdir("/proc/self/fd")) - 1
                resource.setrlimit(resource.RLIMIT_NOFILE, (used, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
                try:
                    client.connect(server.sockets[0].getsockname())
                except BlockingIOError:
                    pass
                while not reports:
                    await asyncio.sleep(0)
                server.close()
                await server.wait_closed()
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
                await asyncio.sleep(0.12)  # two more tries would have been made
                client.close()
            weft.run(main())
            assert len(reports) == 1, reports
            """
        )


@pytest.mark.weft_only
class TestCallbacksThatFail:
    """asyncio leaks the connection in the first case, and says nothing outside debug mode in the second."""

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_the_two_that_leave_the_loop(self, loop: asyncio.AbstractEventLoop, kind: type[BaseException]) -> None:
        """The connection is closed, not leaked, and the server goes on when the loop runs again."""
        errors: list[BaseException] = [kind()]

        def factory() -> Log:
            if errors:
                raise errors.pop()
            logs.append(Log())
            return logs[-1]

        logs: list[Log] = []
        server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as first:
            with pytest.raises(kind):
                loop.run_forever()
            first.settimeout(10)
            assert first.recv(1) == b""
        with socket.create_connection(address) as second:
            until(loop, lambda: logs and logs[0].transport)
            second.sendall(b"data")
            until(loop, lambda: logs[0].data)
        until(loop, lambda: logs[0].is_lost)
        server.close()
        loop.run_until_complete(server.wait_closed())

    def test_others_are_reported_and_the_next_is_served(self, loop: asyncio.AbstractEventLoop) -> None:
        reports = reports_of(loop)
        errors = [LookupError() for _ in range(3)]

        def factory() -> Log:
            if errors:
                raise errors.pop()
            loop.stop()
            return Log()

        server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(4)]
        loop.run_forever()
        assert [type(report["exception"]) for report in reports] == [LookupError] * 3
        for client in clients:
            client.close()
        turns(loop, 5)
        server.close()
        loop.run_until_complete(server.wait_closed())
        turns(loop, 3)
        reports.clear()


@pytest.mark.weft_only
class TestClosing:
    def test_in_the_callback(self, loop: asyncio.AbstractEventLoop) -> None:
        """Several wait to be accepted; the first closes the server: the others are refused, nobody is half made."""
        logs: list[Log] = []
        servers: list[asyncio.Server] = []

        def factory() -> Log:
            servers[0].close()
            logs.append(Log())
            return logs[-1]

        servers.append(loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0)))
        clients = [socket.create_connection(servers[0].sockets[0].getsockname()) for _ in range(3)]
        until(loop, lambda: logs)
        turns(loop, 3)
        for client in clients:
            client.close()
        until(loop, lambda: all(log.is_lost for log in logs))
        loop.run_until_complete(servers[0].wait_closed())
