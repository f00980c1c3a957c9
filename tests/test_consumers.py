"""``@weft.consumer``: generators that are fed, primed by themselves, closed with their producers, chained."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

import pytest

import weft
from weft.errors import ConsumerEndedError, ConsumerError


@weft.consumer
def collect(into: list[Any]) -> Generator[int, Any, str]:
    """Append each item; answers with how many there are, and returns a word."""
    try:
        while True:
            into.append((yield len(into)))
    except GeneratorExit:
        into.append("closed")
        return "result"


@weft.consumer
def double(*targets: Any, **named: Any) -> Generator[None, int, None]:
    while True:
        item = yield
        for target in (*targets, *named.values()):
            target.send(2 * item)


@weft.consumer
def only(count: int) -> Generator[int, int, int]:
    total = 0
    for _ in range(count):
        total += yield total
    return total


@weft.consumer
async def store(into: list[Any], gate: asyncio.Event | None = None) -> AsyncGenerator[int, Any]:
    try:
        while True:
            item = yield len(into)
            if gate is not None:
                await gate.wait()
                gate.clear()
            await asyncio.sleep(0)
            into.append(item)
    finally:
        await asyncio.sleep(0)
        into.append("closed")


@weft.consumer
async def relay(target: Any) -> AsyncGenerator[None, Any]:
    while True:
        item = yield
        if isinstance(target, weft.AsyncConsumer):
            await target.send(item)
        else:
            target.send(item)


async def numbers(count: int, log: list[str] | None = None) -> AsyncIterator[int]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield number
    finally:
        if log is not None:
            log.append("producer closed")


class TestPlain:
    def test_is_primed_and_answers(self) -> None:
        items: list[Any] = []
        consumer = collect(items)
        assert [consumer.send(item) for item in "abc"] == [1, 2, 3]
        assert not consumer.ended
        assert repr(consumer) == "<Consumer collect() open>"
        assert consumer.close() == "result"
        assert items == ["a", "b", "c", "closed"]
        assert consumer.ended
        assert consumer.result == "result"
        assert repr(consumer) == "<Consumer collect() ended>"

    def test_close_again(self) -> None:
        items: list[Any] = []
        consumer = collect(items)
        assert consumer.close() == consumer.close() == "result"
        assert items == ["closed"]

    def test_as_a_context_manager(self) -> None:
        items: list[Any] = []
        with pytest.raises(LookupError), collect(items) as consumer:
            consumer.send(1)
            raise LookupError
        assert items == [1, "closed"]

    def test_returning(self) -> None:
        consumer = only(2)
        assert consumer.send(1) == 1
        assert consumer.send(2) is None
        assert (consumer.ended, consumer.result) == (True, 3)
        assert consumer.close() == 3

    def test_after_its_end(self) -> None:
        consumer = only(1)
        consumer.send(1)
        with pytest.raises(ConsumerEndedError, match=r"<Consumer only\(\) ended> takes no more items"):
            consumer.send(2)

    def test_failing(self) -> None:
        @weft.consumer
        def failing() -> Generator[None, Any, None]:
            raise LookupError((yield))

        consumer = failing()
        with pytest.raises(LookupError, match="item"):
            consumer.send("item")
        assert consumer.ended
        assert consumer.close() is None

    def test_before_its_first_yield(self) -> None:
        items: list[Any] = []

        @weft.consumer
        def empty() -> Generator[None, Any, None]:
            if items:
                yield

        @weft.consumer
        def broken() -> Generator[None, Any, None]:
            raise LookupError("early")
            yield

        with pytest.raises(ConsumerError, match=r"empty\(\) returned before its first `yield`"):
            empty()
        with pytest.raises(LookupError, match="early"):
            broken()

    def test_that_will_not_close(self) -> None:
        @weft.consumer
        def stubborn() -> Generator[None, Any, None]:
            for _ in range(2):
                with contextlib.suppress(GeneratorExit):
                    yield

        consumer = stubborn()
        with pytest.raises(ConsumerError, match="yielded after close"):
            consumer.close()
        consumer.close()
        assert consumer.ended

    def test_from_inside_its_own_body(self) -> None:
        @weft.consumer
        def loops() -> Generator[None, Any, None]:
            while True:
                use = yield
                use()

        for call in ("send", "close"):
            consumer: Any = loops()
            with pytest.raises(ConsumerError, match="is used from inside its own body"):
                consumer.send(functools.partial(getattr(consumer, call), *([None] if call == "send" else [])))

    def test_dropped(self) -> None:
        items: list[Any] = []
        double(collect(items)).send(1)
        gc.collect()
        assert items == [2, "closed"]


class TestFeeding:
    def test_all_of_it(self) -> None:
        items: list[Any] = []
        assert collect(items).feed(range(3)) == "result"
        assert items == [0, 1, 2, "closed"]

    def test_until_the_consumer_ends(self) -> None:
        closed: list[str] = []

        def produce() -> Iterator[int]:
            try:
                yield from range(100)
            finally:
                closed.append("producer")

        assert only(3).feed(produce()) == 3
        assert closed == ["producer"]

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_producer_that_fails(self, loop: asyncio.AbstractEventLoop, asynchronous: bool) -> None:
        items: list[Any] = []

        def produce() -> Iterator[int]:
            yield 1
            raise LookupError

        async def aproduce() -> AsyncIterator[int]:
            yield 1
            raise LookupError

        with pytest.raises(LookupError):
            if asynchronous:
                loop.run_until_complete(collect(items).afeed(aproduce()))
            else:
                collect(items).feed(produce())
        assert items == [1, "closed"]

    def test_from_an_async_producer(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []
        log: list[str] = []
        assert loop.run_until_complete(collect(items).afeed(numbers(3))) == "result"
        assert loop.run_until_complete(collect(items).afeed(range(2))) == "result"
        assert items == [0, 1, 2, "closed", 0, 1, "closed"]
        assert loop.run_until_complete(only(2).afeed(numbers(100, log))) == 1
        assert log == ["producer closed"]

    def test_the_wrong_kind(self) -> None:
        with pytest.raises(TypeError, match="use `await consumer.afeed"):
            collect([]).feed(numbers(1))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not iterable"):
            collect([]).feed(42)  # type: ignore[arg-type]


class TestChains:
    @pytest.mark.parametrize("how", ["argument", "keyword", "list", "dict"])
    def test_close_from_head_to_tail(self, how: str) -> None:
        items: list[Any] = []

        @weft.consumer
        def stage(given: Any) -> Generator[None, int, None]:
            target = {"list": lambda: given[0], "dict": lambda: given["x"]}.get(how, lambda: given)()
            while True:
                target.send((yield))

        tail = collect(items)
        given: Any = {"list": [tail], "dict": {"x": tail}}.get(how, tail)
        head = stage(given=given) if how == "keyword" else stage(given)
        head.feed(range(2))
        assert items == [0, 1, "closed"]
        assert tail.result == "result"

    def test_three_stages(self) -> None:
        items: list[Any] = []
        double(double(collect(items))).feed([1, 2])
        assert items == [4, 8, "closed"]

    def test_a_stage_with_two_producers(self) -> None:
        items: list[Any] = []
        tail = collect(items)
        first, second = double(tail), double(tail)
        first.feed([1])
        assert not tail.ended
        second.feed([2])
        assert items == [2, 4, "closed"]

    def test_one_that_fails_closes_those_below_and_above(self) -> None:
        items: list[Any] = []

        @weft.consumer
        def checked(target: Any) -> Generator[None, int, None]:
            while True:
                item = yield
                if item > 4:
                    raise LookupError(item)
                target.send(item)

        head = double(checked(collect(items)))
        with pytest.raises(LookupError, match="6"):
            head.feed([1, 2, 3, 4])
        assert head.ended
        assert items == [2, 4, "closed"]

    def test_a_plain_stage_cannot_wait(self) -> None:
        with pytest.raises(TypeError, match=r"double\(\) is not async, so it cannot wait for <AsyncConsumer store"):
            double(store([]))


class TestAsync:
    def test_back_pressure(self, loop: asyncio.AbstractEventLoop) -> None:
        """No item is produced before the slowest stage asks for it."""
        items: list[Any] = []
        produced: list[int] = []

        def produce() -> Iterator[int]:
            for number in range(3):
                produced.append(number)
                yield number

        async def main() -> None:
            gate = asyncio.Event()
            feeding = asyncio.ensure_future(relay(store(items, gate)).feed(produce()))
            for number in range(3):
                for _ in range(10):
                    await asyncio.sleep(0)
                assert (len(produced), len(items)) == (number + 1, number)
                gate.set()
            await feeding

        loop.run_until_complete(main())
        assert items == [0, 1, 2, "closed"]

    def test_answers(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []

        async def main() -> None:
            async with store(items) as consumer:
                assert await consumer.send("a") == 1
                assert await consumer.send("b") == 2
                assert repr(consumer) == "<AsyncConsumer store() open>"
            assert consumer.ended
            await consumer.aclose()
            with pytest.raises(ConsumerEndedError, match=r"<AsyncConsumer store\(\) ended> takes no more items"):
                await consumer.send("c")

        loop.run_until_complete(main())
        assert items == ["a", "b", "closed"]

    def test_from_async_and_plain_producers(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []
        log: list[str] = []
        loop.run_until_complete(store(items).feed(numbers(2, log)))
        loop.run_until_complete(store(items).feed(iter("ab")))
        assert items == [0, 1, "closed", "a", "b", "closed"]
        assert log == ["producer closed"]
        with pytest.raises(TypeError, match="not iterable"):
            loop.run_until_complete(store([]).feed(42))  # type: ignore[arg-type]

    def test_many_producers_take_turns(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []

        async def main() -> None:
            async with store(items) as consumer:
                await asyncio.gather(*(consumer.send(number) for number in range(5)))

        loop.run_until_complete(main())
        assert items == [0, 1, 2, 3, 4, "closed"]

    def test_an_async_stage_over_a_plain_one(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []
        loop.run_until_complete(relay(collect(items)).feed(numbers(2)))
        assert items == [0, 1, "closed"]

    def test_ends_by_itself(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []
        log: list[str] = []

        @weft.consumer
        async def two(target: Any) -> AsyncGenerator[None, Any]:
            for _ in range(2):
                await target.send((yield))

        loop.run_until_complete(two(store(items)).feed(numbers(100, log)))
        assert items == [0, 1, "closed"]
        assert log == ["producer closed"]

    def test_fails(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []

        @weft.consumer
        async def failing(target: Any) -> AsyncGenerator[None, Any]:
            raise LookupError((yield))

        with pytest.raises(LookupError, match="0"):
            loop.run_until_complete(failing(store(items)).feed(numbers(2)))
        assert items == []  # it was never sent anything, so its body never began

    def test_cancelled_while_it_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []

        async def main() -> None:
            consumer = store(items, asyncio.Event())
            feeding = asyncio.ensure_future(consumer.feed(numbers(5)))
            for _ in range(10):
                await asyncio.sleep(0)
            feeding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await feeding
            assert consumer.ended

        loop.run_until_complete(main())
        assert items == ["closed"]

    def test_before_its_first_yield(self, loop: asyncio.AbstractEventLoop) -> None:
        items: list[Any] = []

        @weft.consumer
        async def empty() -> AsyncGenerator[None, Any]:
            if items:
                yield

        with pytest.raises(ConsumerError, match=r"empty\(\) returned before its first `yield`"):
            loop.run_until_complete(empty().send(1))

    def test_from_inside_its_own_body(self, loop: asyncio.AbstractEventLoop) -> None:
        @weft.consumer
        async def loops() -> AsyncGenerator[None, Any]:
            while True:
                await consumer.send((yield))

        consumer: Any = loops()
        with pytest.raises(ConsumerError, match="from inside its own body"):
            loop.run_until_complete(consumer.send(1))


class TestDecorating:
    @pytest.mark.parametrize("thing", [None, 42, print, lambda: None, numbers(0), iter(())])
    def test_what_is_no_generator_function(self, thing: Any) -> None:
        with pytest.raises(TypeError, match="takes a generator function, not .* by `item = yield`"):
            weft.consumer(thing)

    def test_keeps_name_and_docstring(self) -> None:
        assert collect.__name__ == "collect"
        assert (collect.__doc__ or "").startswith("Append each item")
