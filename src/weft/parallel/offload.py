"""One call elsewhere: ``to_thread``, ``to_process``, ``to_interpreter``.

Owns, per loop, the worker processes and the interpreters that such calls use: made when first needed, given back when
the loop shuts down its async generators (``asyncio.run`` and ``weft.run`` do), as one of those keeps them. Invariant: a
call that was cancelled is over when its ``await`` is, unless it was told that it may be abandoned.
"""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from weft.errors import NotPicklableError, WorkerError
from weft.parallel.crew import GRACE, Worker, end_all, setup_of
from weft.parallel.executors import interpreter_pool
from weft.parallel.jobs import Job
from weft.parallel.local import is_async
from weft.parallel.processes import usable_cores
from weft.parallel.shipping import check_may_start, dumps, pack, portable
from weft.parallel.wire import Frame, Kind

__all__ = ["to_interpreter", "to_process", "to_thread"]

P = ParamSpec("P")
R = TypeVar("R")

Limit = int | asyncio.Semaphore | None


async def to_thread(
    func: Callable[..., R], /, *args: Any, limit: Limit = None, abandon: bool = False, **kwargs: Any
) -> R:
    """Call ``func(*args, **kwargs)`` in a thread of the loop's default executor, with the caller's context variables.

    A call that a thread has begun cannot be stopped. When the ``await`` is cancelled, one that has not begun never
    does; one that has is waited for, and then ``CancelledError`` is raised. Cancelled twice, it is abandoned.

    Args:
        func: a plain function.
        args: its arguments; ``kwargs`` likewise.
        limit: how many calls with the same function and the same number may be under way on this loop; or a semaphore,
            which other calls may share. The others wait, in order. An abandoned call counts until it ends.
        abandon: do not wait for it when cancelled: it goes on, unheard, as with ``asyncio.to_thread``.

    Raises:
        TypeError: ``func`` is async.
        Exception: what ``func`` raises.
    """
    _check_plain(func, "to_thread")
    call = _Claim(partial(contextvars.copy_context().run, func, *args, **kwargs))
    loop = asyncio.get_running_loop()
    async with _limited("thread", func, limit) as keep:
        return await _hear(loop.run_in_executor(None, call), call, abandon, keep)


async def to_process(func: Callable[..., R], /, *args: Any, limit: Limit = None, **kwargs: Any) -> R:
    """Call ``func(*args, **kwargs)`` in a worker process of this loop, of which there are as many as cores.

    When the ``await`` is cancelled the process is killed, and replaced when the next call needs one. Context variables
    stay here. An async function runs on a weft loop there.

    Args:
        func: what both processes can import; with cloudpickle (``weft[cluster]``) also lambdas and closures.
        args: its arguments; ``kwargs`` likewise. They are pickled, and so is the result.
        limit: as for :func:`to_thread`.

    Raises:
        NotPicklableError: function, arguments or result cannot be sent.
        WorkerError: the process died. The call is not repeated.
        Exception: what ``func`` raises, with its traceback as a note.
    """
    check_may_start()
    parcel = pack(func)
    try:
        arguments = dumps((args, kwargs), by_value=parcel.by_value)
    except Exception as exc:
        raise NotPicklableError(f"the arguments of {func!r} cannot be sent to another process: {exc}") from exc
    crew = await _crew()
    async with _limited("process", func, limit), crew.places:
        good, payload = await crew.call((parcel.payload, parcel.by_value, arguments))
    value = pickle.loads(payload)
    if good:
        result: R = value
        return result
    raise value


async def to_interpreter(
    func: Callable[..., R], /, *args: Any, limit: Limit = None, abandon: bool = False, **kwargs: Any
) -> R:
    """Call ``func(*args, **kwargs)`` in a subinterpreter with a lock of its own, of which there are as many as cores.

    It is in this process, so it is cheaper to start than another; ``func``, its arguments and its result are pickled,
    and all that ``func`` imports has to support subinterpreters (weft does not). Cancelled as :func:`to_thread`.

    Raises:
        WorkerError: before Python 3.14.
        TypeError: ``func`` is async.
        Exception: what ``func`` raises.
    """
    _check_plain(func, "to_interpreter")
    crew = await _crew()
    call = partial(func, *args, **kwargs) if kwargs else func
    async with _limited("interpreter", func, limit) as keep:
        future = asyncio.get_running_loop().run_in_executor(crew.interpreters(), call, *(() if kwargs else args))
        return await _hear(future, None, abandon, keep)


def _check_plain(func: Callable[..., Any], name: str) -> None:
    if is_async(func):
        raise TypeError(f"weft.{name}() calls plain functions, and {func!r} is async: await it on this loop")


# -- cancelling what cannot be stopped


class _Claim:
    """A call that is either begun, by a thread, or given up, by whoever waits for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._claimed = threading.Lock()

    def __call__(self) -> Any:
        return self._call() if self._claimed.acquire(blocking=False) else None

    def give_up(self) -> bool:
        """Whether it has not begun; then it never will."""
        return self._claimed.acquire(blocking=False)


async def _hear(future: asyncio.Future[R], claim: _Claim | None, abandon: bool, keep: Callable[[Any], None]) -> R:
    """The result; ``keep`` is told what to wait for where the call goes on without us."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if future.done():
            raise
        if claim is not None and claim.give_up():
            future.cancel()
            raise
        if not abandon:
            with suppress(asyncio.CancelledError):  # the second: whoever insists does not wait
                await asyncio.wait([future])
        if not future.done():
            keep(future)
        future.add_done_callback(_forget)
        raise


def _forget(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody waits for it


# -- limits

_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, tuple[asyncio.Semaphore, int]]] = WeakKeyDictionary()


