"""WebSockets over a tunnel: what a peer in memory does, step by step, and a real server on the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.http.tunnels import Peer, StreamTunnel
from weft.http.errors import WebSocketError
from weft.http.websocket import (
    MAX_UNREAD,
    Deflate,
    Handshake,
    Message,
    MessageType,
    WebSocket,
    WSMessage,
    WSMsgType,
    check_handshake,
    handshake_headers,
)

pytest.importorskip("wsproto", reason="wsproto is not installed")

Run = Callable[[Coroutine[Any, Any, Any]], Any]

TEXT, BINARY, CLOSE = MessageType.TEXT, MessageType.BINARY, MessageType.CLOSE
PING, PONG, ERROR, CLOSED = MessageType.PING, MessageType.PONG, MessageType.ERROR, MessageType.CLOSED


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestMessages:
    def test_both_directions(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                await socket.send_str("wört")
                await socket.send_bytes(bytearray(b"bytes"))
                await socket.send_json({"a": [1]})
                assert peer.got == [Message(TEXT, "wört"), Message(BINARY, b"bytes"), Message(TEXT, '{"a": [1]}')]
                peer.say(peer.frames.text("one") + peer.frames.binary(b"two") + peer.frames.text('{"three": 3}'))
                assert await socket.receive_str() == "one"
                assert await socket.receive_bytes() == b"two"
                assert await socket.receive_json() == {"three": 3}

        run(main())

    def test_iteration_ends_with_the_peer(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                peer.say(peer.frames.text("1") + peer.frames.binary(b"2") + peer.frames.close(3001, "enough"))
                assert [message.data async for message in socket] == ["1", b"2"]
                assert (socket.closed, socket.close_code, socket.close_reason) == (True, 3001, "enough")
                assert socket.exception() is None
            assert peer.got == [Message(CLOSE, 3001, "")], "answered once"
            assert (peer.closed, peer.aborted) == (1, 0)

        run(main())

    @pytest.mark.parametrize("data", [b"bytes", 1, None])
    def test_wrong_types_to_send(self, run: Run, data: Any) -> None:
        async def main() -> None:
            async with WebSocket(peer := Peer()) as socket:
                with pytest.raises(TypeError, match=f"is str, not {type(data).__name__}"):
                    await socket.send_str(data)
                with pytest.raises(TypeError, match="is bytes, not str"):
                    await socket.send_bytes("text")  # type: ignore[arg-type]
                assert peer.got == []

        run(main())

    def test_wrong_types_received(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                peer.say(peer.frames.text("x") + peer.frames.binary(b"x"))
                with pytest.raises(TypeError, match="is TEXT, not BINARY"):
                    await socket.receive_bytes()
                with pytest.raises(TypeError, match="is BINARY, not TEXT"):
                    await socket.receive_json()

        run(main())

    def test_packing_and_subprotocol(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer(Deflate())
            async with WebSocket(peer, Handshake("chat", Deflate())) as socket:
                assert (socket.subprotocol, socket.protocol) == ("chat", "chat")
                await socket.send_str("x" * 5000)
                peer.say(peer.frames.text("y" * 5000))
                assert await socket.receive_str() == "y" * 5000
                assert peer.got == [Message(TEXT, "x" * 5000)]

        run(main())

    def test_extra_info_and_repr(self, run: Run) -> None:
        async def main() -> None:
            socket = WebSocket(Peer(), url="ws://x/")
            assert socket.get_extra_info("peername") == ("192.0.2.1", 80)
            assert socket.get_extra_info("nothing", 5) == 5
            assert repr(socket) == "<WebSocket ws://x/ open, 0 unread>"
            await socket.close(1001)
            assert repr(socket) == "<WebSocket ws://x/ closed with 1001, 0 unread>"

        run(main())

    def test_the_names_of_aiohttp(self) -> None:
        assert (WSMsgType, WSMessage) == (MessageType, Message)


class TestReceiving:
    def test_a_cancelled_call_loses_nothing(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                for number in range(50):
                    call = asyncio.create_task(socket.receive())
                    peer.say(peer.frames.text(str(number)))
                    # Cancelled at every moment from before it runs to after it has the message.
                    for _ in range(number % 10):
                        await asyncio.sleep(0)
                    call.cancel()
                    try:
                        got = (await call).data
                    except asyncio.CancelledError:
                        got = await socket.receive_str()
                    assert got == str(number)

        run(main())

    def test_a_time_limit_loses_nothing(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                with pytest.raises(TimeoutError):
                    await socket.receive(timeout=0)
                with pytest.raises(TimeoutError):
                    await socket.receive_str(timeout=0.001)
                peer.say(peer.frames.text("x"))
                assert await socket.receive_str(timeout=60) == "x"

        run(main())

    def test_one_task_at_a_time(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                first = asyncio.create_task(socket.receive())
                await settle()
                with pytest.raises(RuntimeError, match="another task receives"):
                    await socket.receive()
                peer.say(peer.frames.text("x"))
                assert (await first).data == "x"

        run(main())

    def test_closed_is_not_said_before_the_last_message_was_received(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer)
            peer.say(peer.frames.text("last") + peer.frames.close())
            await peer.until_ended()
            assert not socket.closed
            with pytest.raises(WebSocketError, match="closed with code 1000"):
                await socket.send_str("too late")
            assert await socket.receive() == Message(TEXT, "last")
            assert not socket.closed
            assert await socket.receive() == Message(CLOSE, 1000, "")
            assert socket.closed
            for _ in range(2):
                assert await socket.receive() == Message(CLOSED)
            with pytest.raises(WebSocketError, match="closed with code 1000") as caught:
                await socket.receive_str()
            assert caught.value.code == 1000
            assert not await socket.close()

        run(main())

    def test_too_much_unread_stops_the_reading(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                for _ in range(5):
                    peer.say(peer.frames.binary(bytes(MAX_UNREAD // 2)))
                await settle()
                assert peer.reads == 2
                for _ in range(5):
                    assert len(await socket.receive_bytes()) == MAX_UNREAD // 2
                await settle()
                assert peer.reads == 6

        run(main())

    def test_small_messages_count_too(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                for _ in range(10):
                    peer.say(b"".join(peer.frames.text("") for _ in range(2000)))
                await settle()
                assert peer.reads < 10
                for _ in range(20_000):
                    await socket.receive()

        run(main())

    def test_closing_goes_through_all_that_is_unread(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer, close_timeout=60)
            for _ in range(5):
                peer.say(peer.frames.binary(bytes(MAX_UNREAD)))
            await settle()
            assert await socket.close()
            assert socket.close_code == 1000

        run(main())


class TestPings:
    def test_they_are_answered_while_nobody_receives(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer) as socket:
                peer.say(peer.frames.ping(b"a") + peer.frames.pong(b"unasked") + peer.frames.ping(b"b"))
                assert await peer.until(2) == [Message(PONG, b"a"), Message(PONG, b"b")]
                peer.say(peer.frames.text("x"))
                assert await socket.receive() == Message(TEXT, "x")

        run(main())

    def test_without_autoping_they_are_messages(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer, autoping=False) as socket:
                peer.say(peer.frames.ping(b"a") + peer.frames.pong(b"b"))
                assert await socket.receive() == Message(PING, b"a")
                assert await socket.receive() == Message(PONG, b"b")
                await socket.ping("p")
                await socket.pong(b"q")
                assert peer.got == [Message(PING, b"p"), Message(PONG, b"q")]

        run(main())

    def test_who_does_not_read_the_answers_is_not_read(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer):
                peer.may_write.clear()
                for _ in range(5):
                    peer.say(peer.frames.ping(b""))
                await settle()
                assert (peer.reads, len(peer.got)) == (1, 1)
                peer.may_write.set()
                await peer.until(5)

        run(main())

    @pytest.mark.realtime
    def test_a_heartbeat_that_is_answered(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer, heartbeat=0.02) as socket:
                for count in range(1, 6):
                    await peer.until(count)
                    peer.say(peer.frames.pong(b""))
                assert not socket.closed
                assert peer.got == [Message(PING, b"")] * 5

        run(main())

    @pytest.mark.realtime
    def test_a_heartbeat_without_an_answer(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer, heartbeat=0.02, url="ws://x/")
            message = await socket.receive()
            assert message.type is ERROR
            with pytest.raises(WebSocketError, match="ws://x/: the server did not answer a ping within 0.01 s"):
                raise message.data
            assert (socket.close_code, socket.exception(), peer.aborted) == (1006, message.data, 1)
            assert peer.got == [Message(PING, b"")]
            await socket.close()

        run(main())

    @pytest.mark.realtime
    def test_a_heartbeat_does_not_blame_the_peer_for_what_is_not_read(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            async with WebSocket(peer, heartbeat=0.01) as socket:
                peer.say(peer.frames.binary(bytes(MAX_UNREAD)))
                peer.say(peer.frames.text("next"))
                await asyncio.sleep(0.05)
                assert socket.exception() is None
                await socket.receive()
                assert await socket.receive_str() == "next"

        run(main())


# -- a real server


async def answer(connection: Any) -> None:
    """What the server does: it echoes, and takes some words as orders."""
    async for message in connection:
        match message:
            case "close":
                await connection.close(4001, "as you wish")
            case "ping":
                await (await connection.ping())
                await connection.send("pong came")
            case "drop":
                connection.transport.abort()
            case "pieces":
                await connection.send(["a" * 1000, "b" * 1000, "c"])
            case _:
                await connection.send(message)


@asynccontextmanager
async def connected(compress: bool, **options: Any) -> AsyncIterator[WebSocket]:
    server_module = pytest.importorskip("websockets.asyncio.server", reason="websockets is not installed")
    async with server_module.serve(
        answer, "127.0.0.1", 0, subprotocols=["echo"], max_size=None, ping_interval=None
    ) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        headers, key = handshake_headers(["other", "echo"], compress=compress)
        lines = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        assert " 101 " in status
        answered = dict(field.split(": ", 1) for field in fields)
        handshake = check_handshake(answered, key, subprotocols=["other", "echo"], compress=compress)
        assert handshake.subprotocol == "echo"
        assert (handshake.deflate is not None) == compress
        try:
            async with WebSocket(StreamTunnel(reader, writer), handshake, **options) as socket:
                yield socket
        finally:
            writer.close()


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "packed"])
class TestAgainstARealServer:
    def test_echo(self, run: Run, compress: bool) -> None:
        async def main() -> None:
            async with connected(compress) as socket:
                for content in ("", "short", "wört " * 50_000, bytes(300_000)):
                    await (socket.send_str(content) if isinstance(content, str) else socket.send_bytes(content))
                    assert (await socket.receive()).data == content
                await socket.send_str("pieces")
                assert await socket.receive_str() == "a" * 1000 + "b" * 1000 + "c"
                await socket.send_str("ping")
                assert await socket.receive_str() == "pong came"

        run(main())

    def test_many_at_once(self, run: Run, compress: bool) -> None:
        async def main() -> None:
            async with connected(compress) as socket:

                async def send() -> None:
                    for number in range(500):
                        await socket.send_json([number, "x" * (number % 100)])

                sending = asyncio.create_task(send())
                for number in range(500):
                    assert await socket.receive_json() == [number, "x" * (number % 100)]
                await sending

        run(main())

    def test_the_server_closes(self, run: Run, compress: bool) -> None:
        async def main() -> None:
            async with connected(compress) as socket:
                await socket.send_str("close")
                assert [message async for message in socket] == []
                assert (socket.close_code, socket.close_reason) == (4001, "as you wish")
                with pytest.raises(WebSocketError, match="closed with code 4001: 'as you wish'$"):
                    await socket.send_str("too late")

        run(main())

    def test_the_server_drops_the_connection(self, run: Run, compress: bool) -> None:
        async def main() -> None:
            async with connected(compress) as socket:
                await socket.send_str("drop")
                assert [message.type async for message in socket] == [ERROR]
                assert socket.close_code == 1006

        run(main())

    def test_a_message_that_is_too_large(self, run: Run, compress: bool) -> None:
        async def main() -> None:
            async with connected(compress, max_size=10_000) as socket:
                await socket.send_str("x" * 10_001)
                with pytest.raises(WebSocketError, match="larger than the limit"):
                    await socket.receive_str()
                assert socket.close_code == 1009

        run(main())
