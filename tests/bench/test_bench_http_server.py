"""The server of the HTTP benchmarks, over sockets: what it answers, however the requests are cut."""

from __future__ import annotations

import json
import select
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest

from bench.load import program

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

LIMIT = 20.0  # seconds after which a test that hangs fails
PAGE = bytes(ord("!") + at % 89 for at in range(1024))
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Peer:
    """One connection to the server, and what has been read from it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def more(self) -> bytes:
        data = self.socket.recv(1 << 18)
        self.buffer += data
        return data

    def response(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), "the server closed the connection"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers["content-length"])
        while len(self.buffer) < length:
            assert self.more(), "the server closed the connection"
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(status.split()[1]), headers, body

    def is_closed(self) -> bool:
        try:
            return self.buffer == b"" and self.more() == b""
        except ConnectionResetError:
            return True


Connect = Callable[[], Peer]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server that serves all the tests here: what one of them does must not hurt the next."""
    with subprocess.Popen([program("http_server")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["port"]
            assert process.poll() is None, "the server crashed"
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    """Opens connections, and closes them after the test."""
    peers: list[Peer] = []

    def connect() -> Peer:
        peers.append(Peer(port))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.socket.close()


class TestAnswers:
    def test_the_page_has_the_usual_headers(self, connect: Connect) -> None:
        peer = connect()
        peer.send(GET)
        status, headers, body = peer.response()
        assert (status, body) == (200, PAGE)
        wanted = {"content-type", "server", "date", "cache-control", "connection", "content-length"}
        assert set(headers) == wanted

    def test_a_connection_is_kept(self, connect: Connect) -> None:
        peer = connect()
        for _ in range(100):
            peer.send(GET)
            assert peer.response()[2] == PAGE

    def test_unless_the_client_wants_none(self, connect: Connect) -> None:
        peer = connect()
        peer.send(b"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n")
        assert peer.response()[2] == PAGE
        assert peer.is_closed()

    @pytest.mark.parametrize("length", [0, 1, 262_144, 262_145, 5_000_000])
    def test_a_body_of_any_length(self, connect: Connect, length: int) -> None:
        peer = connect()
        peer.send(get(f"/bytes/{length}") + GET)
        assert peer.response()[2] == b"x" * length
        assert peer.response()[2] == PAGE

    def test_a_body_that_nobody_reads_holds_up_nobody_else(self, connect: Connect) -> None:
        lazy, other = connect(), connect()
        lazy.send(get("/bytes/100000000000"))
        other.send(GET)
        assert other.response()[2] == PAGE

    @pytest.mark.parametrize("length", [0, 1, 187, 100_000, 3_000_000])
    def test_the_body_of_a_post_is_counted(self, connect: Connect, length: int) -> None:
        peer = connect()
        peer.send(post(b"j" * length))
        status, headers, body = peer.response()
        assert status == 200 and headers["content-type"] == "application/json"
        assert json.loads(body) == {"received": length}

    def test_delayed_answers_come_when_they_are_due(self, connect: Connect) -> None:
        late, soon = connect(), connect()
        late.send(get("/delay/2000"))
        soon.send(get("/delay/1"))
        ready, _, _ = select.select([late.socket, soon.socket], [], [], LIMIT)
        assert ready == [soon.socket]
        assert soon.response()[2] == PAGE

    def test_many_delays_in_any_order(self, connect: Connect) -> None:
        """Every other is due in an hour: a timer that is not where it belongs waits behind one of these."""
        peers = [connect() for _ in range(200)]
        for at, peer in enumerate(peers):
            peer.send(get(f"/delay/{at * 37 % 100 if at % 2 else 3_600_000 + at * 37 % 100}"))
        assert all(peer.response()[2] == PAGE for peer in peers[1::2])

    def test_who_leaves_before_the_answer_is_forgotten(self, connect: Connect) -> None:
        for _ in range(20):
            peer = connect()
            peer.send(get("/delay/20"))
            peer.socket.close()
        patient = connect()
        patient.send(get("/delay/50"))
        assert patient.response()[2] == PAGE

    def test_who_comes_in_the_place_of_one_who_left_gets_no_answer_of_his(self, connect: Connect) -> None:
        former, other = connect(), connect()
        former.send(get("/delay/50"))
        other.send(get("/delay/100") + GET)
        abortive = struct.pack("ii", 1, 0)  # linger(7): a reset, which is noticed while nothing is read
        former.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abortive)
        former.socket.close()
        newcomer = connect()
        assert [other.response()[2] for _ in range(2)] == [PAGE] * 2
        newcomer.send(get("/bytes/3"))
        assert newcomer.response()[2] == b"xxx"


class TestCuts:
    MESSAGES = GET + post(b"a" * 300) + get("/bytes/10") + get("/delay/1") + post(b"") + get("/bytes/0") + GET

    def answers(self, peer: Peer) -> list[bytes]:
        return [peer.response()[2] for _ in range(7)]

    WANTED = (PAGE, b'{"received": 300}', b"x" * 10, PAGE, b'{"received": 0}', b"", PAGE)

    def test_pipelined_requests_are_answered_in_order(self, connect: Connect) -> None:
        peer = connect()
        peer.send(self.MESSAGES)
        assert tuple(self.answers(peer)) == self.WANTED

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_requests_may_come_in_pieces(self, connect: Connect, size: int) -> None:
        peer = connect()
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(self.MESSAGES), size):
            peer.send(self.MESSAGES[at : at + size])
        assert tuple(self.answers(peer)) == self.WANTED

    def test_more_requests_than_the_buffer_holds(self, connect: Connect) -> None:
        peer = connect()
        peer.send(get("/delay/20") + GET * 1999)
        for _ in range(2000):
            assert peer.response()[2] == PAGE


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"PUT / HTTP/1.1\r\n\r\n", 501),
            (b"nonsense\r\n\r\n", 501),
            (b"\r\n\r\n", 501),
            (b"GET\r\n\r\n", 501),
            (b"GET / HTTP/2\r\n\r\n", 400),
            (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
            (b"GET /bytes/many HTTP/1.1\r\n\r\n", 400),
            (b"GET /delay/-1 HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", 400),
            (b"\0\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        ],
    )
    def test_what_it_does_not_understand_ends_the_connection(
        self, connect: Connect, request_: bytes, status: int
    ) -> None:
        peer = connect()
        peer.send(request_)
        assert peer.response()[0] == status
        assert peer.is_closed()

    def test_a_head_that_does_not_fit(self, connect: Connect) -> None:
        peer = connect()
        peer.send(b"GET / HTTP/1.1\r\nA: " + b"a" * 10_000)
        assert peer.is_closed()

    def test_a_client_that_leaves_in_the_middle(self, connect: Connect) -> None:
        for part in (b"", b"GE", GET[:-1], post(b"abc")[:-1], get("/bytes/100000000")):
            peer = connect()
            peer.send(part)
            peer.socket.close()
        other = connect()
        other.send(GET)
        assert other.response()[2] == PAGE
