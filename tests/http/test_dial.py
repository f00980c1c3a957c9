"""Connections without a proxy: TCP and Unix sockets, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.http.dialkit import (
    check_echo,
    client_tls,
    echo,
    names_of,
    server_tls,
    serving,
    silent,
    talk,
    until_sockets,
)
from tests.loop.kit import Recorder, Run, open_sockets, refused, unreachable
from weft.http.client import Client
from weft.http.dial import Dialer, Route
from weft.http.errors import ConnectError, ResolveError
from weft.http.names import Names


class TestRoute:
    def test_equal_routes_are_one_key(self) -> None:
        assert {Route("http", "a.test", 80): 1}[Route("http", "a.test", 80)] == 1

    @pytest.mark.parametrize(
        "other",
        [
            Route("https", "a.test", 80),
            Route("http", "b.test", 80),
            Route("http", "a.test", 81),
            Route("http", "a.test", 80, tls=False),
            Route("http", "a.test", 80, server_hostname="b.test"),
            Route("http", "a.test", 80, unix="/run/a"),
            Route("http", "a.test", 80, tunnel=True),
            Route("http", "a.test", 80, alpn=("http/1.1",)),
        ],
    )
    def test_what_differs_is_another_key(self, other: Route) -> None:
        assert Route("http", "a.test", 80) != other


class TestTcp:
    def test_a_connection(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                await check_echo(Dialer(Names()), Route("http", "127.0.0.1", port))

        run(main())

    def test_a_name_of_the_system(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                await check_echo(Dialer(), Route("http", "localhost", port))

        run(main())

    def test_data_that_comes_first_is_not_lost(self, run: Run) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"welcome")
            await silent(reader, writer)

        async def main() -> None:
            async with serving(greet) as port:
                transport, protocol = await Dialer().dial(Route("http", "127.0.0.1", port), Recorder)
                assert await protocol.receive(7) == b"welcome"
                transport.close()
                await protocol.lost

        run(main())

    def test_socket_options_and_local_address(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                dialer = Dialer(local_address="127.0.0.9", socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
                transport, protocol = await dialer.dial(Route("http", "127.0.0.1", port), Recorder)
                assert transport.get_extra_info("sockname")[0] == "127.0.0.9"
                assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert await talk(transport, protocol) == b"hello"
                transport.close()
                await protocol.lost

        run(main())

    def test_the_local_port(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                local = taken.getsockname()
            async with serving(echo) as port:
                transport, protocol = await Dialer(local_address=local).dial(Route("http", "127.0.0.1", port), Recorder)
                assert transport.get_extra_info("sockname") == local
                transport.abort()
                await protocol.lost

        run(main())

    def test_a_local_address_chooses_the_family(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                names = names_of(both__test=["::1", "127.0.0.1"])
                await check_echo(Dialer(names, local_address="127.0.0.1"), Route("http", "both.test", port))
                with pytest.raises(ResolveError, match=r"four\.test has no IPv6 address"):
                    await Dialer(names_of(four__test="127.0.0.1"), local_address="::1").dial(
                        Route("http", "four.test", port), Recorder
                    )

        run(main())

    def test_no_file_descriptor_is_left(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port, Client() as client:
                limits = resource.getrlimit(resource.RLIMIT_NOFILE)
                free = os.dup(0)
                os.close(free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
                try:
                    with pytest.raises(ConnectError, match="Too many open files") as info:
                        await client.get(f"http://127.0.0.1:{port}/")
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                assert info.value.errno == errno.EMFILE
                assert "lower `Limits.total`" in info.value.__notes__[0]

        run(main())

    def test_a_local_address_that_is_not_ours(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                with pytest.raises(ConnectError, match="Cannot assign requested address") as info:
                    await Dialer(local_address="192.0.2.1").dial(Route("http", "127.0.0.1", port), Recorder)
                assert info.value.errno == errno.EADDRNOTAVAIL

        run(main())


def adopt(sock: socket.socket, protocol: asyncio.BaseProtocol) -> None:
    """As the loop's own way to begin at once."""
    loop: Any = asyncio.get_running_loop()
    loop._open_at_once(sock, protocol)


