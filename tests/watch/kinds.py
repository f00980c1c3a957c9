"""Programs that block a loop, one for each kind of blocking call: run by ``test_kinds`` in a process of its own.

Each function blocks for ``LONG`` seconds or more, and the line that does so ends in ``# here``. The names of a group
are arguments; for each, a line of JSON says what was reported of it. Invariant: nothing here waits but what is tested.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import hashlib
import http.client
import inspect
import json
import logging
import multiprocessing
import os
import pickle
import queue
import re
import select
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from time import sleep as nap

import weft
from weft import watch

THRESHOLD = 0.04  # seconds
LONG = 0.13
BUSY = 0.12  # seconds of processor time, roughly: a machine under load takes longer, never shorter

Steps = Generator[None, None, None]  # what goes before ``yield`` prepares, in a callback of its own
Function = Callable[[], Steps | None]

KINDS: dict[str, Function] = {}


def kind(function: Function) -> Function:
    """Register a way to block."""
    KINDS[function.__name__] = function
    return function


def later(what: Callable[[], object], delay: float = LONG) -> threading.Thread:
    """Call something after a while, in another thread."""

    def run() -> None:
        nap(delay)
        what()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def slow_server(answer: bytes = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok") -> int:
    """A server that takes its time for one answer; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            connection.recv(10_000)
            nap(LONG)
            connection.sendall(answer)

    threading.Thread(target=serve).start()
    return int(listener.getsockname()[1])


def sized(work: Callable[[int], object], size: int) -> int:
    """A size for which ``work`` takes about ``BUSY`` seconds."""
    while (took := timed(lambda: work(size))) < 0.01:  # noqa: B023  called at once
        size *= 4
    return int(size * BUSY / took) + 1


