"""Nested coroutines, and their results taken five ways.

`outer` awaits `inner`, and several `outer` run as tasks. Their results can be had by `wait` (two sets, no order), by
`gather` (a list, in the order of the arguments), by returning either to the caller, and by `as_completed` (one by one,
the quickest first).

    python examples/nested_results.py
    weft run examples/nested_results.py
"""

import asyncio

Task = asyncio.Task[str]


async def inner(turns: int) -> int:
    """Takes that many turns of the loop, as one that waits for an answer would."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return turns * turns


async def outer(number: int) -> str:
    """An await inside an await: the loop sees one task, however deep it goes."""
    return f"{number}->{await inner(number)}"


def start() -> list[Task]:
    """Three tasks, of which the first takes the longest."""
    return [asyncio.create_task(outer(number), name=f"outer({number})") for number in (9, 6, 3)]


async def by_wait() -> None:
    """Sets have no order: the name says whose result it is."""
    done, pending = await asyncio.wait(start())
    for task in sorted(done, key=Task.get_name):
        print(f"wait: {task.get_name()} gave {task.result()}")
    print(f"wait: {len(done)} done, {len(pending)} pending")


async def by_gather() -> None:
    """In the order of the arguments, whichever ends first."""
    print(f"gather: {', '.join(await asyncio.gather(*start()))}")


async def gathered() -> list[str]:
    """What gather gives is a list, and that is returned."""
    return await asyncio.gather(*start())


async def waited() -> tuple[set[Task], set[Task]]:
    """The caller gets the tasks themselves; here with what was done when the first one had ended."""
    return await asyncio.wait(start(), return_when=asyncio.FIRST_COMPLETED)


async def by_as_completed() -> None:
    """As they end: the last that was started is the first."""
    for future in asyncio.as_completed(start()):
        print(f"as_completed: {await future}")


async def main() -> None:
    """The five ways, one after another."""
    await by_wait()
    await by_gather()

    print(f"returned gather: {', '.join(await gathered())}")

    done, pending = await waited()
    print(f"returned wait: {', '.join(task.result() for task in done)} is first, {len(pending)} are pending")
    print(f"returned wait: then {', '.join(sorted(await asyncio.gather(*pending)))}")

    await by_as_completed()


if __name__ == "__main__":
    asyncio.run(main())
