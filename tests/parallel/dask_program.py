"""What tests/parallel/test_cluster.py runs in a process of its own: ``weft.map`` over a cluster, in many ways.

Arguments: the scheduler's address, and a path for notes. Prints a JSON object with an answer for each question. Dask
keeps threads for as long as a process lives, and takes seconds to import: hence one process for all.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import weft
from tests.parallel import functions
from weft.errors import WorkerError
from weft.parallel import cluster

QUESTIONS: dict[str, Callable[[str, str], Awaitable[Any]]] = {}


def question(function: Callable[[str, str], Awaitable[Any]]) -> Callable[[str, str], Awaitable[Any]]:
    QUESTIONS[function.__name__] = function
    return function


@question
async def plain(address: str, path: str) -> Any:
    return await weft.map(functions.square, range(300), workers=address)


@question
async def coroutines(address: str, path: str) -> Any:
    return await weft.map(functions.square_soon, range(300), workers=address, concurrency=10)


@question
async def by_value(address: str, path: str) -> Any:
    return await weft.map(lambda number: number**2, range(300), workers=address)


@question
async def clients(address: str, path: str) -> Any:
    Client: Any = importlib.import_module("distributed").Client
    results = []
    async with Client(address, asynchronous=True) as client:
        for ordered in (True, False):
            results.append(sorted(await weft.map(functions.square, range(9), workers=client, ordered=ordered)))
    with Client(address) as client:
        results.append(await weft.map(functions.square, range(9), workers=client))
    return results


@question
async def failures(address: str, path: str) -> Any:
    try:
        await weft.map(functions.fail_on_seven, range(100), workers=address)
    except weft.MapError as error:
        results = await weft.map(functions.fail_on_seven, range(30), workers=address, on_error="collect")
        kinds = [type(result).__name__ for result in results]
        return [str(error), type(error.__cause__).__name__, kinds.index("Failed"), kinds.count("int")]


@question
async def tasks_left(address: str, path: str) -> Any:
    async with weft.map(functions.who, iter(range(10**6)), workers=address) as results:
        async for _ in results:
            break
    return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@question
async def nobody(address: str, path: str) -> Any:
    cluster.CONNECT = 1
    try:
        await weft.map(functions.square, range(3), workers="tcp://127.0.0.1:9")
    except WorkerError as error:
        return str(error)
    finally:
        cluster.CONNECT = 10


@question
async def killed(address: str, path: str) -> Any:
    """One worker is killed when a few results are there."""

    def slow(number: int) -> int:
        functions.note(path)
        time.sleep(0.005)
        return number

    results = []
    async for result in weft.map(slow, range(200), workers=address):
        results.append(result)
        if result == 40:
            os.kill(functions.pids_in(path)[-1], signal.SIGKILL)
    return [results, len(set(functions.pids_in(path))) > 1]


@question
async def poisoned(address: str, path: str) -> Any:
    items = [(path, None if number == 3 else number) for number in range(8)]
    results = await weft.map(functions.exit_on_none, items, workers=address, on_error="collect")
    return [type(each.error).__name__ if isinstance(each, weft.Failed) else each for each in results]


async def main(address: str, path: str) -> None:
    answers = {name: await ask(address, path) for name, ask in QUESTIONS.items()}
    print(json.dumps(answers))


if __name__ == "__main__":
    weft.run(main(*sys.argv[1:]))
