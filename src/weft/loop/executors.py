"""The loop's default thread pool and ``run_in_executor``.

Owns the default executor: made at the first call that needs it, given back once, by ``shutdown_default_executor``
(which waits for its threads) or at ``close`` (which does not). A callable runs without the caller's context, as in
asyncio; ``asyncio.to_thread`` is the way to carry it along.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from concurrent.futures import Executor, ThreadPoolExecutor

from weft.errors import ExecutorShutdownError
from weft.loop._host import Host

__all__ = ["Executors"]

_R = TypeVar("_R")
_Ts = TypeVarTuple("_Ts")


class Executors(Host):
    """Mixin: blocking callables on threads."""

    def __init__(self) -> None:
        super().__init__()
        self._default_executor: ThreadPoolExecutor | None = None  # AnyIO reads this name
        self._executor_shutdown_called = False

    def _release(self) -> None:
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        super()._release()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _R], *args: *_Ts) -> asyncio.Future[_R]:
        """Call ``func(*args)`` in ``executor`` (the loop's own thread pool if None).

        Returns:
            A future for what the call returns or raises. Cancelling it stops a call that has not started; one that has
            runs to its end, unheard.

        Raises:
            RuntimeError: The loop is closed, or its default executor was shut down.
            TypeError: In debug mode: ``func`` is a coroutine function or cannot be called.
        """
        self._check_closed()
        if self.get_debug():
            _check_callable(func)
        if executor is None:
            executor = self._get_default_executor()
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def _get_default_executor(self) -> ThreadPoolExecutor:
        if self._executor_shutdown_called:
            raise ExecutorShutdownError
        if self._default_executor is None:
            # asyncio's prefix: log filters and thread dumps of existing programs know it
            self._default_executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
        return self._default_executor

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """Use ``executor`` where ``run_in_executor`` is given None.

        The loop owns it from now on and shuts it down. One that was in use before is not shut down, as in asyncio.

        Raises:
            TypeError: ``executor`` is not a ``concurrent.futures.ThreadPoolExecutor``.
        """
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError(f"executor must be ThreadPoolExecutor instance, got {executor!r}")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Shut the default executor down and wait until its threads have ended.

        Args:
            timeout: Seconds to wait, or None for as long as it takes. After it a ``RuntimeWarning`` is issued and the
                threads are left to end by themselves.

        From this call on ``run_in_executor(None, ...)`` raises ``RuntimeError``.
        """
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        ended = self.create_future()
        # A daemon: a thread that never returns is not to be joined twice, here and at the end of the process.
        waiter = threading.Thread(
            target=self._join_executor, args=(executor, ended), name="weft-executor-shutdown", daemon=True
        )
        waiter.start()
        try:
            async with asyncio.timeout(timeout):
                await ended
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            waiter.join()

    def _join_executor(self, executor: ThreadPoolExecutor, ended: asyncio.Future[None]) -> None:
        """Body of the waiting thread."""
        error: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as exc:  # whatever a subclass of the executor raises belongs to the awaiter
            error = exc
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            self.call_soon_threadsafe(_settle, ended, error)


def _settle(ended: asyncio.Future[None], error: Exception | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)


def _check_callable(func: object) -> None:
    if inspect.iscoroutine(func) or inspect.iscoroutinefunction(func):
        raise TypeError(f"coroutines cannot be used with run_in_executor(): await {func!r} instead")
    if not callable(func):
        raise TypeError(f"a callable object was expected by run_in_executor(), got {func!r}")
