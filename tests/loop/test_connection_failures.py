"""What becomes of the sockets and errors of a connection that fails: nothing is left, and nothing is hidden."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import Any

import pytest

from tests.loop.kit import Peers, Recorder, Run, address_of, finish, open_sockets, unreachable
from weft import versions


def failing_factory() -> asyncio.Protocol:
    raise ZeroDivisionError


class TestFailures:
    @pytest.mark.weft_only  # asyncio leaves the socket to the garbage collector
    def test_a_failing_factory_closes_the_socket_made_for_it(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(peers := Peers(), "127.0.0.1", 0)
            with pytest.raises(ZeroDivisionError):
                await loop.create_connection(failing_factory, *address_of(server))
            peer = await peers.next()
            await peer.lost
            await finish(server)

        run(main())

    def test_a_failing_factory_and_the_callers_socket(self, run: Run) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                with pytest.raises(ZeroDivisionError):
                    await asyncio.get_running_loop().create_connection(failing_factory, sock=ours)
                if versions.FAILED_CONNECTION_CLOSES_SOCKET:
                    assert ours.fileno() == -1
                else:
                    ours.send(b"still open")
                    assert theirs.recv(10) == b"still open"

        run(main())

    @pytest.mark.weft_only  # asyncio of 3.14.7 and later closes the socket of the other transport
    def test_a_socket_that_has_a_transport_is_left_to_it(self, run: Run) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            with theirs:
                transport, protocol = await loop.create_connection(Recorder, sock=ours)
                with pytest.raises(RuntimeError, match="is used by transport"):
                    await loop.create_connection(Recorder, sock=ours)
                theirs.send(b"data")
                assert await protocol.receive(4) == b"data"
                transport.close()
                await protocol.lost

        run(main())

    @pytest.mark.weft_only  # asyncio before 3.14 raises what close() raises
    def test_a_socket_that_cannot_be_closed_hides_no_error(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stubborn(socket.socket):
            def connect(self, address: Any) -> None:
                raise LookupError("what has gone wrong")

            def close(self) -> None:
                super().close()
                raise OSError("cannot close")

        async def main() -> None:
            monkeypatch.setattr(socket, "socket", Stubborn)
            with pytest.raises(LookupError, match="what has gone wrong"):
                await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", 1)

        run(main())

    @pytest.mark.skipif(
        sys.version_info < (3, 14), reason="up to 3.13 asyncio.staggered, which runs the race, keeps it"
    )
    def test_nothing_keeps_the_error_of_a_race(self, run: Run) -> None:
        async def main() -> None:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                address = sock.getsockname()
            try:
                await asyncio.get_running_loop().create_connection(Recorder, *address, happy_eyeballs_delay=0.25)
            except OSError as error:
                assert not [thing for thing in gc.get_referrers(error) if isinstance(thing, list)]
            else:
                pytest.fail("somebody listens there")

        run(main())

    def test_cancellation_closes_the_socket(self, run: Run) -> None:
        async def main() -> None:
            with unreachable() as address:
                before = open_sockets()
                attempt = asyncio.ensure_future(asyncio.get_running_loop().create_connection(Recorder, *address))
                while open_sockets() == before:
                    await asyncio.sleep(0)
                attempt.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await attempt
                assert open_sockets() == before

        run(main())
