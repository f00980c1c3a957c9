"""Loops that end in the garbage collector, in whatever order it takes them apart: in a process of its own each."""

from __future__ import annotations

import pytest

from tests.core.kit import run_script

# What hangs on the loop when it is dropped. Each is part of a cycle with the loop, so only the collector can find it.
THINGS = {
    "nothing": "",
    "the driver": "cycle.append(loop._driver)",
    "callbacks": "for _ in range(300): loop.call_soon(cycle.append, loop)",
    "timers": "handles = [loop.call_later(99, cycle.append, loop) for _ in range(300)]; [h.cancel() for h in handles[::2]]; cycle.append(handles)",  # noqa: E501
    "tasks": "cycle.append([loop.create_task(wait(loop)) for _ in range(50)]); turn(loop)",
    "readers": "loop.add_reader(ours, cycle.append, loop); loop.add_writer(theirs, cycle.append, loop)",
    "transport": "cycle.append(loop.run_until_complete(loop.create_connection(Protocol, sock=ours)))",
    "unsent": "transport, _ = loop.run_until_complete(loop.create_connection(Protocol, sock=ours)); transport.write(b'x' * 9999999)",  # noqa: E501
    "server": "cycle.append(loop.run_until_complete(loop.create_server(Protocol, '127.0.0.1', 0)))",
    "signal": "loop.add_signal_handler(10, cycle.append, loop)",
    "executor": "loop.run_until_complete(loop.run_in_executor(None, int))",
    "threadsafe": "cycle.append(loop.call_soon_threadsafe(cycle.append, loop))",
}

SCRIPT = """
    import asyncio, gc, socket, sys, warnings, weakref, weft
    warnings.simplefilter("ignore")
    what = sys.argv[1]

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

    class Last:
        # Its destructor runs in the middle of the collection and asks everything of everybody.
        def __init__(self, loop):
            self.loop = loop
            self.me = self
        def __del__(self):
            for call in (
                self.loop.time, self.loop.stop, self.loop.is_running, self.loop.close, self.loop.get_debug,
                lambda: self.loop.call_soon(print), lambda: self.loop.call_later(1, print),
                lambda: self.loop.call_soon_threadsafe(print), lambda: self.loop.remove_reader(0),
                lambda: repr(self.loop), lambda: self.loop.create_future(), gc.collect,
            ):
                try:
                    call()
                except RuntimeError:
                    pass

    async def wait(loop):
        try:
            await loop.create_future()
        finally:
            try:
                loop.call_soon(print)
            except RuntimeError:
                pass

    def turn(loop):
        loop.call_soon(loop.stop)
        loop.run_forever()

    def play(closed):
        loop = weft.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        cycle = [loop, Last(loop)]
        loop.cycle = cycle
        exec(what, {**globals(), **locals()})
        if closed:
            loop.close()
        return weakref.ref(loop)

    for round in range(6):
        refs = [play(index % 2) for index in range(6)]
        gc.collect()
        junk = [[] for _ in range(2000)]
        gc.collect()
        assert [ref() for ref in refs] == [None] * 6, refs
"""


@pytest.mark.parametrize("thing", THINGS)
def test_a_loop_in_a_cycle(thing: str) -> None:
    run_script(SCRIPT, THINGS[thing], env={"PYTHONMALLOC": "debug"})


def test_at_the_end_of_the_interpreter() -> None:
    """What a program leaves at its end goes down with the interpreter, half of which has gone before."""
    everything = "\n".join(THINGS[thing] for thing in THINGS if thing not in ("unsent", "readers"))
    run_script(SCRIPT.replace("for round in range(6):", "kept = play(False)\n    for round in ():"), everything)


LOUD = """
    import asyncio, contextlib, gc, io, socket, sys, warnings, weft
    noticed = []
    printed = io.StringIO()
    sys.unraisablehook = noticed.append
    warnings.simplefilter("always")

    class Protocol(asyncio.Protocol):
        pass

    def show(*args, **kwargs):
        raise error

    warnings.showwarning = show
    for error in (KeyboardInterrupt(), SystemExit(3), OSError("no terminal")):
        loop = weft.new_event_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop.run_until_complete(loop.create_connection(Protocol, sock=ours))
        loop.loop = loop
        del loop
        with contextlib.redirect_stderr(printed):
            gc.collect()
        theirs.close()
        assert printed.getvalue() == ""
        # The loop's destructor, which is Python, and the transport's.
        assert [notice.exc_value for notice in noticed] == [error, error]
        # In the order that the collector chooses.
        assert len([notice for notice in noticed if "Channel" in str(notice.object)]) == 1
        noticed.clear()
    print("came to its end")
"""


def test_what_a_destructor_lets_out_ends_no_process() -> None:
    """The exception goes to ``sys.unraisablehook``, as from a destructor written in Python, and nowhere else."""
    assert run_script(LOUD) == "came to its end\n"