def timed(work: Callable[[], object]) -> float:
    """The processor time of a call, in seconds."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


# -- sleeping and waiting


@kind
def time_sleep() -> None:
    time.sleep(LONG)  # here


@kind
def imported_sleep() -> None:
    nap(LONG)  # here


@kind
def helper_of_a_helper() -> None:
    def inner() -> None:
        time.sleep(LONG)  # here

    def outer() -> None:
        inner()

    outer()


@kind
def lock_acquire() -> None:
    lock = threading.Lock()
    lock.acquire()
    later(lock.release)
    lock.acquire()  # here


@kind
def lock_with() -> None:
    lock = threading.Lock()
    lock.acquire()
    later(lock.release)
    with lock:  # here
        pass


@kind
def event_wait() -> None:
    event = threading.Event()
    later(event.set)
    event.wait()  # here


@kind
def condition_wait() -> None:
    condition = threading.Condition()
    with condition:
        condition.wait(LONG)  # here


@kind
def semaphore_acquire() -> None:
    semaphore = threading.Semaphore(0)
    later(semaphore.release)
    semaphore.acquire()  # here


@kind
def barrier_wait() -> None:
    barrier = threading.Barrier(2)
    later(barrier.wait)
    barrier.wait()  # here


@kind
def thread_join() -> None:
    thread = later(int)
    thread.join()  # here


@kind
def queue_get() -> None:
    items: queue.Queue[int] = queue.Queue()
    later(lambda: items.put(1))
    items.get()  # here


@kind
def simple_queue_get() -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    later(lambda: items.put(1))
    items.get()  # here


@kind
def queue_put() -> None:
    items: queue.Queue[int] = queue.Queue(1)
    items.put(1)
    later(items.get)
    items.put(2)  # here


@kind
def future_result() -> None:
    future: Future[int] = Future()
    later(lambda: future.set_result(1))
    future.result()  # here


@kind
def futures_wait() -> None:
    future: Future[int] = Future()
    later(lambda: future.set_result(1))
    wait([future])  # here


@kind
def executor_shutdown() -> None:
    pool = ThreadPoolExecutor(1)
    pool.submit(nap, LONG)
    pool.shutdown()  # here


@kind
def signal_wait() -> None:
    signal.sigtimedwait([signal.SIGUSR1], LONG)  # here


@kind
def semaphore_of_processes() -> None:
    semaphore = multiprocessing.Semaphore(0)
    semaphore.acquire(timeout=LONG)  # here


# -- processes


@kind
def subprocess_run() -> None:
    subprocess.run(["sleep", str(LONG)], check=True)  # here


@kind
def popen_wait() -> None:
    process = subprocess.Popen(["sleep", str(LONG)])
    process.wait()  # here


@kind
def popen_communicate() -> None:
    process = subprocess.Popen(["sleep", str(LONG)], stdout=subprocess.PIPE)
    process.communicate()  # here


@kind
def os_system() -> None:
    os.system(f"sleep {LONG}")  # here


@kind
def os_waitpid() -> None:
    pid = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", str(LONG))
    os.waitpid(pid, 0)  # here


# -- sockets, pipes and files


@kind
def socket_recv() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        later(lambda: theirs.send(b"x"), LONG).name = "sender"
        ours.recv(1)  # here


@kind
def socket_sendall() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(None)
        draining = later(lambda: theirs.recv(1 << 22, socket.MSG_WAITALL))
        ours.sendall(bytes(1 << 22))  # here
        draining.join()


@kind
def socket_accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        later(lambda: socket.create_connection(listener.getsockname()).close())
        listener.accept()[0].close()  # here


@kind
def socket_timeout() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, suppress(TimeoutError):
        ours.settimeout(LONG)
        ours.recv(1)  # here


@kind
def http_client() -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slow_server())
    connection.request("GET", "/")
    connection.getresponse().read()  # here
    connection.close()


@kind
def urllib_urlopen() -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{slow_server()}/").close()  # here


@kind
def name_lookup() -> None:
    # As if the name server were slow; of a file of the standard library, as the C function has no frame.
    code = compile("def slow(*arguments): nap(long); return []", socket.__file__, "exec")
    exec(code, names := {"nap": nap, "long": LONG, "__name__": "_socket"})
    real, socket._socket.getaddrinfo = socket._socket.getaddrinfo, names["slow"]  # type: ignore[attr-defined]
    try:
        socket.getaddrinfo("example.org", 80)  # here
    finally:
        socket._socket.getaddrinfo = real  # type: ignore[attr-defined]


@kind
def select_select() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        select.select([ours], [], [], LONG)  # here


@kind
def selector_select() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        selector.select(LONG)  # here


@kind
def pipe_read() -> None:
    reader, writer = os.pipe()
    later(lambda: os.write(writer, b"x")).name = "writer"
    os.read(reader, 1)  # here


@kind
def fifo_open() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        later(lambda: open(path, "rb").close())
        open(path, "wb").close()  # here


@kind
def file_readline() -> None:
    reader, writer = os.pipe()
    later(lambda: os.write(writer, b"x\n"))
    with open(reader) as lines:
        lines.readline()  # here


@kind
def file_iterate() -> None:
    reader, writer = os.pipe()
    later(lambda: os.close(writer))
    with open(reader) as lines:
        for _ in lines:  # here
            pass


@kind
def file_lock() -> None:
    with tempfile.NamedTemporaryFile() as file, open(file.name) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        later(lambda: fcntl.flock(other, fcntl.LOCK_UN))
        fcntl.flock(file, fcntl.LOCK_EX)  # here


@kind
def input_from_stdin() -> None:
    reader, writer = os.pipe()
    later(lambda: os.write(writer, b"x\n"))
    sys.stdin = open(reader)  # noqa: SIM115
    input()  # here


@kind
def sqlite_locked() -> None:
    with tempfile.TemporaryDirectory() as folder:
        holder = sqlite3.connect(f"{folder}/db", isolation_level=None)
        other = sqlite3.connect(f"{folder}/db", timeout=LONG, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with suppress(sqlite3.OperationalError):
            other.execute("BEGIN EXCLUSIVE")  # here
        other.close()
        holder.close()


@kind
def log_handler() -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nap(LONG)  # here

    slow = logging.getLogger("slow")
    slow.propagate = False
    slow.addHandler(Slow())
    slow.warning("a slow log")


# -- computing: in Python, and in C with and without the GIL


@kind
def python_loop() -> None:
    until = time.thread_time() + BUSY
    sum(1 for _ in iter(lambda: time.thread_time() < until, False))  # here


@kind
def python_generator() -> Steps:
    size = sized(lambda count: sum(n * n for n in range(count)), 10_000)
    yield
    sum(n * n for n in range(size))  # here


@kind
def sum_in_c() -> Steps:
    size = sized(lambda count: sum(range(count)), 100_000)
    yield
    sum(range(size))  # here


@kind
def sort() -> Steps:
    numbers = [n * 7919 % 1_000_003 for n in range(1_000_000)]
    yield
    sorted(numbers)  # here


@kind
def regex() -> Steps:
    size = 12
    while timed(lambda: re.match(r"(a+)+$", "a" * size + "b")) < 0.02:  # noqa: B023  called at once
        size += 1
    text = "a" * (size + 3) + "b"
    yield
    re.match(r"(a+)+$", text)  # here


@kind
def json_loads() -> Steps:
    text = "[" + "1.5," * sized(lambda count: json.loads("[" + "1.5," * count + "0]"), 1000) + "0]"
    yield
    json.loads(text)  # here


@kind
def json_dumps() -> Steps:
    values = [1.5] * sized(lambda count: json.dumps([1.5] * count), 1000)
    yield
    json.dumps(values)  # here


@kind
def pickle_dumps() -> Steps:
    values = [1.5] * sized(lambda count: pickle.dumps([1.5] * count), 1000)
    yield
    pickle.dumps(values)  # here


@kind
def hash_without_gil() -> Steps:
    data = bytes(sized(lambda count: hashlib.sha256(bytes(count)), 100_000))
    yield
    hashlib.sha256(data)  # here


@kind
def compress() -> Steps:
    data = b"abcdefgh" * sized(lambda count: zlib.compress(b"abcdefgh" * count, 9), 10_000)
    yield
    zlib.compress(data, 9)  # here


@kind
def power() -> Steps:
    size = sized(lambda count: pow(3, count), 10_000)
    yield
    pow(3, size)  # here


@kind
def call_that_keeps_the_gil() -> None:
    library = ctypes.PyDLL(None)
    library.usleep(int(LONG * 1e6))  # here


# -- running them


async def one(name: str) -> dict[str, object]:
    """What is reported when one of them runs in a task."""
    seen: list[watch.Stall] = []
    function = KINDS[name]
    remove = watch.on_stall(seen.append)
    lines, first = inspect.getsourcelines(function)
    (expected,) = (first + index for index, text in enumerate(lines) if "# here" in text)
    start = time.monotonic()
    await asyncio.create_task(in_task(function), name=name)
    took = time.monotonic() - start
    await asyncio.sleep(0.005)
    remove()
    stalls = [{"line": s.lineno, "call": s.call, "kernel": s.kernel, "cure": s.cure, "text": str(s)} for s in seen]
    kinds = [(s.kind.name, s.seconds, s.task, s.filename) for s in seen]
    return {"name": name, "expected": expected, "took": took, "stalls": stalls, "kinds": kinds}


async def in_task(function: Function) -> None:
    """The task."""
    steps = function()
    if steps is not None:
        for _ in steps:
            await asyncio.sleep(0)


async def main(names: list[str]) -> None:
    """All of them, one after another."""
    for name in names:
        print(json.dumps(await one(name)), flush=True)


if __name__ == "__main__":
    logging.getLogger("weft.watch").addHandler(logging.NullHandler())
    logging.getLogger("weft.watch").propagate = False
    weft.run(main(sys.argv[1:]), stall_threshold=THRESHOLD)
