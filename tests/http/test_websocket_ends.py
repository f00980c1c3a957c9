"""Every way in which a WebSocket ends: by either side, by an error, by cancellation; nothing is left of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.http.tunnels import Peer
from weft.http.errors import WebSocketError
from weft.http.websocket import Message, MessageType, WebSocket

pytest.importorskip("wsproto", reason="wsproto is not installed")

Run = Callable[[Coroutine[Any, Any, Any]], Any]

TEXT, CLOSE, ERROR, CLOSED = MessageType.TEXT, MessageType.CLOSE, MessageType.ERROR, MessageType.CLOSED


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestEnds:
    def test_closing(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer)
            waiting = asyncio.create_task(socket.receive())
            await settle()
            assert await socket.close(1001, "going away") is True
            assert await socket.close() is False
            assert await waiting == Message(CLOSED)
            assert peer.got == [Message(CLOSE, 1001, "going away")]
            assert (socket.closed, socket.close_code, peer.closed, peer.aborted) == (True, 1001, 1, 0)
            assert await socket.receive() == Message(CLOSED)
            for call in (socket.send_str("x"), socket.send_bytes(b"x"), socket.ping(), socket.receive_str()):
                with pytest.raises(WebSocketError, match="closed"):
                    await call

        run(main())

    def test_closing_as_aiohttp_spells_it(self, run: Run) -> None:
        async def main() -> None:
            socket = WebSocket(peer := Peer())
            await socket.close(code=4000, message=b"why")
            assert peer.got == [Message(CLOSE, 4000, "why")]

        run(main())

    @pytest.mark.parametrize("code", [0, 999, 5000])
    def test_a_code_that_is_none(self, run: Run, code: int) -> None:
        async def main() -> None:
            async with WebSocket(Peer()) as socket:
                with pytest.raises(ValueError, match=str(code)):
                    await socket.close(code)
                assert not socket.closed

        run(main())

    def test_a_peer_that_does_not_answer_the_close(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            peer.answers_close = False
            socket = WebSocket(peer, close_timeout=0.01)
            assert await socket.close()
            assert (socket.close_code, peer.aborted) == (1006, 1)

        run(main())

    def test_a_cancelled_close_leaves_nothing_behind(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            peer.answers_close = False
            socket = WebSocket(peer, close_timeout=60)
            closing = asyncio.create_task(socket.close())
            await settle()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await settle()
            assert peer.aborted == 1
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run(main())

    def test_both_close_at_once(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer)
            peer.say(peer.frames.close(1001))
            assert await socket.close(1000)
            assert [message.data for message in peer.got] in ([1000], [1001])

        run(main())

    def test_the_connection_ends_without_a_close(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer, url="ws://x/")
            peer.say(peer.frames.text("before"))
            peer.say(b"")
            assert [message.type async for message in socket] == [TEXT, ERROR]
            assert (socket.close_code, socket.closed, peer.closed) == (1006, True, 1)
            with pytest.raises(WebSocketError, match="ws://x/: the WebSocket is closed with code 1006") as caught:
                await socket.receive_str()
            assert caught.value.__cause__ is socket.exception()
            await socket.close()

        run(main())

    def test_the_connection_breaks(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer)
            await settle()
            peer.broken = ConnectionResetError("reset")
            peer.say(peer.frames.text("before"))
            assert await socket.receive_str() == "before"
            with pytest.raises(WebSocketError, match="the connection broke: reset") as caught:
                await socket.receive_str()
            assert caught.value.__cause__ is peer.broken
            assert caught.value.code == socket.close_code == 1006
            await socket.close()

        run(main())

    def test_the_connection_breaks_while_sending(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer)
            await settle()
            peer.broken = BrokenPipeError("gone")
            with pytest.raises(WebSocketError, match="the connection broke: gone") as caught:
                await socket.send_str("x")
            assert caught.value.__cause__ is peer.broken
            peer.say(b"")
            await socket.close()

        run(main())

    @pytest.mark.parametrize(
        ("data", "code"), [(b"\x83\0", 1002), (b"\x81\x01\xff", 1007), (b"\x82\x7e\x03\xe9" + bytes(1001), 1009)]
    )
    def test_the_peer_breaks_the_protocol(self, run: Run, data: bytes, code: int) -> None:
        async def main() -> None:
            peer = Peer()
            socket = WebSocket(peer, max_size=1000, url="ws://x/")
            peer.say(peer.frames.text("before") + data)
            assert await socket.receive_str() == "before"
            with pytest.raises(WebSocketError, match="ws://x/: ") as caught:
                await socket.receive_str()
            assert caught.value.code == socket.close_code == code
            assert socket.exception() is caught.value
            assert [message.data for message in peer.got] == [code]
            assert peer.closed == 1
            await socket.close()

        run(main())

    def test_a_task_that_is_cancelled_closes_it_on_its_way_out(self, run: Run) -> None:
        async def main() -> None:
            peer = Peer()

            async def use() -> None:
                async with WebSocket(peer) as socket:
                    await socket.receive()

            task = asyncio.create_task(use())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [message.type for message in peer.got] == [CLOSE]
            assert peer.closed == 1

        run(main())

    def test_it_is_freed_after_its_end(self, run: Run) -> None:
        async def main() -> None:
            socket = WebSocket(Peer(), heartbeat=100)
            freed = weakref.ref(socket)
            await socket.close()
            del socket
            await settle()
            gc.collect()
            assert freed() is None

        run(main())
