"""The WebSocket protocol without I/O, against itself and against the core of ``websockets``, cut anywhere."""

from __future__ import annotations

import itertools
import os
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.http import wsframes
from weft.http.errors import WebSocketError
from weft.http.wsframes import Deflate, Frames, Message, MessageType, wsproto

pytest.importorskip("wsproto", reason="wsproto is not installed")

TEXT, BINARY, CLOSE = MessageType.TEXT, MessageType.BINARY, MessageType.CLOSE
PING, PONG, ERROR = MessageType.PING, MessageType.PONG, MessageType.ERROR
MIB = 1024 * 1024

DEFLATES = [None, Deflate(), Deflate(True, True), Deflate(False, True, 9, 10), Deflate(client_max_window_bits=8)]
each_deflate = pytest.mark.parametrize("deflate", DEFLATES, ids=str)


def fed(frames: Frames, data: bytes, cuts: list[int] | None = None) -> list[Message]:
    edges = sorted({min(cut, len(data)) for cut in cuts or []} | {0, len(data)})
    return [message for a, b in itertools.pairwise(edges) for message in frames.feed(data[a:b])]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A frame as a server sends it."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + struct.pack("!H", len(payload)) + payload
    return head + b"\x7f" + struct.pack("!Q", len(payload)) + payload


