"""How TLS connections end: by close_notify and without, by a reset, by nonsense, at every moment; nothing is left."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import struct
from typing import Any

import pytest

from tests.loop.kit import (
    CERTIFICATE,
    Peers,
    Recorder,
    Run,
    address_of,
    client_context,
    finish,
    open_sockets,
    server_context,
)
from tests.loop.tlskit import Peer, connected, new_loop, peer_of_a_server, tls_server

__all__ = ["new_loop"]

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() resets


class TestAfterTheHandshake:
    def test_a_close_notify(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                await peer.send(b"last")
                await peer.step(peer.tls.unwrap)
                assert await ours.lost is None
                assert ours.data == b"last"
                assert ours.eof
            await finish(server)

        run(main())

    def test_an_end_without_close_notify(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                await peer.send(b"last")
                peer.sock.shutdown(socket.SHUT_WR)
                assert await ours.lost is None
                assert ours.data == b"last"
                assert ours.eof
            await finish(server)

        run(main())

    def test_an_end_while_much_is_still_to_be_sent(self, run: Run) -> None:
        async def main() -> None:
            data = bytes(range(256)) * 40_000
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                ours.transport.write(data)
                peer.sock.shutdown(socket.SHUT_WR)
                for _ in range(10):  # it comes, while the peer takes nothing
                    await asyncio.sleep(0)
                assert await peer.read(len(data)) == data
                assert await ours.lost is None
            await finish(server)

        run(main())

    def test_an_end_in_the_middle_of_a_record(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                peer.tls.write(b"first")
                peer.tls.write(b"second")
                await asyncio.get_running_loop().sock_sendall(peer.sock, peer.outgoing.read()[:-3])
                peer.sock.shutdown(socket.SHUT_WR)
                await ours.lost
                assert ours.data == b"first"
            await finish(server)

        run(main())

    def test_a_reset(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                peer.sock.close()
                assert isinstance(await ours.lost, ConnectionResetError)
            await finish(server)

        run(main())

    def test_nonsense_is_the_error_that_ssl_makes_of_it(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                await asyncio.get_running_loop().sock_sendall(peer.sock, b"GET / HTTP/1.0\r\n\r\n")
                error = await ours.lost
            assert isinstance(error, ssl.SSLError)
            assert error.library == "SSL"
            assert error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")  # as OpenSSL 3.5 says
            await finish(server)

        run(main())

    def test_a_record_that_was_tampered_with(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                peer.tls.write(b"good")
                peer.tls.write(b"bad")
                data = bytearray(peer.outgoing.read())
                data[-1] ^= 1
                await asyncio.get_running_loop().sock_sendall(peer.sock, data)
                error = await ours.lost
            assert isinstance(error, ssl.SSLError)
            assert error.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
            await finish(server)

        run(main())

    @pytest.mark.weft_only  # asyncio drops what came in the same packet as the nonsense
    def test_what_came_before_nonsense_is_delivered(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                peer.tls.write(b"good")
                await asyncio.get_running_loop().sock_sendall(peer.sock, peer.outgoing.read() + b"nonsense!")
                assert isinstance(await ours.lost, ssl.SSLError)
                assert ours.data == b"good"
            await finish(server)

        run(main())

    def test_data_after_our_close_notify(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                ours.transport.close()
                await peer.send(b"did not know")
                error = await ours.lost
                assert isinstance(error, ssl.SSLError)
                assert error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
                assert not ours.data
            await finish(server)

        run(main())

    def test_a_peer_that_never_answers_our_close_notify(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers(), ssl_shutdown_timeout=0.01)
            async with peer_of_a_server(server):
                ours = await peers.next()
                ours.transport.close()
                error = await ours.lost
                assert isinstance(error, TimeoutError)
                assert str(error) == "SSL shutdown timed out"
            await finish(server)

        run(main())

    def test_keeping_it_open_after_the_end_has_no_effect(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        class Stubborn(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                return True

        async def main() -> None:
            async with connected(Stubborn) as (_, protocol, peer):
                peer.transport.close()
                assert await protocol.lost is None

        with caplog.at_level(logging.WARNING):
            run(main())
        assert "returning true from eof_received() has no effect when using ssl" in caplog.text

    def test_closing_in_data_received(self, run: Run) -> None:
        class Brief(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.write(b"bye")
                self.transport.close()

        async def main() -> None:
            async with connected(Brief) as (_, protocol, peer):
                peer.transport.write(b"hello")
                assert await peer.receive(3) == b"bye"
                assert await protocol.lost is None
                assert await peer.lost is None
                assert protocol.data == b"hello"

        run(main())

    def test_aborting_in_data_received(self, run: Run) -> None:
        class Rude(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.abort()

        async def main() -> None:
            async with connected(Rude) as (_, protocol, peer):
                peer.transport.write(bytes(200_000))
                assert await protocol.lost is None
                await peer.lost

        run(main())

    @pytest.mark.weft_only  # asyncio forgets what only the transport below knows
    def test_addresses_and_certificates_are_known_afterwards(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, protocol, _):
                name = transport.get_extra_info("peername")
                transport.close()
                await protocol.lost
                assert transport.get_extra_info("peername") == name
                assert transport.get_extra_info("peercert")["subject"]
                assert transport.get_extra_info("nothing", "default") == "default"

        run(main())


class TestInTheHandshake:
    @pytest.mark.parametrize("count", [0, 1, 5, 50, 200])
    @pytest.mark.parametrize("reset", [False, True])
    def test_a_client_that_leaves(self, run: Run, count: int, reset: bool) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server, handshake=False) as peer:
                with pytest.raises(ssl.SSLWantReadError):
                    peer.tls.do_handshake()
                await loop.sock_sendall(peer.sock, peer.outgoing.read()[:count])
                while not peers:
                    await asyncio.sleep(0)
                if reset:
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            before = open_sockets()
            async with peer_of_a_server(server) as peer:  # the next is served
                while not peers[-1].made.done():
                    await asyncio.sleep(0)
                await peer.step(peer.tls.unwrap)
                await peers[-1].lost
            while open_sockets() >= before > 1:
                await asyncio.sleep(0)
            assert not peers[0].made.done()
            assert not peers[0].lost.done()
            await finish(server)

        run(main())

    def test_a_server_that_leaves(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            loop = asyncio.get_running_loop()
            with theirs:
                connecting = loop.create_task(
                    loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="localhost")
                )
                await loop.sock_recv(theirs, 1)
                theirs.shutdown(socket.SHUT_WR)
                with pytest.raises(ConnectionResetError):
                    await connecting

        run(main())

    def test_a_server_that_does_not_speak_tls(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.send(b"220 mail.example ready\r\n")
                with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
                    await asyncio.get_running_loop().create_connection(
                        Recorder, sock=ours, ssl=client_context(), server_hostname="localhost"
                    )

        run(main())

    @pytest.mark.weft_only  # asyncio resets the connection instead
    def test_the_peer_learns_why(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            loop = asyncio.get_running_loop()
            with theirs:
                connecting = loop.create_task(
                    loop.create_connection(
                        Recorder, sock=ours, ssl=ssl.create_default_context(), server_hostname="localhost"
                    )
                )
                peer = Peer(theirs, server_context(), server_side=True)
                with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
                    await peer.step(peer.tls.do_handshake)
                    await peer.read(1)
                with pytest.raises(ssl.SSLCertVerificationError):
                    await connecting

        run(main())

    @pytest.mark.parametrize("turns", range(6))
    def test_start_tls_is_cancelled_at_any_moment(self, run: Run, turns: int) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            with theirs:
                plain, protocol = await loop.create_connection(Recorder, sock=ours)
                upgrading = loop.create_task(
                    loop.start_tls(plain, protocol, client_context(), server_hostname="localhost")
                )
                for _ in range(turns + 1):
                    await asyncio.sleep(0)
                upgrading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await upgrading
                while await loop.sock_recv(theirs, 65536):
                    pass
                assert ours.fileno() == -1

        run(main())


class TestNothingIsLeft:
    @pytest.mark.time_limit(60)
    def test_of_many_connections(self, run: Run) -> None:
        """A thousand would take asyncio half a minute; what leaks once leaks in two hundred as well."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await tls_server(peers := Peers())
            context = client_context()
            before = open_sockets()

            async def one(number: int) -> None:
                transport, protocol = await loop.create_connection(
                    Recorder, *address_of(server), ssl=context, server_hostname="localhost"
                )
                transport.write(b"x" * number)
                if number % 3 == 0:
                    transport.abort()
                else:
                    transport.close()
                await protocol.lost

            for start in range(0, 200, 20):
                await asyncio.gather(*(one(number) for number in range(start, start + 20)))
            while open_sockets() > before or not all(peer.lost.done() for peer in peers if peer.made.done()):
                await asyncio.sleep(0)
            await finish(server)

        run(main())


