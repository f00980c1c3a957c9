"""A clean stop on Ctrl-C: every task is cancelled, each runs its `finally`, and the loop is closed.

The runner turns the first Ctrl-C into a cancellation of the main coroutine, then cancels what is left and waits for it.
So what has to be put in order stands in a `finally`, may await, and needs no signal handler.

    python examples/clean_stop.py      and then Ctrl-C
    weft run examples/clean_stop.py
"""

import asyncio
import sys


async def worker(number: int, started: asyncio.Queue[int], stopped: list[int]) -> None:
    """Works until it is told to stop, and then puts things in order."""
    try:
        started.put_nowait(number)
        await asyncio.sleep(3600)
    finally:
        print(f"worker {number}: puts things in order")
        await asyncio.sleep(0.01)  # say, a last message to a server
        stopped.append(number)
        print(f"worker {number}: finally ran to its end")


async def main(stopped: list[int]) -> None:
    """Waits for a Ctrl-C; the workers are nobody's children, and are stopped all the same."""
    started: asyncio.Queue[int] = asyncio.Queue()
    workers = [asyncio.create_task(worker(number, started, stopped)) for number in range(1, 6)]
    for _ in workers:
        await started.get()
    print(f"{len(workers)} workers run; press Ctrl-C", flush=True)
    try:
        await asyncio.gather(*workers)
    except asyncio.CancelledError:
        print("main: cancelled")
        raise  # whoever is cancelled and says nothing has not stopped, for those who wait


if __name__ == "__main__":
    in_order: list[int] = []
    loop = None
    try:
        # asyncio.run(main()) does the same; here the loop is to be looked at when it is over.
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            runner.run(main(in_order))
    except KeyboardInterrupt:
        assert loop is not None
        print(f"stopped: {len(in_order)} of 5 workers in order, {len(asyncio.all_tasks(loop))} tasks left")
        print(f"stopped: the loop is {'closed' if loop.is_closed() else 'still open'}")
        sys.exit(130)  # what a shell expects of a program that was interrupted: 128 + SIGINT
