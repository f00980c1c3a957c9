"""Done callbacks: a plain function that the loop calls when a task has ended, however it ended.

They are called in the order in which they were added, in a later turn of the loop, with the task as their argument. One
that raises stops nobody: the exception goes to the loop's exception handler.

    python examples/done_callbacks.py
    weft run examples/done_callbacks.py
"""

import asyncio
from functools import partial
from typing import Any


async def divide(a: float, b: float) -> float:
    """Ends well or badly."""
    await asyncio.sleep(0)
    return a / b


def report(name: str, task: asyncio.Task[float]) -> None:
    """The three ways in which a task ends, asked for in an order that never raises."""
    if task.cancelled():
        print(f"{name}: was cancelled")
    elif error := task.exception():
        print(f"{name}: failed with {type(error).__name__}: {error}")
    else:
        print(f"{name}: returned {task.result()}")


def broken(task: asyncio.Task[float]) -> None:
    """A callback with a mistake in it."""
    raise LookupError("a mistake in a callback")


def never(task: asyncio.Task[float]) -> None:
    """Is removed before it could be called."""
    print("never: was called all the same")


def on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Takes what would have gone to the log."""
    print(f"exception handler: {context['exception']!r}")


async def main() -> None:
    """One task for each way to end, and then the finer points."""
    asyncio.get_running_loop().set_exception_handler(on_trouble)
    tasks = {
        "good": asyncio.create_task(divide(6, 2)),
        "bad": asyncio.create_task(divide(6, 0)),
        "stopped": asyncio.create_task(divide(6, 3)),
    }
    for name, task in tasks.items():
        task.add_done_callback(partial(report, name))  # partial: a callback gets the task and nothing else
    tasks["stopped"].cancel()

    good = tasks["good"]
    good.add_done_callback(broken)
    good.add_done_callback(never)
    good.add_done_callback(lambda task: print("good: the last callback, after the broken one"))
    print(f"removed {good.remove_done_callback(never)} callback")
    await asyncio.wait(tasks.values())

    # A task that has ended calls at once, which means: in the next turn, and never from inside add_done_callback.
    good.add_done_callback(partial(report, "late"))
    print("late: added to a task that is done")
    await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main())
