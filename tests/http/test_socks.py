"""Connections through SOCKS 5 servers (RFC 1928, RFC 1929)."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from tests.http.dialkit import check_echo, client_tls, echo, names_of, server_tls, serving, until_sockets
from tests.http.proxykit import Socks
from tests.loop.kit import Recorder, Run, open_sockets
from weft.http.dial import Dialer, Route
from weft.http.errors import ConnectError, ProxyError, ResolveError
from weft.http.proxies import Proxy


class TestTunnels:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("auth", [None, (b"user", b"p:ss\xc3\xbc")])
    def test_a_connection(self, run: Run, scheme: str, auth: tuple[bytes, bytes] | None) -> None:
        async def main() -> None:
            socks = Socks(auth)
            tls = server_tls() if scheme == "https" else None
            async with serving(echo, tls=tls) as port, serving(socks) as its:
                user = "" if auth is None else "user:p%3Ass%C3%BC@"
                through = Proxy(f"socks5://{user}127.0.0.1:{its}")
                await check_echo(Dialer(), Route(scheme, "127.0.0.1", port, through, tls=client_tls()))
            assert socks.targets == [(ip_address("127.0.0.1"), port)]

        run(main())

    def test_a_password_that_is_not_wanted(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as port, serving(Socks()) as its:
                await check_echo(
                    Dialer(), Route("http", "127.0.0.1", port, Proxy(f"socks5://user:pass@127.0.0.1:{its}"))
                )

        run(main())

    def test_names_are_resolved_here(self, run: Run) -> None:
        async def main() -> None:
            socks = Socks()
            async with serving(echo) as port, serving(socks) as its:
                dialer = Dialer(names_of(origin__test="127.0.0.1"))
                await check_echo(dialer, Route("http", "origin.test", port, Proxy(f"socks5://127.0.0.1:{its}")))
                assert socks.targets == [(ip_address("127.0.0.1"), port)]
                with pytest.raises(ResolveError, match=r"other\.test"):
                    await dialer.dial(Route("http", "other.test", port, Proxy(f"socks5://127.0.0.1:{its}")), Recorder)

        run(main())

    def test_names_are_resolved_there(self, run: Run) -> None:
        async def main() -> None:
            socks = Socks(hosts={"origin.test": "127.0.0.1"})
            async with serving(echo) as port, serving(socks) as its:
                route = Route("http", "origin.test", port, Proxy(f"socks5h://127.0.0.1:{its}"))
                await check_echo(Dialer(names_of()), route)
            assert socks.targets == [("origin.test", port)]

        run(main())

    def test_an_address_needs_no_resolving_there_either(self, run: Run) -> None:
        async def main() -> None:
            socks = Socks(hosts={"2001:db8::1": "127.0.0.1"})
            async with serving(echo) as port, serving(socks) as its:
                route = Route("http", "2001:db8::1", port, Proxy(f"socks5h://127.0.0.1:{its}"))
                await check_echo(Dialer(names_of()), route)
            assert socks.targets == [(ip_address("2001:db8::1"), port)]

        run(main())

    @pytest.mark.parametrize("reply", [3, 4, 5, 6, 8])
    def test_the_next_address_is_tried(self, run: Run, reply: int) -> None:
        async def main() -> None:
            socks = Socks(replies=[reply])
            async with serving(echo) as port, serving(socks) as its:
                dialer = Dialer(names_of(two__test=["2001:db8::1", "127.0.0.1"]))
                await check_echo(dialer, Route("http", "two.test", port, Proxy(f"socks5://127.0.0.1:{its}")))
            assert [host for host, _ in socks.targets] == [ip_address("2001:db8::1"), ip_address("127.0.0.1")]

        run(main())

    @pytest.mark.parametrize("bound", [b"\4" + bytes(16) + b"\0\0", b"\3\6a.test\0\0", b"\3\0\0\0"])
    def test_what_it_calls_its_own_address(self, run: Run, bound: bytes) -> None:
        async def main() -> None:
            async with serving(echo) as port, serving(Socks(bound=bound)) as its:
                await check_echo(Dialer(), Route("http", "127.0.0.1", port, Proxy(f"socks5://127.0.0.1:{its}")))

        run(main())


class TestRefusals:
    @staticmethod
    async def dial(handler: object, match: str, user: str = "", host: str = "192.0.2.1") -> Exception:
        async with serving(handler) as its:  # type: ignore[arg-type]
            before = open_sockets()
            route = Route("http", host, 80, Proxy(f"socks5h://{user}127.0.0.1:{its}"))
            with pytest.raises(ProxyError, match=match) as info:
                await Dialer().dial(route, Recorder)
            assert f"the proxy socks5h://127.0.0.1:{its}" in str(info.value)
            assert "secret" not in str(info.value)
            assert isinstance(info.value, ConnectError)
            await until_sockets(before)
            return info.value

    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            (1, "it failed"),
            (2, "its rules do not allow it"),
            (3, "the network is unreachable"),
            (4, "the host is unreachable"),
            (5, "the connection was refused"),
            (6, "the time to live expired"),
            (7, "it does not know the command"),
            (8, "it does not know this kind of address"),
            (99, "reply 99"),
        ],
    )
    def test_a_reply(self, run: Run, reply: int, why: str) -> None:
        run(self.dial(Socks(replies=[reply]), rf"gave no tunnel to 192\.0\.2\.1:80: {why}$"))

    def test_one_that_is_forbidden_is_not_asked_for_another_way(self, run: Run) -> None:
        async def main() -> None:
            socks = Socks(replies=[2])
            async with serving(socks) as its:
                dialer = Dialer(names_of(two__test=["2001:db8::1", "127.0.0.1"]))
                with pytest.raises(ProxyError, match="rules"):
                    await dialer.dial(Route("http", "two.test", 80, Proxy(f"socks5://127.0.0.1:{its}")), Recorder)
            assert len(socks.targets) == 1

        run(main())

    def test_the_last_addresss_error_is_told(self, run: Run) -> None:
        async def main() -> None:
            async with serving(Socks(replies=[3, 5])) as its:
                dialer = Dialer(names_of(two__test=["2001:db8::1", "192.0.2.1"]))
                with pytest.raises(ProxyError, match=r"192\.0\.2\.1:80: the connection was refused"):
                    await dialer.dial(Route("http", "two.test", 80, Proxy(f"socks5://127.0.0.1:{its}")), Recorder)

        run(main())

    def test_the_wrong_password(self, run: Run) -> None:
        run(self.dial(Socks((b"user", b"right")), "refused the user 'user' or the password", user="user:secret@"))

    def test_no_password_where_one_is_wanted(self, run: Run) -> None:
        run(self.dial(Socks((b"user", b"right")), "it wants a user and a password"))

    def test_bytes_after_the_reply(self, run: Run) -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(3)
            writer.write(b"\5\0")
            await reader.read(100)
            writer.write(b"\5\0\0\1\0\0\0\0\0\0HTTP/1.1 200 OK\r\n\r\n")
            await reader.read()

        run(self.dial(proxy, "sent 19 bytes more than its answer"))

    @pytest.mark.parametrize(
        ("answers", "match"),
        [
            ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak SOCKS 5: it answers with version 72"),
            ([b"\4\0"], "it answers with version 4"),
            ([b"\5\1"], "chose method 1 to log in, which it was not offered"),
            ([b"\5\2"], "chose method 2 to log in, which it was not offered"),
            ([b"\5\0", b"\4\0\0\1"], "it answers with version 4"),
            ([b"\5\0", b"\5\0\0\2"], "an address of the unknown kind 2"),
            ([], "closed the connection"),
            ([b"\5"], "closed the connection"),
            ([b"\5\0"], "closed the connection"),
            ([b"\5\0", b"\5\0\0"], "closed the connection"),
            ([b"\5\0", b"\5\0\0\3\7a"], "closed the connection"),
            ([b"\5\0", b"\5\0\0\1\0\0\0\0\0"], "closed the connection"),
            ([b"\5\0", b"\5\5\0\1"], "the connection was refused"),  # and closes without an address
        ],
    )
    def test_an_answer(self, run: Run, answers: list[bytes], match: str) -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in answers:
                await reader.read(100)
                writer.write(answer)
            writer.close()
            await writer.wait_closed()

        run(self.dial(proxy, match))

    @pytest.mark.parametrize(("answer", "match"), [(b"\1\1", "refused the user"), (b"\5\0", "version 5")])
    def test_an_answer_to_the_password(self, run: Run, answer: bytes, match: str) -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(4) == b"\5\2\0\2"
            writer.write(b"\5\2")
            assert await reader.readexactly(13) == b"\1\4user\6secret"
            writer.write(answer)
            await reader.read()

        run(self.dial(proxy, match, user="user:secret@"))

    def test_a_name_that_is_too_long(self, run: Run) -> None:
        run(self.dial(Socks(), "cannot be asked for a name of 305 bytes", host=300 * "x" + ".test"))
