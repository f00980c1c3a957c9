"""What the tests of ``weft.map`` call in other processes: functions that both sides can import."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any


def square(number: int) -> int:
    return number * number


async def square_soon(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


def returns_coroutine(number: int) -> Any:
    return square_soon(number)


def fail_on_seven(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


def who(_: Any) -> int:
    time.sleep(0.002)  # long enough that one worker does not do it all
    return os.getpid()


def runs_a_loop(number: int) -> int:
    return asyncio.run(square_soon(number))


def note(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def pids_in(path: str | Path) -> list[int]:
    return [int(line) for line in Path(path).read_text().split()] if Path(path).exists() else []


def exit_on_none(item: tuple[str, int | None]) -> int:
    """Notes its process and ends it when there is no number."""
    path, number = item
    if number is None:
        note(path)
        os._exit(9)
    return number


async def exit_on_none_soon(item: tuple[str, int | None]) -> int:
    await asyncio.sleep(0.001)
    return exit_on_none(item)


def note_and_hang(path: str) -> None:
    note(path)
    time.sleep(60)


async def note_and_wait(path: str) -> None:
    note(path)
    try:
        await asyncio.sleep(60)
    finally:
        note(f"{path}.cleanup")


def killed_the_first_time(item: tuple[str, int]) -> int:
    """Is killed by SIGKILL in the first process that runs number 5."""
    path, number = item
    if number == 5 and not os.path.exists(path):
        note(path)
        os.kill(os.getpid(), signal.SIGKILL)
    return number


class Unpicklable:
    """Does not go through a pipe."""

    def __reduce__(self) -> str:
        raise TypeError("stays where it is")


def unpicklable_result(number: int) -> Any:
    return Unpicklable() if number == 3 else number


class BadError(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def bad_error(number: int) -> None:
    raise BadError("one", "two")


class OnlyHere:
    """An item that can be read by the process that made it alone."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["pid"] != os.getpid():
            raise ValueError("not in this process")
        self.__dict__.update(state)


class Session:
    """A function with something that its items share: entered once per worker."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.open = False

    async def __aenter__(self) -> Session:
        self.open = True
        note(f"{self.path}.entered")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.open = False
        note(f"{self.path}.left")

    async def __call__(self, number: int) -> tuple[bool, int]:
        await asyncio.sleep(0.001)
        return self.open, number


def exits(number: int) -> int:
    raise SystemExit(number)
