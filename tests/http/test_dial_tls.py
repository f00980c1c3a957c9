"""Connections with TLS: what is verified and negotiated, and what becomes of handshakes that fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.http.dialkit import (
    AUTHORITY,
    CERTS,
    check_echo,
    client_tls,
    echo,
    names_of,
    server_tls,
    serving,
    silent,
    until_sockets,
)
from tests.loop.kit import Recorder, Run, open_sockets
from weft.http.dial import Dialer, Route
from weft.http.errors import CertificateError, ConnectError, TLSError
from weft.http.tls import context_for


class Eager(asyncio.Protocol):
    """Sends together with the last word of its handshake, or closes where there is nothing to send."""

    def __init__(self, data: bytes | None, lost: asyncio.Event) -> None:
        self.data = data
        self.lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        if self.data is None:
            stream.close()
        else:
            stream.write(self.data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@contextlib.asynccontextmanager
async def eager_server(data: bytes | None) -> AsyncIterator[int]:
    """A server whose handshake ends with its own word, as it does up to TLS 1.2."""
    context = server_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    lost = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: Eager(data, lost), "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await lost.wait()
        server.close()
        await server.wait_closed()


class TestTls:
    def test_a_connection(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls()) as port:
                await check_echo(Dialer(), Route("https", "localhost", port, tls=client_tls()))

        run(main())

    @pytest.mark.parametrize("host", ["127.0.0.1", "origin.test", "origin.test."])
    def test_the_names_of_the_certificate(self, run: Run, host: str) -> None:
        async def main() -> None:
            names = names_of(**{host.replace(".", "__"): "127.0.0.1"})
            async with serving(echo, tls=server_tls()) as port:
                await check_echo(Dialer(names), Route("https", host, port, tls=client_tls()))

        run(main())

    def test_another_name_to_verify(self, run: Run) -> None:
        async def main() -> None:
            asked: list[str | None] = []
            context = server_tls("elsewhere")
            context.sni_callback = lambda sock, name, context: asked.append(name)
            async with serving(echo, tls=context) as port:
                route = Route("https", "127.0.0.1", port, tls=client_tls(), server_hostname="elsewhere.test")
                await check_echo(Dialer(), route)
            assert asked == ["elsewhere.test"]

        run(main())

    @pytest.mark.parametrize(
        ("server", "expected"), [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)]
    )
    @pytest.mark.parametrize("own", [True, False])
    def test_the_protocol_is_negotiated(self, run: Run, server: tuple[str, ...], expected: str, own: bool) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls(alpn=server)) as port:
                route = Route("https", "localhost", port, tls=client_tls() if own else False)
                transport, protocol = await Dialer().dial(route, Recorder)
                assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == expected
                transport.close()
                await protocol.lost

        run(main())

    def test_one_context_for_several_protocols_at_a_time(self, run: Run) -> None:
        async def main() -> None:
            context = client_tls()
            async with serving(echo, tls=server_tls(alpn=["h2", "http/1.1"])) as port:
                alpns = [("h2", "http/1.1"), ("http/1.1",)] * 5
                routes = [Route("https", "localhost", port, tls=context, alpn=alpn) for alpn in alpns]
                dialer = Dialer()
                dialled = await asyncio.gather(*(dialer.dial(route, Recorder) for route in routes))
                for alpn, (transport, protocol) in zip(alpns, dialled, strict=True):
                    assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == alpn[0]
                    transport.close()
                    await protocol.lost

        run(main())

    def test_the_protocol_is_known_when_the_connection_is_made(self, run: Run) -> None:
        class Asking(Recorder):
            chosen: str | None = None

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
                super().connection_made(transport)

        async def main() -> None:
            async with serving(echo, tls=server_tls(alpn=["h2"])) as port:
                transport, protocol = await Dialer().dial(Route("https", "localhost", port, tls=client_tls()), Asking)
                assert protocol.chosen == "h2"
                transport.close()
                await protocol.lost

        run(main())

    def test_data_that_comes_with_the_handshake_is_not_lost(self, run: Run) -> None:
        async def main() -> None:
            async with eager_server(b"settings") as port:
                transport, protocol = await Dialer().dial(Route("https", "localhost", port, tls=client_tls()), Recorder)
                assert await protocol.receive(8) == b"settings"
                transport.close()
                await protocol.lost

        run(main())

    def test_a_client_certificate(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls(wants_client=True)) as port:
                context = await context_for(AUTHORITY, cert=CERTS / "client.pem")
                await check_echo(Dialer(), Route("https", "localhost", port, tls=context))

        run(main())


class TestTlsThatFails:
    @staticmethod
    async def dial(port: int, error: type[Exception], match: str, host: str = "localhost", **options: Any) -> Exception:
        before = open_sockets()
        route = Route("https", host, port, **{"tls": client_tls()} | options)
        with pytest.raises(error, match=match) as info:
            await Dialer().dial(route, Recorder)
        await until_sockets(before)
        return info.value

    def test_a_name_that_is_not_in_the_certificate(self, run: Run) -> None:
        async def main() -> None:
            async with serving(silent, tls=server_tls("elsewhere")) as port:
                error = await self.dial(port, CertificateError, r"certificate of localhost:\d+ is not valid: Hostname")
                assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
                await self.dial(port, CertificateError, "IP address mismatch", host="127.0.0.1")

        run(main())

    def test_an_expired_certificate(self, run: Run) -> None:
        async def main() -> None:
            async with serving(silent, tls=server_tls("expired")) as port:
                await self.dial(port, CertificateError, "certificate has expired")

        run(main())

    def test_an_authority_that_nobody_knows(self, run: Run) -> None:
        async def main() -> None:
            async with serving(silent, tls=server_tls()) as port:
                await self.dial(port, CertificateError, "unable to get local issuer certificate", tls=None)

        run(main())

    def test_an_unverified_connection_takes_it(self, run: Run) -> None:
        async def main() -> None:
            async with serving(echo, tls=server_tls("expired")) as port:
                await check_echo(Dialer(), Route("https", "localhost", port, tls=False))

        run(main())

    def test_a_server_without_tls(self, run: Run) -> None:
        async def main() -> None:
            async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await silent(reader, writer)

            async with serving(plain) as port:
                await self.dial(port, TLSError, r"localhost:\d+ failed: it does not speak TLS on this port")

        run(main())

    def test_a_server_that_speaks_first(self, run: Run) -> None:
        async def greet(listener: socket.socket) -> socket.socket:
            while True:  # so soon that the greeting is there before the connection is used
                with contextlib.suppress(BlockingIOError):
                    sock, _ = listener.accept()
                    sock.send(b"220 mail.test ESMTP\r\n")
                    return sock
                await asyncio.sleep(0)

        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setblocking(False)
                greeting = asyncio.ensure_future(greet(listener))
                route = Route("https", "127.0.0.1", listener.getsockname()[1], tls=client_tls())
                with pytest.raises(TLSError, match="does not speak TLS on this port"):
                    await Dialer().dial(route, Recorder)
                (await greeting).close()

        run(main())

    @pytest.mark.parametrize("greeting", [b"220 mail.test ESMTP\r\n", b""])
    def test_what_comes_before_the_handshake_begins(self, run: Run, greeting: bytes) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)
            if greeting:
                await silent(reader, writer)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            create_connection = loop.create_connection

            async def late(*args: Any, **options: Any) -> Any:
                transport, protocol = await create_connection(*args, **options)
                while not (protocol.data or protocol.lost):
                    await asyncio.sleep(0)
                return transport, protocol

            loop.create_connection = late  # type: ignore[method-assign]
            async with serving(greet) as port:
                await self.dial(port, TLSError, "it began with b'220" if greeting else "before the TLS handshake")

        run(main())

    @pytest.mark.parametrize("how", ["close", "abort"])
    def test_a_server_that_closes_during_the_handshake(self, run: Run, how: str) -> None:
        async def main() -> None:
            async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                if how == "abort":  # with a reset
                    linger = b"\x01\0\0\0\0\0\0\0"
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

            async with serving(leave) as port:
                await self.dial(port, TLSError, "it closed the connection|closed the connection before")

        run(main())

    def test_a_server_that_closes_at_once(self, run: Run) -> None:
        async def main() -> None:
            async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                pass

            async with serving(leave) as port:
                await self.dial(port, TLSError, "closed the connection")

        run(main())

    def test_a_server_that_closes_with_the_end_of_the_handshake(self, run: Run) -> None:
        async def main() -> None:
            async with eager_server(None) as port:
                await self.dial(port, ConnectError, r"localhost:\d+ closed the connection at once")

        run(main())

    def test_a_connection_that_is_taken_away_during_the_handshake(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            start_tls = loop.start_tls

            async def spoilt(transport: asyncio.Transport, *args: Any, **options: Any) -> Any:
                loop.call_soon(loop.call_soon, transport.abort)
                return await start_tls(transport, *args, **options)

            loop.start_tls = spoilt  # type: ignore[method-assign, assignment]
            async with serving(silent) as port:
                # Stock asyncio takes that for the end of a handshake.
                await self.dial(port, TLSError, "closed the connection|the connection was closed")

        run(main())

    def test_a_server_that_refuses(self, run: Run) -> None:
        async def main() -> None:
            async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                writer.write(b"\x15\x03\x03\0\2\2\x46")  # the alert protocol_version (RFC 8446, 6)
                await silent(reader, writer)

            async with serving(refuse) as port:
                error = await self.dial(port, TLSError, "PROTOCOL_VERSION")
                assert isinstance(error.__cause__, ssl.SSLError)

        run(main())

    def test_a_factory_that_fails(self, run: Run) -> None:
        def fail() -> Recorder:
            raise ZeroDivisionError

        async def main() -> None:
            async with serving(silent, tls=server_tls()) as port:
                before = open_sockets()
                with pytest.raises(ZeroDivisionError):
                    await Dialer().dial(Route("https", "localhost", port, tls=client_tls()), fail)
                await until_sockets(before)

        run(main())
