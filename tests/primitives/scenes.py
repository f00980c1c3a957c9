"""Programs of random steps over one primitive, and what they show: the same with asyncio's primitive and with weft's.

A ``Scene`` starts workers that wait, acts upon the primitive and cancels workers, one step per turn of the loop or
several in one, and writes down who went on, when, and how. The invariant: what is written down says nothing of how a
primitive is made.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Step = tuple[str, int]


class Scene:
    """One run of a program; a subclass has a method for each name of a step."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self.turn_number = 0
        self.trace: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.subject: Any = self.make()

    def make(self) -> Any:
        """The primitive."""
        raise NotImplementedError

    def note(self, *what: object) -> None:
        """Write down what happens, and in which turn."""
        self.trace.append((self.turn_number, *what))

    def spawn(self, what: str, action: Callable[[], Awaitable[object]]) -> None:
        """Start a worker that waits for ``action``."""
        name = f"{what}-{len(self.tasks)}"

        async def worker() -> None:
            try:
                self.note(name, await action())
            except asyncio.CancelledError as error:
                self.note(name, "cancelled", *error.args)
                raise
            except Exception as error:
                self.note(name, type(error).__name__, *error.args)

        self.tasks.append(asyncio.get_running_loop().create_task(worker()))

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Call a method that does not wait."""
        try:
            self.note(what, action())
        except Exception as error:
            self.note(what, type(error).__name__, *error.args)

    def cancel(self, number: int) -> None:
        """Cancel a worker."""
        if self.tasks:
            task = self.tasks[number % len(self.tasks)]
            self.note("cancel", task.cancel(f"no. {number}"))

    def look(self) -> None:
        """Write down how the primitive shows itself."""
        self.note(re.sub(r" at 0x[0-9a-f]+|^<[\w.]+ object", "", repr(self.subject)))

    async def run(self, steps: Sequence[Step]) -> list[Any]:
        """Take the steps; returns what was written down."""
        for name, number in steps:
            if name == "turn":
                self.turn_number += 1
                await asyncio.sleep(0)
            else:
                getattr(self, name)(number)
                self.look()
        for _ in range(4):
            self.turn_number += 1
            await asyncio.sleep(0)
            self.look()
        await self.end()
        return self.trace

    async def end(self) -> None:
        """Cancel all who wait; one who cannot end without a lock gets it, where its holder is gone."""
        for task in self.tasks:
            task.cancel()
        while not all(task.done() for task in self.tasks):
            self.turn_number += 1
            await asyncio.sleep(0)
            if self.turn_number > 100:
                self.give_way()
        self.look()

    def give_way(self) -> None:
        """Free what the workers wait for."""
        raise AssertionError(f"{self.subject!r} keeps {self.tasks}")


class LockScene(Scene):
    """``Lock``."""

    steps: tuple[str, ...] = ("acquire", "hold", "release", "cancel")

    def make(self) -> Any:
        return self.lib.Lock()

    def acquire(self, _: int) -> None:
        self.spawn("acquire", lambda: self.subject.acquire())

    def hold(self, turns: int) -> None:
        async def hold() -> str:
            async with self.subject:
                self.note("inside")
                for _ in range(turns % 3):
                    await asyncio.sleep(0)
            return "outside"

        self.spawn("hold", hold)

    def release(self, _: int) -> None:
        self.attempt("release", self.subject.release)

    def give_way(self) -> None:
        self.release(0)


class SemaphoreScene(LockScene):
    """``Semaphore``."""

    def make(self) -> Any:
        return self.lib.Semaphore(2)


class BoundedSemaphoreScene(LockScene):
    """``BoundedSemaphore``."""

    def make(self) -> Any:
        return self.lib.BoundedSemaphore(2)


class EventScene(Scene):
    """``Event``."""

    steps: tuple[str, ...] = ("wait", "set", "clear", "cancel")

    def make(self) -> Any:
        return self.lib.Event()

    def wait(self, _: int) -> None:
        self.spawn("wait", lambda: self.subject.wait())

    def set(self, _: int) -> None:
        self.subject.set()

    def clear(self, _: int) -> None:
        self.subject.clear()


class ConditionScene(LockScene):
    """``Condition``."""

    steps: tuple[str, ...] = ("wait", "wait", "hold", "acquire", "release", "notify", "notify_all", "cancel")

    def make(self) -> Any:
        return self.lib.Condition()

    def wait(self, _: int) -> None:
        async def wait() -> object:
            async with self.subject:
                self.note("inside")
                try:
                    return await self.subject.wait()
                finally:
                    self.note("locked", self.subject.locked())

        self.spawn("wait", wait)

    def notify(self, count: int) -> None:
        self.attempt("notify", lambda: self.subject.notify(count % 3))

    def notify_all(self, _: int) -> None:
        self.attempt("notify_all", self.subject.notify_all)


class QueueScene(Scene):
    """``Queue``."""

    steps: tuple[str, ...] = ("put", "get", "put_nowait", "get_nowait", "task_done", "join", "cancel")
    name = "Queue"

    def make(self) -> Any:
        return getattr(self.lib, self.name)(2)

    def put(self, item: int) -> None:
        self.spawn("put", lambda: self.subject.put(item))

    def get(self, _: int) -> None:
        self.spawn("get", lambda: self.subject.get())

    def put_nowait(self, item: int) -> None:
        self.attempt("put_nowait", lambda: self.subject.put_nowait(item))

    def get_nowait(self, _: int) -> None:
        self.attempt("get_nowait", self.subject.get_nowait)

    def task_done(self, _: int) -> None:
        self.attempt("task_done", self.subject.task_done)

    def join(self, _: int) -> None:
        self.spawn("join", lambda: self.subject.join())

    def shutdown(self, number: int) -> None:
        """From Python 3.13 on."""
        self.attempt("shutdown", lambda: self.subject.shutdown(immediate=number % 2 == 0))


if hasattr(asyncio.Queue, "shutdown"):
    QueueScene.steps += ("shutdown",)


class LifoQueueScene(QueueScene):
    """``LifoQueue``."""

    name = "LifoQueue"


class PriorityQueueScene(QueueScene):
    """``PriorityQueue``."""

    name = "PriorityQueue"


SCENES: list[Any] = [
    LockScene,
    SemaphoreScene,
    BoundedSemaphoreScene,
    EventScene,
    ConditionScene,
    QueueScene,
    LifoQueueScene,
    PriorityQueueScene,
]
