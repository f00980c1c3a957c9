"""Out of descriptors, for real: with every number of free ones, an operation works or raises, and leaves nothing."""

from __future__ import annotations

import json

import pytest

from tests.core.kit import run_script
from tests.faults.kit import ROOT

pytestmark = pytest.mark.weft_only

# For 0, 1, 2, ... free descriptors: play the operation under that limit, note how it ended, and compare what is open.
SCRIPT = """
    import asyncio, gc, json, logging, os, resource, socket, subprocess, sys, tempfile, warnings, weft
    from tests.faults.workload import Echo, left_over, open_fds
    warnings.simplefilter("error")
    unraisable = []
    sys.unraisablehook = lambda it: unraisable.append(f"{it.exc_value!r} {it.object!r}")
    operation = sys.argv[1]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    async def connect():
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"x")
        writer.close()
        await writer.wait_closed()

    def limit(used, free):
        # The limit is of numbers, and there may be gaps between those in use.
        for number in range(1000):
            if number - sum(fd < number for fd in used) == free and number not in used:
                return number

    async def pipes():
        loop = asyncio.get_running_loop()
        ours, theirs = os.pipe()
        with os.fdopen(ours, "rb", 0) as reading, os.fdopen(theirs, "wb", 0) as writing:
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reading)
            transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)
            transport.write(b"x")
            transport.close()
            assert await reader.read() == b"x"
            await asyncio.sleep(0)

    async def serve():
        server = await asyncio.get_running_loop().create_server(Echo, ["127.0.0.1", "127.0.0.2", "127.0.0.3"], 0)
        server.close()

    async def datagrams():
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, ("127.0.0.1", 0))
        transport.close()
        await asyncio.sleep(0)

    async def process():
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe, stderr=pipe)
        assert await process.communicate(b"x") == (b"x", b"")

    async def sendfile():
        ours, theirs = socket.socketpair()
        with ours, theirs, tempfile.TemporaryFile() as file:
            file.write(b"x")
            file.flush()
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_sendfile(ours, file, 0)
            assert theirs.recv(10) == b"x"

    async def new_loop():
        loop = weft.new_event_loop()
        loop.close()

    async def main():
        global address
        loop = asyncio.get_running_loop()
        reports, ends, left = [], [], []
        loop.set_exception_handler(lambda loop, context: reports.append(f"{context}"))
        # What is loaded, or looked up, for the first time needs descriptors too.
        operations = {
            "connect": connect,
            "pipes": pipes,
            "serve": serve, "datagrams": datagrams, "process": process, "sendfile": sendfile,
            "new loop": new_loop,
        }
        listener = socket.create_server(("127.0.0.1", 0))  # the kernel accepts, which costs no descriptor
        address = listener.getsockname()
        await operations[operation]()
        for free in range(16):
            before = open_fds()
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit(before, free), hard))
            try:
                async with asyncio.timeout(20):
                    await operations[operation]()
                ends.append("ok")
            except OSError as error:
                ends.append(f"{type(error).__name__} {error.errno}")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1024), hard))
            for _ in range(10_000):
                await asyncio.sleep(0)
                gc.collect(0)
                if not (more := [line for line in left_over(before) if "thread" not in line]):
                    break
            left += more
        listener.close()
        return {"ends": ends, "left": left, "reports": reports}

    said = weft.run(main())
    print(json.dumps({**said, "unraisable": unraisable}))
"""


@pytest.mark.parametrize("operation", ["connect", "pipes", "serve", "datagrams", "process", "sendfile", "new loop"])
def test_with_every_number_of_free_descriptors(operation: str) -> None:
    said = json.loads(run_script(SCRIPT, operation, env={"PYTHONPATH": f"{ROOT}:{ROOT}/src"}))
    ends = said["ends"]
    assert ends[0] == "OSError 24"
    assert ends[-1] == "ok"
    enough = ends.index("ok")
    assert set(ends[:enough]) == {"OSError 24"}, ends
    assert set(ends[enough:]) == {"ok"}, ends
    assert said["left"] == []
    assert said["unraisable"] == []
    assert [report for report in said["reports"] if "out of system resources" not in report] == []
