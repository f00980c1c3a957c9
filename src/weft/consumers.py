"""Generators that are fed: ``@weft.consumer``.

A generator that takes values by ``item = yield`` is a coroutine in the oldest sense, and has four traps: it must be
primed before the first ``send``, nobody closes it, it answers ``StopIteration`` once it has ended, and one that has to
wait cannot. ``Consumer`` (around a generator) and ``AsyncConsumer`` (around an async generator) remove them.

The invariant: a consumer goes through three states and never back, OPEN, RUNNING (in its body) or waiting for items,
ENDED; and whatever ends it, the consumers that it was given as arguments lose a producer, so that a chain closes from
its head to its tail, each stage once its last producer has gone.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    closing,
    nullcontext,
)
from typing import Any, Generic, ParamSpec, TypeVar, overload

from weft.errors import ConsumerEndedError, ConsumerError

__all__ = ["AsyncConsumer", "Consumer", "consumer"]

HOW_ITEMS_COME = "a consumer takes its items by `item = yield`"

_P = ParamSpec("_P")
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_Result = TypeVar("_Result")


@overload
def consumer(
    function: Callable[_P, Generator[_Answer, _Item, _Result]],
) -> Callable[_P, Consumer[_Item, _Answer, _Result]]: ...
@overload
def consumer(function: Callable[_P, AsyncGenerator[_Answer, _Item]]) -> Callable[_P, AsyncConsumer[_Item, _Answer]]: ...
def consumer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a generator function that takes items by ``item = yield`` safe to use.

    Called, it gives a :class:`Consumer` that is ready for its first item::

        @weft.consumer
        def matching(pattern, target):
            while True:
                line = yield
                if pattern in line:
                    target.send(line)


        matching("error", printer()).feed(open("log"))

    A consumer that is given to another as an argument (``target``) is a stage below it, and is closed with it. An
    ``async def`` with a bare ``yield`` gives an :class:`AsyncConsumer`, whose ``await consumer.send(item)`` goes on
    when the stage asks for the next item: whoever feeds it waits for the slowest stage.

    Args:
        function: a generator function or an async generator function.

    Raises:
        TypeError: when ``function`` is neither; when it is called with an ``AsyncConsumer`` and is not async itself.

    Source: PEP 342 (coroutines via enhanced generators), PEP 525 (asynchronous generators).
    """
    kind: type[Consumer[Any, Any, Any] | AsyncConsumer[Any, Any]]
    if inspect.isgeneratorfunction(function):
        kind = Consumer
    elif inspect.isasyncgenfunction(function):
        kind = AsyncConsumer
    else:
        raise TypeError(f"weft.consumer() takes a generator function, not {function!r}; {HOW_ITEMS_COME}")

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        targets = list(_consumers_in([*args, *kwargs.values()]))
        if kind is Consumer and any(isinstance(target, AsyncConsumer) for target in targets):
            raise TypeError(
                f"{function.__qualname__}() is not async, so it cannot wait for {targets[0]!r}; make it `async def`, "
                "and `await target.send(item)`"
            )
        return kind(function(*args, **kwargs), function.__qualname__, targets)

    return make


def _consumers_in(values: Iterable[Any]) -> Iterator[_Stage]:
    """The consumers among the arguments, and in lists, tuples, sets and dicts that are arguments."""
    for value in values:
        if isinstance(value, _Stage):
            yield value
        elif isinstance(value, (list, tuple, set, frozenset)):
            yield from (each for each in value if isinstance(each, _Stage))
        elif isinstance(value, dict):
            yield from (each for each in value.values() if isinstance(each, _Stage))


def _closing(producer: Iterable[Any]) -> AbstractContextManager[object]:
    if inspect.isgenerator(producer):
        return closing(producer)
    return nullcontext()


def _aclosing(producer: AsyncIterable[Any]) -> AbstractAsyncContextManager[object]:
    if inspect.isasyncgen(producer):
        return aclosing(producer)
    return nullcontext()


class _Stage:
    """What both kinds share: a name, a state, and the stages below."""

    def __init__(self, generator: Any, name: str, targets: list[_Stage]) -> None:
        self._generator = generator
        self._name = name
        self._targets = targets
        self._producers = 0
        self._has_ended = False
        for target in targets:
            target._producers += 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}() {'ended' if self._has_ended else 'open'}>"

    @property
    def ended(self) -> bool:
        """Whether it takes no more items: it returned, failed or was closed."""
        return self._has_ended

    def _check(self) -> None:
        if self._has_ended:
            raise ConsumerEndedError(f"{self!r} takes no more items")

    def _leave_targets(self) -> list[_Stage]:
        """End; returns the stages below that have lost their last producer by it."""
        if self._has_ended:
            return []
        self._has_ended = True
        orphans = []
        for target in self._targets:
            target._producers -= 1
            if target._producers == 0:
                orphans.append(target)
        return orphans