def packed(payload: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


messages = st.lists(
    st.tuples(st.sampled_from([TEXT, BINARY, PING, PONG]), st.text(max_size=30), st.integers(1, 400)), max_size=6
)


def written(frames: Frames, content: list[tuple[MessageType, str, int]]) -> Iterator[tuple[Message, bytes]]:
    """The messages, and the frames that ``frames`` makes of them."""
    for kind, text, times in content:
        if kind is TEXT:
            yield Message(kind, text * times), frames.text(text * times)
        elif kind is BINARY:
            yield Message(kind, (text * times).encode()), frames.binary((text * times).encode())
        else:
            payload = text.encode()[:125]
            yield Message(kind, payload), frames.ping(payload) if kind is PING else frames.pong(payload)


class TestBothEnds:
    @given(messages, st.sampled_from(DEFLATES), st.booleans(), st.lists(st.integers(0, 20_000), max_size=6))
    def test_what_is_written_is_read(
        self, content: list[tuple[MessageType, str, int]], deflate: Deflate | None, client: bool, cuts: list[int]
    ) -> None:
        try:
            pairs = list(written(Frames(deflate=deflate, client=client), content))
        except UnicodeEncodeError:
            return
        reader = Frames(deflate=deflate, client=not client)
        assert fed(reader, b"".join(data for _, data in pairs), cuts) == [message for message, _ in pairs]

    @each_deflate
    def test_byte_by_byte(self, deflate: Deflate | None) -> None:
        writer, reader = Frames(deflate=deflate, client=False), Frames(deflate=deflate)
        data = writer.text("wört " * 40) + writer.ping(b"p") + writer.binary(bytes(300)) + writer.close(1001, "bye")
        expected = [
            Message(TEXT, "wört " * 40),
            Message(PING, b"p"),
            Message(BINARY, bytes(300)),
            Message(CLOSE, 1001, "bye"),
        ]
        assert fed(reader, data, list(range(len(data)))) == expected

    def test_packing_makes_it_smaller_and_remembers(self) -> None:
        text = "".join(map(chr, os.urandom(500)))
        frames = Frames(deflate=Deflate())
        first, second = len(frames.text(text)), len(frames.text(text))
        assert second < first / 5
        forgetful = Frames(deflate=Deflate(client_no_context_takeover=True))
        assert len(forgetful.text(text)) == len(forgetful.text(text)) == first

    def test_little_is_not_packed(self) -> None:
        assert Frames(deflate=Deflate()).text("x" * 31)[0] == 0x81
        assert Frames(deflate=Deflate()).text("x" * 32)[0] == 0xC1
        assert Frames(deflate=Deflate(client_max_window_bits=8)).text("x" * 99)[0] == 0x81


class TestAgainstWebsockets:
    """What the core of another library makes of our frames, and we of its."""

    def other(self, deflate: Deflate | None) -> Any:
        pytest.importorskip("websockets", reason="websockets is not installed")
        from websockets.extensions.permessage_deflate import PerMessageDeflate
        from websockets.protocol import OPEN
        from websockets.server import ServerProtocol

        server = ServerProtocol(state=OPEN, max_size=None)
        if deflate is not None:
            server.extensions = [PerMessageDeflate(*deflate)]
        return server

    @each_deflate
    def test_it_reads_what_we_write(self, deflate: Deflate | None) -> None:
        server, frames = self.other(deflate), Frames(deflate=deflate)
        sent: list[str | bytes] = ["", "short", "longer " * 1000, bytes(70_000), os.urandom(300)] * 2
        for item in sent:
            server.receive_data(frames.text(item) if isinstance(item, str) else frames.binary(item))
        server.receive_data(frames.ping(b"p") + frames.close(3000, "ß" * 100))
        got = server.events_received()
        assert [event.data.decode() if event.opcode == 1 else event.data for event in got[: len(sent)]] == sent
        assert [event.opcode for event in got[len(sent) :]] == [9, 8]
        assert got[-1].data == struct.pack("!H", 3000) + ("ß" * 61).encode()

    @each_deflate
    @pytest.mark.parametrize("cut", [1, 7, 10**6])
    def test_we_read_what_it_writes(self, deflate: Deflate | None, cut: int) -> None:
        server, frames = self.other(deflate), Frames(deflate=deflate)
        for _ in range(2):
            server.send_text(b"wh" * 50, fin=False)
            server.send_ping(b"between")
            server.send_continuation(b"ole", fin=False)
            server.send_pong(b"")
            server.send_continuation(b"", fin=True)
            server.send_binary(bytes(3000))
        server.send_close(1000, "done")
        data = b"".join(server.data_to_send())
        whole = [
            Message(PING, b"between"),
            Message(PONG, b""),
            Message(TEXT, "wh" * 50 + "ole"),
            Message(BINARY, bytes(3000)),
        ]
        assert fed(frames, data, list(range(0, len(data), cut))) == [*whole, *whole, Message(CLOSE, 1000, "done")]


class TestClosing:
    def test_the_whole_handshake(self) -> None:
        ours, theirs = Frames(), Frames(client=False)
        assert (ours.is_open, ours.may_close) == (True, True)
        assert fed(theirs, ours.close(1001, "away")) == [Message(CLOSE, 1001, "away")]
        assert (ours.is_open, ours.may_close) == (False, False)
        assert (theirs.is_open, theirs.may_close) == (False, True)
        # What was on its way is still read.
        assert fed(ours, frame(1, b"late")) == [Message(TEXT, "late")]
        assert fed(ours, theirs.close(1001)) == [Message(CLOSE, 1001, "")]
        assert not theirs.may_close
        assert fed(ours, frame(1, b"after the end")) == []

    def test_without_a_code(self) -> None:
        ours, theirs = Frames(), Frames(client=False)
        assert fed(ours, frame(8)) == [Message(CLOSE, 1005, "")]
        answer = ours.close(1005)
        assert len(answer) == 6, "a head and a mask: the code of no code is not sent"
        fed(theirs, frame(8)[:0])
        assert fed(theirs, answer) == [Message(CLOSE, 1005, "")]

    def test_what_follows_a_close_is_ignored(self) -> None:
        assert fed(Frames(), frame(8, struct.pack("!H", 1000)) + frame(1, b"x")) == [Message(CLOSE, 1000, "")]


class TestWrong:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(3), 1002),
            (frame(11), 1002),
            (frame(9, fin=False), 1002),
            (frame(9, bytes(126)), 1002),
            (frame(0, b"x"), 1002),
            (frame(1, b"x", fin=False) + frame(1, b"y"), 1002),
            (frame(1, b"x", rsv=4), 1002),
            (frame(1, b"x", rsv=2), 1002),
            (b"\x81\x81\0\0\0\0x", 1002),
            (b"\x81\x7e\0\x05hello", 1002),
            (b"\x81\x7f" + bytes(7) + b"\x05hello", 1002),
            (b"\x81\x7f\x80" + bytes(7), 1002),
            (frame(8, b"x"), 1002),
            (frame(8, struct.pack("!H", 999)), 1002),
            (frame(8, struct.pack("!H", 1006)), 1002),
            (frame(8, struct.pack("!H", 1000) + b"\xff"), 1007),
            (frame(1, b"\xff"), 1007),
            (frame(1, b"\xe2\x82"), 1007),
            (frame(1, b"\xe2", fin=False) + frame(0, b"x"), 1007),
        ],
    )
    @pytest.mark.parametrize("cut", [1, 10**6])
    def test_it_ends_with_the_right_code(self, data: bytes, code: int, cut: int) -> None:
        frames, stream = Frames(), frame(1, b"before") + data + frame(1, b"after")
        before, *errors = fed(frames, stream, list(range(0, len(stream), cut)))
        assert before == Message(TEXT, "before")
        assert [error.type for error in errors] == [ERROR]
        assert isinstance(errors[0].data, WebSocketError)
        assert errors[0].data.code == code
        assert not frames.is_open
        assert frames.may_close
        frames.close(code)
        assert not frames.may_close

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(0, b"x", rsv=4), 1002),
            (frame(9, b"x", rsv=4), 1002),
            (frame(1, b"\xff\xff", rsv=4), 1007),
            (frame(1, packed(b"\xff"), rsv=4), 1007),
            (frame(1, packed(b"x" * 50), rsv=4, fin=False) + frame(0, b"y", rsv=4), 1002),
            (frame(2, b"\x03\x00" * 40_000, rsv=4), 1007),
        ],
    )
    def test_with_packing(self, data: bytes, code: int) -> None:
        (error,) = fed(Frames(deflate=Deflate()), data)
        assert (error.type, error.data.code) == (ERROR, code)

    def test_a_stream_that_ends_with_the_message(self) -> None:
        """RFC 7692, 7.2.3.4: a final block, and one more byte."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        final = packer.compress(b"Hello") + packer.flush() + b"\0"
        frames = Frames(deflate=Deflate())
        for _ in range(3):
            assert fed(frames, frame(1, final, rsv=4)) == [Message(TEXT, "Hello")]
        assert fed(frames, frame(1, packed(b"again"), rsv=4)) == [Message(TEXT, "again")]

    def test_a_peer_that_remembers_although_it_agreed_to_forget(self) -> None:
        packer, text = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(range(33, 126))
        one, two = ((packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2))
        data = frame(1, one, rsv=4) + frame(1, two, rsv=4)
        assert fed(Frames(deflate=Deflate()), data) == [Message(TEXT, text.decode())] * 2
        first, second = fed(Frames(deflate=Deflate(server_no_context_takeover=True)), data)
        assert (first.data, second.data.code) == (text.decode(), 1007)

    @example(b"\x01\x02\x00\x80", None)  # the second byte is none of UTF-8
    @given(st.binary(max_size=200), st.sampled_from(DEFLATES))
    def test_noise_never_raises(self, noise: bytes, deflate: Deflate | None) -> None:
        frames = Frames(deflate=deflate, max_size=1000)
        whole = [(message.type, str(message.data)) for message in fed(frames, noise)]
        frames = Frames(deflate=deflate, max_size=1000)
        assert [(m.type, str(m.data)) for m in fed(frames, noise, list(range(200)))] == whole

    def test_a_ping_of_126_bytes_is_refused(self) -> None:
        with pytest.raises(ValueError, match="too long"):
            Frames().ping(bytes(126))


class TestLimits:
    @pytest.mark.parametrize("deflate", [None, Deflate()])
    @pytest.mark.parametrize("cut", [1, 3, 10**6])
    @pytest.mark.parametrize(("size", "kind"), [(1000, BINARY), (1001, ERROR)])
    def test_the_limit_is_exact(self, deflate: Deflate | None, cut: int, size: int, kind: MessageType) -> None:
        whole = frame(2, bytes(size))
        parts = frame(2, bytes(600), fin=False) + frame(9, bytes(100)) + frame(0, bytes(size - 600))
        cases = [(whole, [kind]), (parts, [PING, kind])]
        if deflate is not None:
            squeezed = packed(bytes(size))
            two = frame(2, squeezed[:5], rsv=4, fin=False) + frame(9, b"") + frame(0, squeezed[5:])
            cases += [(frame(2, squeezed, rsv=4), [kind]), (two, [PING, kind])]
        for data, kinds in cases:
            found = fed(Frames(deflate=deflate, max_size=1000), data, list(range(0, len(data), cut)))
            assert [message.type for message in found] == kinds
            if kind is ERROR:
                assert found[-1].data.code == 1009

    def test_the_next_message_counts_from_zero(self) -> None:
        frames = Frames(deflate=Deflate(), max_size=1000)
        data = (frame(2, bytes(900)) + frame(2, packed(bytes(900)), rsv=4)) * 3
        assert fed(frames, data) == [Message(BINARY, bytes(900))] * 6

    def test_too_much_is_refused_by_its_head(self) -> None:
        (error,) = fed(Frames(max_size=1000), b"\x82\x7f" + struct.pack("!Q", 2**40))
        assert error.data.code == 1009

    def test_a_bomb_is_not_unpacked(self) -> None:
        bomb = frame(2, packed(bytes(100 * MIB)), rsv=4)
        frames = Frames(deflate=Deflate(), max_size=MIB)
        tracemalloc.start()
        try:
            (error,) = fed(frames, bomb)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert error.data.code == 1009
        assert peak < 4 * MIB

    def test_without_a_limit(self) -> None:
        (message,) = fed(Frames(deflate=Deflate(), max_size=None), frame(2, packed(bytes(10 * MIB)), rsv=4))
        assert len(message.data) == 10 * MIB

    def test_messages_are_unpacked_when_they_are_asked_for(self) -> None:
        """A few kilobytes from the peer can hold many messages of the largest size."""
        unpacked = []

        class Watched(wsframes._Extension):
            def _unpacked(self, data: bytes) -> Any:
                unpacked.append(len(data))
                return super()._unpacked(data)

        frames = Frames(deflate=Deflate())
        frames._connection._proto.extensions[0].__class__ = Watched
        stream = frames.feed(frame(2, packed(bytes(MIB)), rsv=4) * 10)
        assert len(next(stream).data) == MIB
        assert len(unpacked) == 2
        assert sum(len(message.data) for message in stream) == 9 * MIB


def test_messages() -> None:
    assert Message(TEXT, '{"a": 1}').json() == {"a": 1}
    assert Message(BINARY, b"[1]").json(loads=lambda data: data) == b"[1]"
    assert Message(MessageType.CLOSED) == (0x101, None, None)


def test_without_wsproto_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsproto.connection", None)
    with pytest.raises(ModuleNotFoundError, match=r"need the package wsproto: install weft\[http\]") as caught:
        Frames()
    assert caught.value.__suppress_context__  # where it was looked for is nothing to read


def test_what_wsproto_misses_is_named_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wsproto").mkdir()
    (tmp_path / "wsproto" / "__init__.py").write_text("import no_such_module_below")
    for name in [name for name in sys.modules if name.partition(".")[0] == "wsproto"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_below"):
        wsproto("connection")
