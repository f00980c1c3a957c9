"""Connections through HTTP proxies: the tunnel that is asked for, and answers that are none."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from tests.http.dialkit import check_echo, client_tls, echo, names_of, server_tls, serving, silent, until_sockets
from tests.http.proxykit import TUNNEL, ConnectProxy
from tests.loop.kit import Recorder, Run, open_sockets, refused
from weft.http.dial import Dialer, Route
from weft.http.errors import CertificateError, ConnectError, ProxyError, ResolveError, TLSError
from weft.http.proxies import Proxy


class TestHttpProxy:
    def test_https_goes_through_a_tunnel(self, run: Run) -> None:
        async def main() -> None:
            proxy = ConnectProxy(hosts={"origin.test": "127.0.0.1"})
            async with serving(echo, tls=server_tls()) as port, serving(proxy) as its:
                # The target's name is the proxy's to resolve: here nobody knows it.
                dialer = Dialer(names_of(proxy__test="127.0.0.1"))
                route = Route("https", "origin.test", port, Proxy(f"http://proxy.test:{its}"), tls=client_tls())
                await check_echo(dialer, route)
            assert proxy.heads == [f"CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"]

        run(main())

    def test_http_goes_to_the_proxy_itself(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as its:
                await check_echo(Dialer(names_of()), Route("http", "origin.test", 80, Proxy(f"http://127.0.0.1:{its}")))

        run(main())

    def test_http_goes_through_a_tunnel_where_it_must(self, run: Run) -> None:
        async def main() -> None:
            proxy = ConnectProxy()
            async with serving(echo) as port, serving(proxy) as its:
                route = Route("http", "127.0.0.1", port, Proxy(f"http://127.0.0.1:{its}"), tunnel=True)
                await check_echo(Dialer(), route)
            assert len(proxy.heads) == 1

        run(main())

    def test_an_address_of_ipv6(self, run: Run) -> None:
        async def main() -> None:
            proxy = ConnectProxy(hosts={"[2001:db8::1]": "127.0.0.1"})
            async with serving(echo) as port, serving(proxy) as its:
                route = Route("http", "2001:db8::1", port, Proxy(f"http://127.0.0.1:{its}"), tunnel=True)
                await check_echo(Dialer(), route)
            assert proxy.heads[0].startswith(f"CONNECT [2001:db8::1]:{port} HTTP/1.1\r\nHost: [2001:db8::1]:{port}\r\n")

        run(main())

    def test_user_and_headers(self, run: Run) -> None:
        async def main() -> None:
            proxy = ConnectProxy()
            async with serving(echo) as port, serving(proxy) as its:
                through = Proxy(f"http://user:pass@127.0.0.1:{its}", headers={"X-Team": "weft"})
                await check_echo(Dialer(), Route("http", "127.0.0.1", port, through, tunnel=True))
            assert proxy.heads[0].splitlines()[2:] == [
                f"Proxy-Authorization: Basic {b64encode(b'user:pass').decode()}",
                "X-Team: weft",
                "",
            ]

        run(main())

    @pytest.mark.parametrize(
        "answer",
        [
            TUNNEL,
            b"HTTP/1.0 200 OK\r\nProxy-Agent: tinyproxy/1.11.1\r\n\r\n",
            b"HTTP/1.1 200\r\n\r\n",
            b"HTTP/1.1 201 Anything of 2xx\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",
        ],
    )
    @pytest.mark.parametrize("piecewise", [True, False])
    def test_answers_that_are_a_tunnel(self, run: Run, answer: bytes, piecewise: bool) -> None:
        async def main() -> None:
            proxy = ConnectProxy(answer, piecewise)
            async with serving(echo, tls=server_tls()) as port, serving(proxy) as its:
                route = Route("https", "127.0.0.1", port, Proxy(f"http://127.0.0.1:{its}"), tls=client_tls())
                await check_echo(Dialer(), route)

        run(main())

    def test_an_interim_answer_is_passed_over(self, run: Run) -> None:
        async def main() -> None:
            async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" + TUNNEL)
                await echo(reader, writer)

            async with serving(proxy) as its:
                await check_echo(Dialer(), Route("http", "a.test", 80, Proxy(f"http://127.0.0.1:{its}"), tunnel=True))

        run(main())


class TestHttpsProxy:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_connection(self, run: Run, scheme: str) -> None:
        async def main() -> None:
            its_tls = server_tls(alpn=["h2", "http/1.1"])  # h2 must not be chosen: CONNECT is said in HTTP/1.1
            proxy = ConnectProxy() if scheme == "https" else echo
            async with serving(echo, tls=server_tls(alpn=["h2"])) as port, serving(proxy, tls=its_tls) as its:
                through = Proxy(f"https://localhost:{its}", tls=client_tls())
                route = Route(scheme, "127.0.0.1", port, through, tls=client_tls())
                transport, protocol = await Dialer().dial(route, Recorder)
                chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
                assert chosen == ("h2" if scheme == "https" else "http/1.1")
                data = bytes(range(256)) * 1024
                transport.write(data)
                assert await protocol.receive(len(data)) == data
                transport.close()
                await protocol.lost

        run(main())

    def test_its_certificate_is_verified(self, run: Run) -> None:
        async def main() -> None:
            async with serving(silent, tls=server_tls("expired")) as its:
                route = Route("https", "127.0.0.1", 443, Proxy(f"https://localhost:{its}", tls=client_tls()), tls=False)
                with pytest.raises(CertificateError, match=f"of the proxy https://localhost:{its} is not valid"):
                    await Dialer().dial(route, Recorder)

        run(main())

    def test_not_if_told_so(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls("expired")) as its:
                await check_echo(Dialer(), Route("http", "a.test", 80, Proxy(f"https://localhost:{its}", tls=False)))

        run(main())

    def test_it_does_not_speak_tls(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo) as its:
                with pytest.raises(TLSError, match="the proxy https://localhost"):
                    await Dialer().dial(
                        Route("http", "a.test", 80, Proxy(f"https://localhost:{its}", tls=False)), Recorder
                    )

        run(main())


class TestRefusals:
    """Answers that are no tunnel: the error names the proxy and the target, and nothing stays open."""

    @staticmethod
    async def dial(answer: bytes, match: str, error: type[Exception] = ProxyError, **options: Any) -> Exception:
        async with serving(ConnectProxy(answer)) as its:
            before = open_sockets()
            route = Route("https", "a.test", 443, Proxy(f"http://user:secret@127.0.0.1:{its}"), tls=False, **options)
            with pytest.raises(error, match=match) as info:
                await Dialer().dial(route, Recorder)
            assert f"http://127.0.0.1:{its}" in str(info.value)
            assert "secret" not in str(info.value)
            await until_sockets(before)
            return info.value

    @pytest.mark.parametrize(
        ("answer", "match"),
        [
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", r"refused a tunnel to a\.test:443: 403 Forbidden$"),
            (b"HTTP/1.1 502\r\nContent-Length: 3\r\n\r\nbad", r"a\.test:443: 502$"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\n\r\n", r"302 Found$"),
            (b"", "closed the connection while asked for a tunnel"),
            (b"HTTP/1.1 200 OK\r\n\r\nbytes", r"sent 5 bytes more than its answer"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", r"does not answer CONNECT in HTTP/1: b'SSH-2\.0"),
            (b"HTTP/2 200\r\n\r\n", "does not answer CONNECT in HTTP/1"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "does not answer CONNECT in HTTP/1"),
            (b"HTTP/1.1 099 OK\r\n\r\n", "does not answer CONNECT in HTTP/1"),
            (b"HTTP/1.1 200 OK\n\n\r\n\r\n", "does not answer CONNECT in HTTP/1"),
            (b"HTTP/1.1 200 OK\r\nX: " + 70000 * b"x", "answers CONNECT with 65536 bytes without an end"),
            (b"\0\r\n\r\n", "does not answer CONNECT in HTTP/1"),
        ],
    )
    def test_an_answer(self, run: Run, answer: bytes, match: str) -> None:
        run(self.dial(answer, match))

    def test_the_users_password_is_asked_for(self, run: Run) -> None:
        async def main() -> None:
            error = await self.dial(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication")
            assert "http://user:password@proxy:port" in "".join(error.__notes__)

        run(main())

    def test_a_slow_answer_is_the_callers_to_limit(self, run: Run) -> None:
        async def main() -> None:
            async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connection")
                asked.set()
                await reader.read()

            asked = asyncio.Event()
            async with serving(proxy) as its:
                before = open_sockets()
                route = Route("https", "a.test", 443, Proxy(f"http://127.0.0.1:{its}"), tls=False)
                dial = asyncio.ensure_future(Dialer().dial(route, Recorder))
                await asked.wait()
                dial.cancel()
                await asyncio.wait([dial])
                assert dial.cancelled()
                await until_sockets(before)

        run(main())

    def test_it_closes_in_the_middle_of_its_answer(self, run: Run) -> None:
        async def main() -> None:
            async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connection")
                writer.close()
                await writer.wait_closed()

            async with serving(proxy) as its:
                with pytest.raises(ProxyError, match="closed the connection"):
                    await Dialer().dial(
                        Route("http", "a.test", 443, Proxy(f"http://127.0.0.1:{its}"), tunnel=True), Recorder
                    )

        run(main())

    def test_it_closes_after_its_answer(self, run: Run) -> None:
        async def main() -> None:
            async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(TUNNEL)
                writer.close()
                await writer.wait_closed()

            async with serving(proxy) as its:
                through = Proxy(f"http://127.0.0.1:{its}")
                with pytest.raises(TLSError, match=r"a\.test:443"):
                    await Dialer().dial(Route("https", "a.test", 443, through, tls=False), Recorder)

        run(main())

    def test_the_server_behind_it_has_the_wrong_certificate(self, run: Run) -> None:
        async def main() -> None:
            async with serving(silent, tls=server_tls("elsewhere")) as port, serving(ConnectProxy()) as its:
                before = open_sockets()
                route = Route("https", "127.0.0.1", port, Proxy(f"http://127.0.0.1:{its}"), tls=client_tls())
                with pytest.raises(CertificateError, match=rf"certificate of 127\.0\.0\.1:{port} is not valid"):
                    await Dialer().dial(route, Recorder)
                await until_sockets(before)

        run(main())

    def test_nobody_is_there(self, run: Run) -> None:
        async def main() -> None:
            with refused() as (host, port):
                with pytest.raises(ConnectError, match=rf"cannot connect to the proxy http://{host}:{port} \(") as info:
                    await Dialer().dial(Route("https", "a.test", 443, Proxy(f"http://{host}:{port}")), Recorder)
                assert not isinstance(info.value, ProxyError)

        run(main())

    def test_its_name_is_unknown(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ResolveError, match=r"cannot resolve proxy\.test"):
                await Dialer(names_of(a__test="127.0.0.1")).dial(
                    Route("https", "a.test", 443, Proxy("http://proxy.test")), Recorder
                )

        run(main())