class Consumer(_Stage, Generic[_Item, _Answer, _Result]):
    """A generator that takes items; made by a function decorated with :func:`consumer`, and primed.

    As a context manager it is closed at the end of the block.
    """

    _generator: Generator[_Answer, _Item, _Result]

    def __init__(self, generator: Generator[_Answer, _Item, _Result], name: str, targets: list[_Stage]) -> None:
        super().__init__(generator, name, targets)
        self._result: _Result | None = None
        self._is_inside = False
        self._advance(lambda: next(generator))
        if self._has_ended:
            raise ConsumerError(f"{name}() returned before its first `yield`; {HOW_ITEMS_COME}")

    @property
    def result(self) -> _Result | None:
        """What the generator returned, once it has; None until then, or if it failed."""
        return self._result

    def send(self, item: _Item) -> _Answer | None:
        """Hand it an item, and run it to its next ``yield``.

        Returns:
            What it yields there; None when it returned instead.

        Raises:
            ConsumerEndedError: it has ended before.
            ConsumerError: it is in its own body now: it, or a stage below, sends to it.
            Exception: what its body raises, which ends it.
        """
        self._check()
        return self._advance(lambda: self._generator.send(item))

    def feed(self, producer: Iterable[_Item]) -> _Result | None:
        """Send it all that ``producer`` gives, until either ends, then close both.

        Returns:
            What the generator returned.

        Raises:
            TypeError: ``producer`` is not iterable; for an async one there is :meth:`afeed`.
            Exception: what ``producer`` or the generator raises.
        """
        if isinstance(producer, AsyncIterable):
            raise TypeError(f"feed() cannot iterate over the async {producer!r}; use `await consumer.afeed(producer)`")
        with self, _closing(producer):
            for item in producer:
                self.send(item)
                if self._has_ended:
                    break
        return self._result

    async def afeed(self, producer: AsyncIterable[_Item] | Iterable[_Item]) -> _Result | None:
        """As :meth:`feed`, from an async iterable (or a plain one)."""
        if not isinstance(producer, AsyncIterable):
            return self.feed(producer)
        with self:
            async with _aclosing(producer):
                async for item in producer:
                    self.send(item)
                    if self._has_ended:
                        break
        return self._result

    def close(self) -> _Result | None:
        """End it: GeneratorExit is raised at its ``yield``; then close the stages below that nobody feeds any more.

        Returns:
            What the generator returned, now or before.

        Raises:
            ConsumerError: it yielded again instead of ending, or is in its own body now.
        """
        if not self._has_ended:
            try:
                self._advance(lambda: self._generator.throw(GeneratorExit))
            except GeneratorExit:
                pass
            else:
                if not self._has_ended:
                    raise ConsumerError(f"{self!r} yielded after close(): let GeneratorExit end it")
        return self._result

    def __enter__(self) -> Consumer[_Item, _Answer, _Result]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _advance(self, step: Callable[[], _Answer]) -> _Answer | None:
        if self._is_inside:
            raise ConsumerError(f"{self!r} is used from inside its own body")
        self._is_inside = True
        try:
            return step()
        except StopIteration as end:
            self._result = end.value
        except BaseException:
            self._close_below()
            raise
        finally:
            self._is_inside = False
        self._close_below()
        return None

    def _close_below(self) -> None:
        for target in self._leave_targets():
            assert isinstance(target, Consumer)  # consumer() has seen to that
            target.close()


class AsyncConsumer(_Stage, Generic[_Item, _Answer]):
    """An async generator that takes items; made by a function decorated with :func:`consumer`.

    It is primed when its first item comes. As an async context manager it is closed at the end of the block.
    """

    _generator: AsyncGenerator[_Answer, _Item]

    def __init__(self, generator: AsyncGenerator[_Answer, _Item], name: str, targets: list[_Stage]) -> None:
        super().__init__(generator, name, targets)
        self._is_primed = False
        self._turn = asyncio.Lock()
        self._inside: asyncio.Task[Any] | None = None  # the task that holds the turn

    async def send(self, item: _Item) -> _Answer | None:
        """Hand it an item, and wait until it asks for the next one: this is the back-pressure.

        Several producers may send at a time; each waits for its turn, in order.

        Returns:
            What it yields; None when it returned instead.

        Raises:
            ConsumerEndedError: it has ended before.
            ConsumerError: it is in its own body now: it, or a stage below, sends to it.
            Exception: what its body raises, which ends it.
        """
        self._check()
        async with self._taking_turn():
            self._check()
            if not self._is_primed:
                self._is_primed = True
                await self._advance(anext(self._generator))
                if self._has_ended:
                    raise ConsumerError(f"{self._name}() returned before its first `yield`; {HOW_ITEMS_COME}")
            return await self._advance(self._generator.asend(item))

    async def feed(self, producer: AsyncIterable[_Item] | Iterable[_Item]) -> None:
        """Send it all that ``producer`` (plain or async) gives, until either ends, then close both.

        Raises:
            TypeError: ``producer`` is neither iterable nor async iterable.
            Exception: what ``producer`` or the generator raises.
        """
        async with self:
            if isinstance(producer, AsyncIterable):
                async with _aclosing(producer):
                    async for item in producer:
                        await self.send(item)
                        if self._has_ended:
                            break
                return
            with _closing(producer):
                for item in producer:
                    await self.send(item)
                    if self._has_ended:
                        break

    async def aclose(self) -> None:
        """End it: GeneratorExit is raised at its ``yield``; then close the stages below that nobody feeds any more.

        Whoever is in the middle of a :meth:`send` is waited for.
        """
        async with self._taking_turn():
            if not self._has_ended:
                try:
                    await self._generator.aclose()
                finally:
                    await self._close_below()

    async def __aenter__(self) -> AsyncConsumer[_Item, _Answer]:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _taking_turn(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        if task is not None and self._inside is task:
            raise ConsumerError(f"{self!r} is used from inside its own body")
        async with self._turn:
            self._inside = task
            try:
                yield
            finally:
                self._inside = None

    async def _advance(self, step: Any) -> _Answer | None:
        try:
            answer: _Answer = await step
        except StopAsyncIteration:
            await self._close_below()
            return None
        except BaseException:
            await self._close_below()
            raise
        return answer

    async def _close_below(self) -> None:
        for target in self._leave_targets():
            if isinstance(target, AsyncConsumer):
                await target.aclose()
            elif isinstance(target, Consumer):
                target.close()
