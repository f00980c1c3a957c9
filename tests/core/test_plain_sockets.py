"""The sockets of connections are what ``socket.accept()`` would have given, though its Python lines did not run."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.loop.kit import Recorder, Run, open_sockets

INET = ("127.0.0.1", 0)
PLACES: dict[str, tuple[int, int, Any]] = {
    "IPv4": (socket.AF_INET, socket.SOCK_STREAM, INET),
    "another IPv4": (socket.AF_INET, socket.SOCK_STREAM, ("127.200.30.4", 0)),
    "IPv6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
    "a path": (socket.AF_UNIX, socket.SOCK_STREAM, "socket"),
    "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, b"\0weft's test of accepting"),
    "packets": (socket.AF_UNIX, socket.SOCK_SEQPACKET, "socket"),
}


def listener(place: str, cls: type[socket.socket] = socket.socket) -> socket.socket:
    family, kind, address = PLACES[place]
    sock = cls(family, kind)
    sock.setblocking(False)
    sock.bind(address)
    sock.listen()
    return sock


def traits(sock: Any) -> dict[str, Any]:
    """All that can be asked of a socket."""
    names = ("getsockname", "getpeername", "gettimeout", "get_inheritable")
    return {name: getattr(sock, name)() for name in names} | {
        "class": type(sock),
        "family": sock.family,
        "kind": sock.type,
        "proto": sock.proto,
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("is_bound", [False, True])
def test_as_accept_gives_it(run: Run, place: str, is_bound: bool) -> None:
    """Twice the same client's socket would be needed to compare directly; two alike will do, but for their ports."""
    family, kind, _ = PLACES[place]

    async def main() -> None:
        with listener(place) as server, socket.socket(family, kind) as ours, socket.socket(family, kind) as theirs:
            if is_bound and family == socket.AF_UNIX:
                ours.bind("client")
            ours.connect(server.getsockname())
            accepted, address = await asyncio.get_running_loop().sock_accept(server)
            theirs.connect(server.getsockname())
            expected, _ = server.accept()
            expected.setblocking(False)
            with accepted, expected:
                assert traits(accepted) | {"getpeername": None} == traits(expected) | {"getpeername": None}
                assert address == accepted.getpeername() == (ours.getsockname() or "")
                ours.sendall(b"hello")
                assert accepted.recv(10) == b"hello"

    run(main())


def test_a_class_of_its_own_is_asked_by_its_method(run: Run) -> None:
    calls = []

    class Counting(socket.socket):
        def accept(self) -> Any:
            calls.append(self)
            return super().accept()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with listener("IPv4", Counting) as sock:
            server = await loop.create_server(Recorder, sock=sock)
            transport, _ = await loop.create_connection(Recorder, *sock.getsockname())
            while not calls:
                await asyncio.sleep(0)
            transport.close()
            server.close()
            await server.wait_closed()

    run(main())
    assert calls


@pytest.mark.weft_only
def test_a_file_on_the_socket_keeps_it(run: Run) -> None:
    """As with ``socket.close()``: the descriptor goes with the last of them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            theirs.settimeout(5)
            file = ours.makefile("wb", buffering=0)
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            before = open_sockets()
            transport.abort()
            await protocol.lost
            assert ours.fileno() >= 0 and open_sockets() == before
            file.write(b"still here")
            assert theirs.recv(20) == b"still here"
            file.close()
            assert ours.fileno() == -1 and open_sockets() == before - 1

    run(main())
