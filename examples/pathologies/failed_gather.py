"""One of three gathered coroutines fails: the other two go on, though nobody waits for them any more.

weft run --report text examples/pathologies/failed_gather.py

siblings of a failed gather: 2 go on after ConnectionError('replica 0 is down') at failed_gather.py:18 in ask()
ended their gather(): task 'Task-3' at failed_gather.py:19 in ask(), task 'Task-4' at failed_gather.py:19 in ask(),
spawned at failed_gather.py:26 in main(); use asyncio.TaskGroup, or cancel them where gather() fails
"""

import asyncio

import weft


async def ask(replica: int) -> None:
    """Ask a replica; the first is down."""
    if replica == 0:
        raise ConnectionError("replica 0 is down")
    await asyncio.sleep(0.2)
    print(f"replica {replica} has answered, and nobody listens")


async def main() -> None:
    """Ask three at once."""
    try:
        await asyncio.gather(*map(ask, range(3)))
    except ConnectionError as error:
        print("gather:", error)
    await asyncio.sleep(0.3)


if __name__ == "__main__":
    weft.run(main())