class TestTheContext:
    def test_alpn_names_and_keylog(self, run: Run, tmp_path: Any) -> None:
        asked: list[str | None] = []

        async def main() -> None:
            ours, theirs = client_context(), server_context()
            ours.set_alpn_protocols(["h2", "http/1.1"])
            theirs.set_alpn_protocols(["http/1.1"])  # which the callback for names replaces
            other = server_context()
            other.set_alpn_protocols(["h2"])

            def choose(ssl_object: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
                asked.append(name)
                ssl_object.context = other

            theirs.sni_callback = choose
            ours.keylog_filename = str(tmp_path / "keys")
            server = await tls_server(peers := Peers(), ssl=theirs)
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, *address_of(server), ssl=ours, server_hostname="localhost"
            )
            peer = await peers.next()
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"  # of the other
            assert transport.get_extra_info("sslcontext") is ours
            assert transport.get_extra_info("compression") is None
            assert dict(entry[0] for entry in transport.get_extra_info("peercert")["subject"])
            assert peer.transport.get_extra_info("peercert") is None
            transport.close()
            await asyncio.gather(peer.lost, protocol.lost)
            await finish(server)

        run(main())
        assert asked == ["localhost"]
        assert "TRAFFIC_SECRET" in (tmp_path / "keys").read_text()

    def test_a_client_certificate(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = client_context(), server_context()
            ours.load_cert_chain(CERTIFICATE)
            theirs.verify_mode = ssl.CERT_REQUIRED
            theirs.load_verify_locations(CERTIFICATE)
            server = await tls_server(peers := Peers(), ssl=theirs)
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, *address_of(server), ssl=ours, server_hostname="localhost"
            )
            peer = await peers.next()
            assert peer.transport.get_extra_info("peercert")["subject"]
            transport.close()
            await asyncio.gather(peer.lost, protocol.lost)
            await finish(server)

        run(main())

    def test_a_session_is_used_again(self, run: Run) -> None:
        class Remembering(ssl.SSLContext):
            """Gives each connection the session of the one before."""

            last: ssl.SSLObject | None = None

            def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
                made = super().wrap_bio(*args, **options)
                if self.last is not None:
                    made.session = self.last.session
                self.last = made
                return made

        async def main() -> None:
            ours = Remembering(ssl.PROTOCOL_TLS_CLIENT)
            ours.load_verify_locations(CERTIFICATE)
            ours.maximum_version = ssl.TLSVersion.TLSv1_2  # where a session is there as soon as the handshake is over
            server = await tls_server(peers := Peers())
            reused = []
            for _ in range(2):
                transport, protocol = await asyncio.get_running_loop().create_connection(
                    Recorder, *address_of(server), ssl=ours, server_hostname="localhost"
                )
                peer = await peers.next()
                reused.append(transport.get_extra_info("ssl_object").session_reused)
                transport.write(b"hello")
                assert await peer.receive(5) == b"hello"
                transport.close()
                await asyncio.gather(peer.lost, protocol.lost)
            assert reused == [False, True]
            await finish(server)

        run(main())

    def test_an_ssl_object_that_reads_in_its_own_way(self, run: Run) -> None:
        """It is not bypassed."""

        class Shouting(ssl.SSLObject):
            def read(self, len: int = 1024, buffer: Any = None) -> Any:
                return super().read(len).upper()

        async def main() -> None:
            theirs = server_context()
            theirs.sslobject_class = Shouting
            server = await tls_server(peers := Peers(), ssl=theirs)
            async with peer_of_a_server(server) as peer:
                ours = await peers.next()
                await peer.send(b"hello")
                assert await ours.receive(5) == b"HELLO"
            await ours.lost
            await finish(server)

        with pytest.MonkeyPatch.context() as patch:
            if os.environ.get("WEFT_TLS") == "direct":
                patch.delenv("WEFT_TLS")  # forced, it would refuse
            run(main())
