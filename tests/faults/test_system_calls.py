"""Every byte arrives once and in order, however the kernel answers; or the program is told, and nothing is left."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from tests.core.kit import run_script
from tests.faults.kit import INTERRUPTED, SHORT, WOULD_BLOCK, Verdict, preloaded, rules, run_workload

pytestmark = pytest.mark.weft_only

# Those whose peers notice an error: sock_* alone leaves the other side waiting for a program that has given up.
CONNECTIONS = ("protocols", "buffered", "streams", "unix", "pipes")

# A TimeoutError without an error's number is the scenario's limit.
TOLD = r"ok$|(OSError|TimeoutError): \[|Connection\w+Error: |BrokenPipeError: |IncompleteReadError: "


def whole(verdict: Verdict) -> None:
    """Nothing but the scenarios' own success, and faults that have happened."""
    assert set(verdict.words.values()) == {"ok"}, verdict
    assert verdict.reports == []
    assert verdict.left == []


def told(verdict: Verdict) -> None:
    """Each scenario went well, or was told; what had arrived by then is the beginning of what was sent."""
    for word in verdict.words.values():
        if cut := re.match(r"AssertionError: (\d+) bytes of \d+ arrived, and they differ at (\d+)$", word):
            assert cut[1] == cut[2], verdict
        else:
            assert re.match(TOLD, word), verdict
            assert "tasks are left" not in word, verdict
    assert [report for report in verdict.reports if "Fatal" in report or "Exception in callback" in report] == []
    assert verdict.left == []


class TestNoFault:
    @pytest.mark.parametrize(
        "plan",
        [INTERRUPTED, WOULD_BLOCK, SHORT, f"{INTERRUPTED} {WOULD_BLOCK} {SHORT}"],
        ids=["interrupted", "would block", "short", "all"],
    )
    def test_all_bytes_arrive(self, shim: Path, plan: str) -> None:
        """EINTR, EAGAIN and short counts are no errors: nobody hears of them."""
        verdict = run_workload(shim, "weft", plan)
        whole(verdict)
        assert verdict.struck[plan.split(maxsplit=1)[0]] > 10

    def test_the_workload_is_right(self, shim: Path) -> None:
        """The oracle passes it, too."""
        streams = ("protocols", "buffered", "streams", "unix", "tls", "sockets", "pipes", "processes", "timers")
        whole(run_workload(shim, "asyncio", f"{INTERRUPTED} {SHORT}", *streams))

    @pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
    def test_an_old_kernel_or_a_sandbox(self, shim: Path, code: int) -> None:
        """Without epoll_pwait2(2) the loop waits in milliseconds."""
        verdict = run_workload(shim, "weft", rules(code, 1, "epoll_pwait2"), "timers", "streams", "processes")
        whole(verdict)
        assert verdict.struck[f"epoll_pwait2:{code}:1"] == 1


class TestErrors:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    @pytest.mark.parametrize("code", [errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM, errno.EIO, errno.ETIMEDOUT])
    def test_of_moving_bytes(self, shim: Path, code: int, seed: int) -> None:
        plan = rules(code, 25, "recv", "send", "sendmsg") + " " + rules(code, 6, "read", "writev")
        told(run_workload(shim, "weft", plan, *CONNECTIONS, seed=seed))

    def test_of_datagrams(self, shim: Path) -> None:
        """Each is told to ``error_received`` and costs one datagram at most; the endpoint stays open."""
        plan = f"sendmmsg:{errno.ENOBUFS}:3 sendto:{errno.ENOBUFS}:7 sendto:{errno.ECONNREFUSED}:30"
        verdict = run_workload(shim, "weft", plan, "datagrams")
        whole(verdict)
        assert all(verdict.struck[rule] > 1 for rule in plan.split()), verdict.struck

    def test_of_receiving_datagrams(self, shim: Path) -> None:
        """What the kernel has not given is still there: nothing is lost."""
        plan = f"recvmmsg:{errno.ENOMEM}:3 recvmmsg:{errno.EINTR}:3 recvmmsg:{errno.EAGAIN}:3"
        verdict = run_workload(shim, "weft", plan, "datagrams")
        whole(verdict)
        assert all(struck > 3 for struck in verdict.struck.values()), verdict.struck

    @pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOSPC])
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_of_watching(self, shim: Path, code: int, seed: int) -> None:
        """ENOSPC is the limit of watches per user (epoll(7)). A connection may be lost, the loop goes on."""
        told(run_workload(shim, "weft", rules(code, 6, "epoll_ctl"), *CONNECTIONS, seed=seed))

    def test_of_connecting(self, shim: Path) -> None:
        told(run_workload(shim, "weft", rules(errno.EHOSTUNREACH, 3, "connect"), *CONNECTIONS))


# The moment is chosen: in the flush of a transport that is not being read from, or at the start of one.
UNWATCHED = """
    import asyncio, ctypes, errno, socket, sys, weft
    when = sys.argv[1]
    shim = ctypes.CDLL(None)

    class Log(asyncio.Protocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()
        def connection_lost(self, exc):
            self.lost.set_result(exc)

    def fail():
        assert shim.faults_plan(b"epoll_ctl:%d:1:1" % errno.ENOMEM, ctypes.c_uint64(1)) == 1

    async def main():
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        if when == "start":
            fail()
        transport, log = await loop.create_connection(Log, sock=ours)
        if when == "flush":
            transport.pause_reading()
            fail()
            transport.write(b"x" * 15_000)
        async with asyncio.timeout(20):
            error = await log.lost
        assert error.errno == errno.ENOMEM, error
        assert shim.faults_struck(0) == 1
        peer.close()

    weft.run(main())
"""


@pytest.mark.parametrize("when", ["start", "flush"])
def test_a_connection_that_cannot_be_watched_is_lost(shim: Path, when: str) -> None:
    run_script(UNWATCHED, when, env=preloaded(shim))
