"""A loop closed with thousands of things that are not over: no crash, no leak, and asyncio's warnings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.core.kit import run_script

MANY = 10_000

# Each leaves MANY things in the loop that is closed then; ``left`` holds weak references to what must be gone.
THINGS = {
    "tasks": "for _ in range(n): keep(loop.create_task(forever()))\nturn()",
    "tasks not begun": "for _ in range(n): keep(loop.create_task(forever()))",
    "tasks that wait for each other": """
tasks = [loop.create_task(forever())]
for _ in range(n): tasks.append(loop.create_task(waits(tasks[-1])))
tasks[0] = None
for task in tasks[1:]: keep(task)
turn()
del tasks[:], task""",
    "tasks in a circle": """
async def one(ring, place):
    await asyncio.sleep(0)
    await ring[(place + 1) % len(ring)]
ring = []
for place in range(n): ring.append(loop.create_task(one(ring, place)))
for task in ring: keep(task)
turn()
turn()
del task, ring""",
    "tasks that sleep": "for _ in range(n): keep(loop.create_task(asyncio.sleep(1000)))\nturn()",
    "timers": "for i in range(n): keep(loop.call_later(1000 + i % 7, Kept()))",
    "cancelled timers": "for i in range(n): h = loop.call_later(1000 + i, Kept()); keep(h); h.cancel()\ndel h",
    "callbacks": "for _ in range(n): keep(loop.call_soon(Kept()))",
    "callbacks of threads": "for _ in range(n): keep(loop.call_soon_threadsafe(Kept()))",
    "futures": """
for _ in range(n):
    future = loop.create_future()
    future.add_done_callback(Kept())
    keep(future)
    loop.call_soon(future.set_result, None)
del future""",
    "generators": """
async def numbers():
    yield 1
made = [numbers() for _ in range(n // 10)]
async def begin():
    for generator in made: await generator.__anext__()
loop.run_until_complete(begin())
for generator in made: keep(generator)
del made, generator""",
    "connections": """
async def connect():
    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    for _ in range(200):
        await loop.create_connection(Protocol, *server.sockets[0].getsockname())
loop.run_until_complete(connect())""",
    "tasks on connections": """
async def serve(reader, writer):
    keep(asyncio.current_task())
    writer.write(b"x" * 10_000_000)
    await reader.read()
async def ask(address):
    keep(asyncio.current_task())
    reader, writer = await asyncio.open_connection(*address)
    await forever()
async def connect():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(100):
        loop.create_task(ask(address))
    while len(left) < 200: await asyncio.sleep(0)
    server.close()
loop.run_until_complete(connect())""",
}

PENDING = "Task was destroyed but it is pending!"
DESTROYED = {"tasks that wait for each other": MANY + 1, "tasks in a circle": MANY, "tasks on connections": 200}

SCRIPT = """
    import asyncio, collections, gc, json, logging, os, re, sys, warnings, weakref
    kind, n, code = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    said = collections.Counter()
    handler = logging.Handler()
    def emit(record):
        said[re.split("[\\n:]", record.getMessage())[0]] += 1
    handler.emit = emit
    logging.getLogger("asyncio").addHandler(handler)
    warnings.simplefilter("always")
    def showwarning(message, category, *rest):
        said[f"{category.__name__}: {' '.join(str(message).split()[:2])}"] += 1
    warnings.showwarning = showwarning
    sys.unraisablehook = lambda unraisable: said.update([f"unraisable {unraisable.exc_value!r}"])

    left = []
    def keep(thing):
        try:
            left.append(weakref.ref(thing))
        except TypeError:
            pass

    class Kept:
        def __init__(self):
            keep(self)
        def __call__(self, *args):
            said["called"] += 1

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            keep(self)
        def connection_lost(self, exc):
            said["lost"] += 1

    async def forever():
        await asyncio.get_running_loop().create_future()

    async def waits(task):
        await task

    if kind == "weft":
        import weft
        loop = weft.new_event_loop()
    else:
        loop = asyncio.SelectorEventLoop()
    turn = lambda: loop.run_until_complete(asyncio.sleep(0))
    turn()
    before = len(os.listdir("/proc/self/fd"))
    exec(code)
    gc.collect()
    loop.close()
    loop = None
    gc.collect()
    gc.collect()
    print(json.dumps({
        "said": said,
        "made": len(left),
        "left": sum(ref() is not None for ref in left),
        "fds": len(os.listdir("/proc/self/fd")) - before,
    }))
"""


def close_with(kind: str, thing: str) -> Any:
    """What a program says that closes a loop of ``kind`` with many of ``thing``."""
    return json.loads(run_script(SCRIPT, kind, MANY, THINGS[thing], env={"PYTHONMALLOC": "debug"}))


@pytest.mark.weft_only
@pytest.mark.parametrize("thing", THINGS)
def test_closed_with_many(thing: str) -> None:
    ours = close_with("weft", thing)
    assert ours["left"] == 0, ours
    assert ours["fds"] < 0, ours  # the loop's own have gone, too
    if thing in DESTROYED:
        # asyncio's own handler stumbles over the depth of the chain, and takes 20 seconds for that.
        assert ours["said"][PENDING] == DESTROYED[thing]
    else:
        stock = close_with("asyncio", thing)
        assert (ours["said"], ours["made"]) == (stock["said"], stock["made"])