@pytest.mark.weft_only
class TestAtOnce:
    """A server on this machine: the kernel has made the connection when it has been asked for it."""

    def test_a_connection(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                protocol = Dialer(Names()).dial_at_once(Route("http", "127.0.0.1", port), adopt, Recorder)
                assert protocol is not None and protocol.made.done()
                protocol.transport.write(b"hello")
                assert await protocol.receive(5) == b"hello"
                protocol.transport.close()
                await protocol.lost

        run(main())

    def test_a_name_that_is_known(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port:
                dialer = Dialer(names_of(a__test="127.0.0.1"))
                route = Route("http", "a.test", port)
                assert dialer.dial_at_once(route, adopt, Recorder) is None
                await check_echo(dialer, route)
                protocol = dialer.dial_at_once(route, adopt, Recorder)
                assert protocol is not None
                protocol.transport.abort()
                await protocol.lost

        run(main())

    @pytest.mark.parametrize("host", ["192.0.2.1", "a.test", "::2", "::1:2", "::12"])
    def test_what_is_elsewhere_is_not_asked(self, run: Run, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            monkeypatch.setattr(socket, "socket", None)
            assert Dialer(Names()).dial_at_once(Route("http", host, 80), adopt, Recorder) is None

        run(main())

    def test_nobody_is_there(self, run: Run) -> None:
        async def main() -> None:
            with refused() as address:
                before = open_sockets()
                assert Dialer(Names()).dial_at_once(Route("http", *address), adopt, Recorder) is None
                assert open_sockets() == before

        run(main())

    def test_a_factory_that_fails_leaves_no_socket(self, run: Run) -> None:
        def fails() -> asyncio.Protocol:
            raise ZeroDivisionError

        async def main() -> None:
            async with serving(silent) as port:
                before = open_sockets()
                with pytest.raises(ZeroDivisionError) as caught:
                    Dialer(Names()).dial_at_once(Route("http", "127.0.0.1", port), adopt, fails)
                await until_sockets(before)
                assert caught.tb is not None  # whose frames hold the socket: it was closed, not collected

        run(main())

    def test_a_full_backlog(self, run: Run) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
                route = Route("http", "127.0.0.1", listener.getsockname()[1])
                before = open_sockets()
                made = []
                while (protocol := Dialer(Names()).dial_at_once(route, adopt, Recorder)) is not None:
                    made.append(protocol)
                    assert len(made) < 10
                assert made
                assert open_sockets() == before + len(made)
                for one in made:
                    one.transport.abort()
                    await one.lost

        run(main())


class TestHappyEyeballs:
    def test_the_second_address_answers_when_the_first_refuses(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, host="127.0.0.2") as port:
                # Nobody listens at that port of the other address; and no delay, so failing is what starts the next.
                dialer = Dialer(names_of(two__test=["127.0.0.1", "127.0.0.2"]), happy_eyeballs_delay=None)
                protocol = await check_echo(dialer, Route("http", "two.test", port))
                assert protocol.lost.result() is None

        run(main())

    def test_the_second_address_answers_while_the_first_hangs(self, run: Run) -> None:
        async def main() -> None:
            with unreachable() as (_, port):
                async with asyncio.timeout(20):
                    with socket.create_server(("127.0.0.2", port)):
                        before = open_sockets()
                        dialer = Dialer(names_of(two__test=["127.0.0.1", "127.0.0.2"]), happy_eyeballs_delay=0.01)
                        transport, protocol = await dialer.dial(Route("http", "two.test", port), Recorder)
                        assert transport.get_extra_info("peername")[0] == "127.0.0.2"
                        await until_sockets(before + 1)  # the one that hangs is closed
                        transport.close()
                        await protocol.lost

        run(main())

    def test_a_failure_starts_the_next_before_the_delay(self, run: Run) -> None:
        async def main() -> None:
            with unreachable() as (_, port):
                with socket.create_server(("127.0.0.3", port)):
                    dialer = Dialer(
                        names_of(three__test=["127.0.0.2", "127.0.0.3", "127.0.0.1"]), happy_eyeballs_delay=1e6
                    )
                    transport, protocol = await dialer.dial(Route("http", "three.test", port), Recorder)
                    assert transport.get_extra_info("peername")[0] == "127.0.0.3"
                    transport.close()
                    await protocol.lost

        run(main())

    def test_every_address_refuses(self, run: Run) -> None:
        async def main() -> None:
            with refused() as (_, port):
                before = open_sockets()
                names = names_of(two__test=["127.0.0.1", "127.0.0.2"])
                with pytest.raises(ConnectError) as info:
                    await Dialer(names).dial(Route("http", "two.test", port), Recorder)
                assert str(info.value) == (
                    f"cannot connect to two.test:{port} (127.0.0.1:{port}: Connection refused; "
                    f"127.0.0.2:{port}: Connection refused)"
                )
                assert info.value.errno == errno.ECONNREFUSED
                assert isinstance(info.value.__cause__, ExceptionGroup)
                assert [type(error) for error in info.value.__cause__.exceptions] == [ConnectionRefusedError] * 2
                assert open_sockets() == before

        run(main())

    def test_one_address_refuses(self, run: Run) -> None:
        async def main() -> None:
            with refused() as (host, port):
                with pytest.raises(ConnectError, match="Connection refused") as info:
                    await Dialer().dial(Route("http", host, port), Recorder)
                assert isinstance(info.value.__cause__, ConnectionRefusedError)
                assert isinstance(info.value, ConnectionError)

        run(main())

    def test_a_host_that_has_moved_is_found_the_next_time(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, host="127.0.0.2") as port:
                answers = [["127.0.0.1"], ["127.0.0.2"]]

                async def resolver(host: str) -> tuple[list[str], float]:
                    return answers.pop(0), 1e6

                dialer = Dialer(Names(resolver=resolver))
                route = Route("http", "moved.test", port)
                with pytest.raises(ConnectError):
                    await dialer.dial(route, Recorder)
                await check_echo(dialer, route)

        run(main())

    def test_a_name_without_address(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ResolveError, match=r"cannot resolve nowhere\.test: Name or service not known") as info:
                await Dialer(names_of()).dial(Route("http", "nowhere.test", 80), Recorder)
            assert isinstance(info.value.__cause__, socket.gaierror)

        run(main())

    def test_a_factory_that_fails(self, run: Run) -> None:
        def fail() -> Recorder:
            raise ZeroDivisionError

        async def main() -> None:
            async with serving(silent) as port:
                before = open_sockets()
                with pytest.raises(ZeroDivisionError):
                    await Dialer().dial(Route("http", "127.0.0.1", port), fail)
                await until_sockets(before)

        run(main())


class TestUnix:
    def test_a_connection(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = str(tmp_path / "server")
            async with serving(echo, path=path):
                await check_echo(Dialer(names_of()), Route("http", "nowhere.test", 80, unix=path))

        run(main())

    def test_with_tls(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = str(tmp_path / "server")
            async with serving(echo, path=path, tls=server_tls()):
                await check_echo(Dialer(names_of()), Route("https", "origin.test", 443, unix=path, tls=client_tls()))

        run(main())

    def test_nobody_is_there(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = str(tmp_path / "server")
            with pytest.raises(ConnectError, match=f"cannot connect to {path}: No such file or directory") as info:
                await Dialer().dial(Route("http", "nowhere.test", 80, unix=path), Recorder)
            assert info.value.errno == errno.ENOENT
            assert isinstance(info.value.__cause__, FileNotFoundError)

        run(main())

    def test_a_path_that_is_too_long(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ConnectError, match="AF_UNIX path too long"):
                await Dialer().dial(Route("http", "nowhere.test", 80, unix="/" + 200 * "x"), Recorder)

        run(main())

    def test_a_full_backlog_is_waited_for(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            path = str(tmp_path / "server")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen(0)
                with socket.socket(socket.AF_UNIX) as first:
                    first.connect(path)
                    dial = asyncio.ensure_future(Dialer().dial(Route("http", "a.test", 80, unix=path), Recorder))
                    await asyncio.sleep(0.01)
                    assert not dial.done()
                    listener.accept()[0].close()
                    transport, protocol = await dial
                    accepted = listener.accept()[0]
                    with accepted:
                        accepted.send(b"hello")
                        assert await protocol.receive(5) == b"hello"
                        transport.close()
                        await protocol.lost

        run(main())
