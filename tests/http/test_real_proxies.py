"""Connections through proxies that others wrote: tinyproxy and squid, where the system has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http.dialkit import check_echo, client_tls, echo, server_tls, serving
from tests.http.proxykit import free_port, program, running, squid_config, tinyproxy_config
from tests.loop.kit import Recorder, Run
from weft.http.dial import Dialer, Route
from weft.http.errors import ProxyError
from weft.http.proxies import Proxy

TINYPROXY = program("tinyproxy")
SQUID = program("squid")


@pytest.mark.skipif(TINYPROXY is None, reason="tinyproxy is not installed (Debian's package tinyproxy)")
class TestTinyproxy:
    def test_a_tunnel(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            its = free_port()
            async with (
                running(str(TINYPROXY), "-d", "-c", tinyproxy_config(tmp_path, its), port=its),
                serving(echo, tls=server_tls(alpn=["h2"])) as port,
            ):
                route = Route("https", "localhost", port, Proxy(f"http://127.0.0.1:{its}"), tls=client_tls())
                await check_echo(Dialer(), route)

        run(main())

    def test_a_password(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            its = free_port()
            config = tinyproxy_config(tmp_path, its, "BasicAuth user s3cret")
            async with (
                running(str(TINYPROXY), "-d", "-c", config, port=its),
                serving(echo, tls=server_tls()) as port,
            ):
                dialer = Dialer()
                right, *wrong = (
                    Route("https", "127.0.0.1", port, Proxy(f"http://{user}127.0.0.1:{its}"), tls=client_tls())
                    for user in ("user:s3cret@", "user:wrong@", "")
                )
                await check_echo(dialer, right)
                for route in wrong:
                    with pytest.raises(ProxyError, match=r"refused a tunnel to 127\.0\.0\.1:\d+: 40[17] "):
                        await dialer.dial(route, Recorder)

        run(main())

    def test_a_port_that_it_may_not_reach(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            its = free_port()
            async with running(
                str(TINYPROXY), "-d", "-c", tinyproxy_config(tmp_path, its, "ConnectPort 443"), port=its
            ):
                route = Route("https", "127.0.0.1", 1, Proxy(f"http://127.0.0.1:{its}"), tls=client_tls())
                with pytest.raises(ProxyError, match="403 "):
                    await Dialer().dial(route, Recorder)

        run(main())


@pytest.mark.skipif(SQUID is None, reason="squid is not installed (Debian's package squid)")
class TestSquid:
    def test_a_tunnel(self, run: Run, tmp_path: Path) -> None:
        async def main() -> None:
            its = free_port()
            tmp_path.chmod(0o777)  # started as root, it becomes another user
            async with (
                running(str(SQUID), "-N", "-f", squid_config(tmp_path, its), port=its),
                serving(echo, tls=server_tls()) as port,
            ):
                through = Proxy(f"http://127.0.0.1:{its}")
                await check_echo(Dialer(), Route("https", "127.0.0.1", port, through, tls=client_tls()))
                with pytest.raises(ProxyError, match="503 Service Unavailable"):
                    await Dialer().dial(Route("https", "127.0.0.1", 1, through, tls=client_tls()), Recorder)

        run(main())
