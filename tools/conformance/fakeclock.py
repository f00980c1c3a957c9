"""The fake-time loop of CPython's asyncio tests, built on weft's virtual driver.

CPython's tests move time by a generator: it receives when each timer falls due and answers by how much to advance the
clock. The invariant: the loop never sleeps, and its time is exactly the float sum of what the generator said (the
driver counts whole nanoseconds, so ``time()`` is answered from the float).

Made by ``targets`` in place of ``utils.TestLoop``.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import weakref
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

Times: TypeAlias = Generator[float, float, None]


def _no_times() -> Times:
    yield 0.0


def test_loop_class(loop: type[Any]) -> type[Any]:
    """A class with the interface of CPython's ``utils.TestLoop`` over ``loop``, a class like ``weft.EventLoop``."""
    driver_class = importlib.import_module("weft._core.virtual").VirtualDriver

    class TestLoop(Descriptors, loop):  # type: ignore[misc]
        def __init__(self, gen: Callable[[], Times] | None = None) -> None:
            self._time: float = 0
            self._timers: list[float] = []
            self._check_on_close = gen is not None
            self._gen = (gen or _no_times)()
            next(self._gen)
            self._is_first_turn = True
            self._virtual = driver_class()
            super().__init__(driver=self._virtual)
            self._virtual.on_turn = self._on_turn

        def time(self) -> float:
            return self._time

        def advance_time(self, advance: float) -> None:
            """Moves the fake time forward by ``advance`` seconds."""
            if advance:
                self._time += advance
                self._virtual.now = round(self._time * 1e9)

        # The tests' loop asks after each turn. weft's driver is asked at the start of each, so the first is passed over
        # and the last one is added.

        def _on_turn(self) -> None:
            if not self._is_first_turn:
                self._ask_for_time()
            self._is_first_turn = False

        def run_forever(self) -> None:
            self._is_first_turn = True
            super().run_forever()
            self._ask_for_time()

        def _ask_for_time(self) -> None:
            timers, self._timers = self._timers, []
            for when in timers:
                try:
                    advance = self._gen.send(when)
                except StopIteration:
                    raise AssertionError(f"a timer for {when} that the test did not foresee") from None
                self.advance_time(advance)

        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
            return self.call_at(self.time() + delay, callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
            self._timers.append(when)
            handle: asyncio.TimerHandle = super().call_at(when, callback, *args, context=context)
            return handle

        @property
        def _ready(self) -> range:
            return range(self._ready_count)

        def close(self) -> None:
            super().close()
            if self._check_on_close:
                try:
                    self._gen.send(0)
                except StopIteration:
                    return
                raise AssertionError("Time generator is not finished")

    return TestLoop


def run_once(loop: Any) -> None:
    """One turn, for tests that call the stock loop's ``_run_once()``; as ``utils.run_once()``, by public means."""
    loop.call_soon(loop.stop)
    loop.run_forever()


class Unregistered:
    """A selector that watches nothing; the repr of a stock transport asks the loop's for its state."""

    def get_key(self, fd: int) -> Any:
        raise KeyError(fd)


class Descriptors:
    """The part that records who watches which descriptor instead of watching it, for the tests of stock transports."""

    def __init__(self, **options: Any) -> None:
        self.readers: dict[int, asyncio.Handle] = {}
        self.writers: dict[int, asyncio.Handle] = {}
        self._selector = Unregistered()
        self.reset_counters()
        super().__init__(**options)
        self._transports: Any = weakref.WeakValueDictionary()

    def reset_counters(self) -> None:
        self.remove_reader_count: dict[int, int] = collections.defaultdict(int)
        self.remove_writer_count: dict[int, int] = collections.defaultdict(int)

    def _handle(self, callback: Any, args: tuple[Any, ...], context: Any) -> asyncio.Handle:
        return asyncio.Handle(callback, args, self, context)  # type: ignore[arg-type]

    def _add_reader(self, fd: int, callback: Any, *args: Any, context: Any = None) -> None:
        self.readers[fd] = self._handle(callback, args, context)

    def _add_writer(self, fd: int, callback: Any, *args: Any, context: Any = None) -> None:
        self.writers[fd] = self._handle(callback, args, context)

    def _remove_reader(self, fd: int) -> bool:
        self.remove_reader_count[fd] += 1
        return self.readers.pop(fd, None) is not None

    def _remove_writer(self, fd: int) -> bool:
        self.remove_writer_count[fd] += 1
        return self.writers.pop(fd, None) is not None

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        try:
            number = fd if isinstance(fd, int) else int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
        if number in self._transports:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {self._transports[number]!r}")

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        self._ensure_fd_no_transport(fd)
        self._add_reader(fd, callback, *args)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:
        self._ensure_fd_no_transport(fd)
        self._add_writer(fd, callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        self._ensure_fd_no_transport(fd)
        return self._remove_reader(fd)

    def remove_writer(self, fd: Any) -> bool:
        self._ensure_fd_no_transport(fd)
        return self._remove_writer(fd)

    @staticmethod
    def _check(handles: dict[int, asyncio.Handle], fd: int, callback: Any, args: tuple[Any, ...]) -> None:
        handle: Any = handles.get(fd)
        if handle is None:
            raise AssertionError(f"fd {fd} is not registered")
        if (handle._callback, handle._args) != (callback, args):
            raise AssertionError(f"fd {fd} calls {handle._callback!r}{handle._args!r}, not {callback!r}{args!r}")

    def assert_reader(self, fd: int, callback: Any, *args: Any) -> None:
        self._check(self.readers, fd, callback, args)

    def assert_writer(self, fd: int, callback: Any, *args: Any) -> None:
        self._check(self.writers, fd, callback, args)

    def assert_no_reader(self, fd: int) -> None:
        if fd in self.readers:
            raise AssertionError(f"fd {fd} is registered")
