"""TLS while data flows: order and wholeness, back-pressure both ways, protocols of every kind, and what is refused."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.loop.kit import Peers, Recorder, Run, client_context, finish, server_context
from tests.loop.tlskit import connected, new_loop, peer_of_a_server, tls_server

__all__ = ["new_loop"]

BLOB = bytes(range(251)) * 8000  # 2 MB: more than all buffers on the way together


class Flow(Recorder):
    """Remembers when it was told to pause and resume."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.resumed = asyncio.Event()

    def pause_writing(self) -> None:
        self.told.append("pause")
        self.resumed.clear()

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.resumed.set()


class Small(asyncio.BufferedProtocol):
    """Receives seven bytes at a time."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.arrived = asyncio.Event()
        self.buffer = bytearray(7)
        self.data = bytearray()

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class TestWhole:
    def test_megabytes_both_ways_at_once(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, protocol, peer):
                transport.write(BLOB)
                peer.transport.write(BLOB[::-1])
                assert await peer.receive(len(BLOB)) == BLOB
                assert await protocol.receive(len(BLOB)) == BLOB[::-1]

        run(main())

    def test_what_is_written_in_pieces_stays_in_order(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, _, peer):
                expected = b""
                for size in (1, 20_000, 3, 16_384, 16_385, 0, 5, 70_000):
                    data = bytes([size % 251]) * size
                    transport.writelines([data, memoryview(data), bytearray(b"|")])
                    transport.write(data)
                    expected += data + data + b"|" + data
                assert await peer.receive(len(expected)) == expected

        run(main())

    def test_a_buffer_may_be_changed_after_it_was_written(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, _, peer):
                buffer = bytearray(b"x" * 1_000_000)
                transport.write(buffer)
                buffer[:] = b"y" * len(buffer)
                assert await peer.receive(len(buffer)) == b"x" * len(buffer)

        run(main())

    @pytest.mark.parametrize("piece", [1, 7])
    def test_records_that_come_in_pieces(self, run: Run, piece: int) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server, handshake=False) as peer:
                await peer.step(peer.tls.do_handshake, piece=piece)
                await peer.send(b"a" * 300 + b"b" * 200, piece=piece)
                ours = await peers.next()
                assert await ours.receive(500) == b"a" * 300 + b"b" * 200
                ours.transport.write(b"whole")
                assert await peer.read(5) == b"whole"
            await ours.lost
            await finish(server)

        run(main())

    def test_many_records_in_one_piece(self, run: Run) -> None:
        async def main() -> None:
            server = await tls_server(peers := Peers())
            async with peer_of_a_server(server) as peer:
                for number in range(100):
                    peer.tls.write(bytes([number]) * 1000)
                await peer.flush()
                ours = await peers.next()
                assert await ours.receive(100_000) == b"".join(bytes([number]) * 1000 for number in range(100))
            await ours.lost
            await finish(server)

        run(main())

    def test_a_buffered_protocol_with_a_small_buffer(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Small) as (_, protocol, peer):
                peer.transport.write(BLOB[:20_000])
                while len(protocol.data) < 20_000:
                    protocol.arrived.clear()
                    await protocol.arrived.wait()
                assert protocol.data == BLOB[:20_000]

        run(main())

    def test_writing_from_every_callback(self, run: Run) -> None:
        class Talker(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"made ")

            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                for word in (b"got ", b"it "):
                    self.transport.write(word)

        async def main() -> None:
            async with connected(Talker) as (_, _, peer):
                await peer.receive(5)
                peer.transport.write(b"?")
                assert await peer.receive(12) == b"made got it "

        run(main())

    def test_the_protocol_can_be_changed(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, protocol, peer):
                peer.transport.write(b"one")
                assert await protocol.receive(3) == b"one"
                other = Recorder()
                transport.set_protocol(other)
                assert transport.get_protocol() is other
                peer.transport.write(b"two")
                assert await other.receive(3) == b"two"
                transport.set_protocol(protocol)

        run(main())


class InMemory(asyncio.Transport):
    """One end of a transport that is not the loop's: what is written arrives in the next turn, or at once."""

    _start_tls_compatible = True

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.deliver: Any = (lambda function, *args: function(*args)) if at_once else self.loop.call_soon
        self.other: InMemory
        self.protocol: Any = None
        self.closed = self.paused = False
        self.held = b""

    def write(self, data: Any) -> None:
        self.deliver(self.other.arrive, bytes(data))

    def arrive(self, data: bytes) -> None:
        self.held += data
        if self.paused or self.closed or not self.held:
            return
        data, self.held = self.held, b""
        if isinstance(self.protocol, asyncio.BufferedProtocol):
            while data:
                view = memoryview(self.protocol.get_buffer(len(data)))
                part = data[: len(view)]
                view[: len(part)] = part
                data = data[len(part) :]
                self.protocol.buffer_updated(len(part))
        else:
            self.protocol.data_received(data)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.loop.call_soon(self.arrive, b"")

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.protocol.connection_lost, None)
            self.loop.call_soon(self.other.close)

    def _force_close(self, error: Exception | None) -> None:
        self.close()

    abort = close