@asynccontextmanager
async def _limited(kind: str, func: Any, limit: Limit) -> AsyncIterator[Callable[[Any], None]]:
    """Holds a place within the limit; as long as a future is not done, where it is told to ``keep`` it for that."""
    if isinstance(limit, int) and limit < 1:
        raise ValueError(f"weft.to_{kind}(): {limit=} has to be 1 or more")
    loop = asyncio.get_running_loop()
    gates = _gates.setdefault(loop, {})
    key = (kind, _identity(func), limit)
    if isinstance(limit, int):
        gate, users = gates.get(key) or (asyncio.Semaphore(limit), 0)
        gates[key] = gate, users + 1
    else:
        gate = limit or asyncio.Semaphore()

    def leave(_: Any = None) -> None:
        gate.release()
        forget()

    def forget() -> None:
        if isinstance(limit, int):
            users = gates[key][1] - 1
            if users:
                gates[key] = gate, users
            else:
                del gates[key]

    try:
        await gate.acquire()
    except BaseException:
        forget()
        raise
    kept: list[Any] = []
    try:
        yield kept.append
    finally:
        if kept:
            kept[0].add_done_callback(leave)
        else:
            leave()


def _identity(func: Any) -> Any:
    try:
        hash(func)
    except TypeError:
        return id(func)
    return func


# -- processes and interpreters of a loop


class _Crew:
    """What one loop has for these calls."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(usable_cores())
        self._setup = setup_of(pack(_call), 1)
        self._idle: list[Worker] = []
        self._busy: dict[Worker, asyncio.Future[tuple[bool, bytes]]] = {}
        self._all: set[Worker] = set()
        self._interpreters: Executor | None = None
        self.keeper: AsyncGenerator[None, None] | None = None

    def interpreters(self) -> Executor:
        """The pool of interpreters."""
        if self._interpreters is None:
            self._interpreters = interpreter_pool(usable_cores())
        return self._interpreters

    async def call(self, job: tuple[bytes, bool, bytes]) -> tuple[bool, bytes]:
        """Has a worker make a call, and kills it when cancelled."""
        self._idle = [worker for worker in self._idle if worker.ready]
        worker = self._idle.pop() if self._idle else Worker(self._setup, 1, self._on_frame, _nothing, self._on_end)
        heard: asyncio.Future[tuple[bool, bytes]] = asyncio.get_running_loop().create_future()
        self._busy[worker] = heard
        try:
            if worker not in self._all:
                self._all.add(worker)
                await worker.start()
            worker.send(Kind.JOBS, dumps([job], by_value=False), [Job(0, None)])
            answer = await heard
        except BaseException as exc:
            worker.kill()
            await _until(end_all([worker], 0.0))
            if isinstance(exc, OSError):
                raise WorkerError(f"a worker process cannot be started: {exc.strerror or exc}") from exc
            raise
        finally:
            self._busy.pop(worker, None)
        self._idle.append(worker)
        return answer

    async def close(self) -> None:
        """Ends all."""
        for worker in list(self._all):
            if worker in self._busy:
                worker.kill()
            worker.release()
        await end_all(list(self._all), GRACE)
        if self._interpreters is not None:
            await asyncio.to_thread(self._interpreters.shutdown, cancel_futures=True)

    def _on_frame(self, worker: Worker, frame: Frame) -> None:
        heard = self._busy.get(worker)
        if heard is None or heard.done():
            return
        worker.jobs.clear()
        if frame.kind == Kind.RESULTS:
            ((good, value),) = pickle.loads(frame.payload)
            if good:
                heard.set_result(value)
            else:
                heard.set_exception(value)
        elif frame.kind in (Kind.BROKEN, Kind.UNREADABLE):
            heard.set_exception(pickle.loads(frame.payload))

    def _on_end(self, worker: Worker) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        heard = self._busy.get(worker)
        if heard is not None and not heard.done():
            heard.set_exception(WorkerError(f"the worker process died {worker.fate} before the call was over"))
            if worker.killed:
                heard.exception()  # by us: whoever waited has been cancelled


def _nothing() -> None:
    """A worker can take more: nobody waits for that here."""


_crews: WeakKeyDictionary[asyncio.AbstractEventLoop, _Crew] = WeakKeyDictionary()


async def _crew() -> _Crew:
    """That of the running loop."""
    loop = asyncio.get_running_loop()
    crew = _crews.get(loop)
    if crew is None:
        crew = _crews[loop] = _Crew()
        crew.keeper = _keep(loop, crew)
        await anext(crew.keeper)
    return crew


async def _keep(loop: asyncio.AbstractEventLoop, crew: _Crew) -> AsyncGenerator[None, None]:
    """Closes a crew when the loop closes its async generators."""
    try:
        yield
    finally:
        _crews.pop(loop, None)
        await crew.close()


async def _until(end: Awaitable[None]) -> None:
    """Waits for an end that is near, even when cancelled again."""
    task = asyncio.ensure_future(end)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])


def _call(job: tuple[bytes, bool, bytes]) -> tuple[bool, bytes]:
    """In the worker: makes the call."""
    function, by_value, arguments = job
    try:
        func = pickle.loads(function)
        args, kwargs = pickle.loads(arguments)
        value = _run(func(*args, **kwargs)) if is_async(func) else func(*args, **kwargs)
    except BaseException as exc:
        return False, dumps(portable(exc, by_value=by_value), by_value=by_value)
    try:
        return True, dumps(value, by_value=by_value)
    except Exception as exc:
        error = NotPicklableError(f"the result, a {type(value).__name__}, cannot be sent back: {exc}")
        return False, dumps(error, by_value=False)


def _run(coroutine: Any) -> Any:
    from weft.runner import run

    return run(coroutine)
