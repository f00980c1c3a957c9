"""Accepting when the kernel refuses: on the virtual clock, so that the moments of the retries are exact."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.kit import run_script
from tests.faults.kit import preloaded, rules

pytestmark = pytest.mark.weft_only

# Clients that the kernel has connected wait to be accepted. Prints when, on the virtual clock, the first and the last
# of them were served, what was reported, and how often the rules struck.
SERVER = """
    import asyncio, ctypes, json, logging, socket, sys, weft
    from weft._core.virtual import VirtualDriver

    plan, count = sys.argv[1], int(sys.argv[2])
    lines, served = [], []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage().partition("\\n")[0])
    logging.getLogger("asyncio").addHandler(handler)
    shim = ctypes.CDLL(None)
    shim.faults_struck.restype = ctypes.c_long

    class Greet(asyncio.Protocol):
        def connection_made(self, transport):
            served.append(transport.get_extra_info("peername"))
            moments.append(asyncio.get_running_loop().time() - begin)
            transport.write(b"hello")
            transport.close()

    async def main():
        global begin, moments
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Greet, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(count)]
        assert shim.faults_plan(plan.encode(), ctypes.c_uint64(1)) == len(plan.split())
        begin, moments = loop.time(), []
        while len(served) < count:
            await asyncio.sleep(0.01)
        for client in clients:
            client.settimeout(10)
            assert client.recv(10) == b"hello"
            client.close()
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=lambda: weft.EventLoop(driver=VirtualDriver())) as runner:
        runner.run(main())
    struck = [shim.faults_struck(number) for number in range(len(plan.split()))]
    said = {"first": moments[0], "last": moments[-1], "lines": lines, "struck": struck, "served": len(set(served))}
    print(json.dumps(said))
"""


def serve(shim: Path, plan: str, clients: int = 10) -> Any:
    """What the program says."""
    return json.loads(run_script(SERVER, plan, clients, env=preloaded(shim)))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_out_of_resources(shim: Path, code: int) -> None:
    """Three refusals in a row: nobody is dropped, accepting resumes 50 ms after each, and one line says so."""
    said = serve(shim, rules(code, 1, "accept4") + ":3")
    assert said["served"] == 10
    assert said["struck"] == [3]
    assert said["first"] == pytest.approx(0.15, abs=0.011)  # on the virtual clock: three retries
    assert said["last"] == said["first"]  # the others did not have to wait for each other
    (line,) = said["lines"]
    assert "out of system resources" in line


def test_the_report_is_made_every_five_seconds(shim: Path) -> None:
    """240 refusals are 12 seconds, on the virtual clock."""
    said = serve(shim, rules(errno.EMFILE, 1, "accept4") + ":240")
    assert said["served"] == 10
    assert said["struck"] == [240]
    assert len(said["lines"]) == 3


@pytest.mark.parametrize(
    "code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EINTR, errno.EAGAIN]
)
def test_one_that_has_gone_is_skipped(shim: Path, code: int) -> None:
    """Silently, and the next is served at once."""
    said = serve(shim, rules(code, 2, "accept4") + ":6")
    assert said["served"] == 10
    assert said["struck"] == [6]
    assert said["last"] == pytest.approx(0, abs=0.011)
    assert said["lines"] == []


def test_an_error_that_is_unheard_of(shim: Path) -> None:
    """The server does not spin and does not give up."""
    said = serve(shim, rules(errno.EIO, 1, "accept4") + ":2")
    assert said["served"] == 10
    assert said["first"] == pytest.approx(0.1, abs=0.011)
    assert len(said["lines"]) == 1


def test_no_memory_to_watch_again(shim: Path) -> None:
    """Neither to accept nor, when it is time to try again, to watch the socket: the server goes on trying."""
    said = serve(shim, rules(errno.EMFILE, 1, "accept4") + ":1 " + rules(errno.ENOMEM, 1, "epoll_ctl") + ":2")
    assert said["served"] == 10
    assert said["struck"] == [1, 2]
    assert said["first"] == pytest.approx(0.15, abs=0.011)
    assert len(said["lines"]) == 1