class TestOverAnotherTransport:
    @pytest.mark.parametrize("at_once", [False, pytest.param(True, marks=pytest.mark.weft_only)])
    def test_one_that_is_not_the_loops(self, run: Run, at_once: bool) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            ends = InMemory(at_once), InMemory(at_once)
            ends[0].other, ends[1].other = ends[1], ends[0]
            ours, theirs = Recorder(), Recorder()
            upgraded: Any = await asyncio.gather(
                loop.start_tls(ends[0], ours, client_context(), server_hostname="localhost"),
                loop.start_tls(ends[1], theirs, server_context(), server_side=True),
            )
            client, server = upgraded
            client.write(BLOB[:300_000])
            assert await theirs.receive(300_000) == BLOB[:300_000]
            server.pause_reading()
            client.write(b"later")
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(theirs.data) == 300_000
            server.resume_reading()
            assert (await theirs.receive(300_005)).endswith(b"later")
            server.write(b"back")
            assert await ours.receive(4) == b"back"
            client.close()
            await asyncio.gather(ours.lost, theirs.lost)

        run(main())


class TestBackPressure:
    def test_pause_reading_stops_the_peer(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Flow) as (transport, protocol, peer):
                peer.transport.pause_reading()
                peer.transport.pause_reading()
                assert not peer.transport.is_reading()
                while "pause" not in protocol.told:
                    transport.write(BLOB)
                    await asyncio.sleep(0)
                had = len(peer.data)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(peer.data) == had == 0
                assert transport.get_write_buffer_size() > 0
                peer.transport.resume_reading()
                await protocol.resumed.wait()
                assert protocol.told == ["pause", "resume"]
                transport.write(b"end")
                while not peer.data.endswith(b"end"):
                    peer.arrived.clear()
                    await peer.arrived.wait()
                assert peer.data == BLOB * (len(peer.data) // len(BLOB)) + b"end"

        run(main())

    def test_pausing_in_data_received(self, run: Run) -> None:
        class Sipper(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

        async def main() -> None:
            async with connected(Sipper) as (_, protocol, peer):
                peer.transport.write(BLOB)
                assert await protocol.receive(len(BLOB)) == BLOB

        run(main())

    def test_a_close_does_not_lose_what_waits(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, _, peer):
                peer.transport.pause_reading()
                transport.write(BLOB * 2)
                transport.close()
                assert transport.is_closing()
                transport.write(b"never")
                for _ in range(5):
                    await asyncio.sleep(0)
                peer.transport.resume_reading()
                assert await peer.receive(len(BLOB) * 2) == BLOB * 2
                await peer.lost
                assert peer.data == BLOB * 2
                assert peer.eof

        run(main())

    def test_the_limits(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Flow) as (transport, protocol, peer):
                assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
                transport.set_write_buffer_limits(high=1000)
                assert transport.get_write_buffer_limits() == (250, 1000)
                transport.set_write_buffer_limits(low=10)
                assert transport.get_write_buffer_limits() == (10, 40)
                with pytest.raises(ValueError, match="must be >="):
                    transport.set_write_buffer_limits(high=1, low=2)
                peer.transport.pause_reading()
                while "pause" not in protocol.told:
                    transport.write(bytes(50_000))
                    await asyncio.sleep(0)
                peer.transport.resume_reading()
                await protocol.resumed.wait()
                transport.set_write_buffer_limits()
                assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)

        run(main())

    def test_a_peer_that_never_reads_can_be_aborted(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, protocol, peer):
                peer.transport.pause_reading()
                for _ in range(8):
                    transport.write(BLOB)
                transport.abort()
                assert transport.is_closing()
                assert await protocol.lost is None
                peer.transport.resume_reading()
                await peer.lost

        run(main())


class TestRefusals:
    def test_what_tls_cannot_do(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, _, _):
                assert isinstance(transport, asyncio.Transport)
                assert not transport.can_write_eof()
                with pytest.raises(NotImplementedError):
                    transport.write_eof()
                wrong: Any
                for wrong in ("text", 1, None):
                    with pytest.raises(TypeError, match="bytes-like"):
                        transport.write(wrong)

        run(main())

    def test_writes_after_the_end_are_dropped(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, protocol, _):
                transport.abort()
                await protocol.lost
                for _ in range(6):
                    transport.write(b"lost")
                transport.close()
                assert transport.is_closing()

        with caplog.at_level(logging.WARNING):
            run(main())
        assert "SSL connection is closed" in caplog.text

    def test_an_error_in_the_protocol_ends_the_connection(self, run: Run) -> None:
        class Wrong(Recorder):
            def data_received(self, data: bytes) -> None:
                raise LookupError("mine")

        async def main() -> None:
            reports: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
            async with connected(Wrong) as (_, protocol, peer):
                peer.transport.write(b"hello")
                assert isinstance(await protocol.lost, LookupError)
            (report,) = reports
            assert report["message"] == "Fatal error on SSL protocol"

        run(main())

    def test_an_empty_buffer_ends_the_connection(self, run: Run) -> None:
        class Wrong(Small):
            def get_buffer(self, sizehint: int) -> Any:
                return bytearray()

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            async with connected(Wrong) as (_, protocol, peer):
                peer.transport.write(b"hello")
                await protocol.lost

        run(main())

    @pytest.mark.weft_only  # asyncio lets any thread write
    def test_another_thread_may_not_write(self, run: Run) -> None:
        async def main() -> None:
            async with connected(Recorder) as (transport, _, _):
                with pytest.raises(RuntimeError):
                    await asyncio.get_running_loop().run_in_executor(None, transport.write, b"x")

        run(main())
