"""A task three ways, with its type, and the states that it goes through: pending, running, done, cancelled.

`ensure_future`, `loop.create_task` and `asyncio.create_task` make the same kind of task. On weft that is a `weft.Task`,
and `task.state` says where it is; asyncio's has no such word, so its state is worked out from what can be asked.

    python examples/task_states.py
    weft run examples/task_states.py
"""

import asyncio
from typing import Any

import weft


def state_of(task: asyncio.Task[Any]) -> weft.TaskState:
    """The state of a task of either kind."""
    if isinstance(task, weft.Task):
        return task.state
    if task.cancelled():  # first: a cancelled task is done as well
        return weft.TaskState.CANCELLED
    if task.done():
        return weft.TaskState.DONE
    running = asyncio.current_task() is task
    return weft.TaskState.RUNNING if running else weft.TaskState.PENDING


def show(name: str, moment: str, task: asyncio.Task[Any]) -> None:
    """Prints one line: which task, when, and its state."""
    print(f"{name:20} {moment:22} {state_of(task).value}")


async def work(name: str, gate: asyncio.Event) -> str:
    """Looks at itself, waits, and returns."""
    task = asyncio.current_task()
    assert task is not None
    show(name, "runs", task)
    await gate.wait()
    return f"the result of {name}"


async def main() -> None:
    """Makes the tasks and looks at them from outside."""
    gate = asyncio.Event()
    tasks = {
        "ensure_future": asyncio.ensure_future(work("ensure_future", gate)),
        "loop.create_task": asyncio.get_running_loop().create_task(work("loop.create_task", gate)),
        "asyncio.create_task": asyncio.create_task(work("asyncio.create_task", gate)),
    }
    for name, task in tasks.items():
        print(f"{name:20} is a {type(task).__module__}.{type(task).__qualname__}")
        show(name, "made, not started", task)

    await asyncio.sleep(0)  # one turn of the loop: each runs to its first await
    for name, task in tasks.items():
        show(name, "waits for the gate", task)

    gate.set()
    await asyncio.wait(tasks.values())
    for name, task in tasks.items():
        show(name, "returned", task)
        print(f"{name:20} gave {task.result()!r}")

    victim = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    victim.cancel()
    show("victim", "cancel() was called", victim)  # a request: it ends when it has heard of it
    await asyncio.wait([victim])
    show("victim", "has heard of it", victim)


if __name__ == "__main__":
    asyncio.run(main())
