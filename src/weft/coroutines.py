"""Generators as coroutines: ``@weft.coroutine``.

A coroutine is a function that can stop in the middle and go on later, and a generator is one already: what it lacks is
somebody who resumes it when what it waits for has come. ``coroutine`` adds that, by an ``async def`` around it, which
runs on any asyncio loop. The invariant: what the generator yields is awaited exactly once, and its outcome, value or
exception, goes back into the generator at that ``yield``.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

__all__ = ["coroutine"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def coroutine(function: Callable[_P, Generator[Any, Any, _R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Make a generator function a coroutine function.

    In its body a bare ``yield`` gives way for one turn of the loop, ``value = yield awaitable`` waits for a coroutine,
    future or task, ``yield from awaitable`` does so too, and ``return`` ends with a result. Exceptions of what is
    awaited, and the cancellation of the task, are raised at the ``yield``::

        @weft.coroutine
        def fetch_both(client):
            first = yield client.get("/first")
            yield  # let others run
            second = yield from client.get("/second")
            return first, second


        await fetch_both(client)

    What it makes is an ordinary coroutine function: to be awaited, run as a task, run by :func:`weft.run` or
    ``asyncio.run``.

    Args:
        function: a generator function.

    Raises:
        TypeError: when ``function`` is none. Inside the generator: when it yields what cannot be awaited.

    Source: PEP 342 (coroutines via enhanced generators), PEP 492.
    """
    _check(function)
    # The flag that lets `yield from` take native coroutines (PEP 492); for a generator function it costs nothing.
    resumable = types.coroutine(function)

    @functools.wraps(function)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        generator: Any = resumable(*args, **kwargs)
        resume, given = generator.send, None
        while True:
            try:
                yielded = resume(given)
            except StopIteration as end:
                result: _R = end.value
                return result
            finally:
                given = None  # an exception's traceback leads here: together they would be a cycle
            try:
                resume, given = generator.send, await _awaitable(yielded, function)
            except BaseException as error:
                resume, given = generator.throw, error

    return run


def _check(function: object) -> None:
    if inspect.isgeneratorfunction(function):
        return
    if inspect.iscoroutinefunction(function):
        remedy = "it is a coroutine function already: leave @weft.coroutine out"
    elif inspect.isasyncgenfunction(function):
        remedy = "it is an async generator function: iterate over it by `async for`"
    elif inspect.isgenerator(function):
        remedy = "it is a generator: decorate the function that makes it"
    elif callable(function):
        remedy = "it has no `yield`: write one, or make it `async def`"
    else:
        remedy = "use it as a decorator, without arguments"
    raise TypeError(f"weft.coroutine() takes a generator function, not {function!r}; {remedy}")


def _awaitable(yielded: Any, function: Callable[..., object]) -> Awaitable[Any]:
    """What to await for what the generator has yielded."""
    # A bare `yield`, or what `yield from` brings up from inside an awaitable: these are for the loop.
    if yielded is None or getattr(yielded, "_asyncio_future_blocking", False):
        return _to_loop(yielded)
    if inspect.isawaitable(yielded):
        return yielded
    remedy = "yield an awaitable, or nothing to give way"
    if inspect.isgenerator(yielded):
        remedy = "decorate its function with @weft.coroutine, or use `yield from`"
    elif inspect.iscoroutinefunction(yielded):
        remedy = "call it: it is the function, not the coroutine"
    raise TypeError(f"{function.__qualname__}() yielded {yielded!r}, which cannot be awaited; {remedy}")


@types.coroutine
def _to_loop(yielded: Any) -> Generator[Any, Any, Any]:
    return (yield yielded)
