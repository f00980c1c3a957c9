"""Producer and consumers as asyncio tasks with a queue between them.

The queue holds two items: `put` waits while it is full, `get` while it is empty, so the faster side is held to the pace
of the slower one. generator_consumer.py does the same without a loop, by hand.

    python examples/queue_consumer.py
    weft run examples/queue_consumer.py
"""

import asyncio


async def produce(queue: asyncio.Queue[int], numbers: range) -> None:
    """Puts the numbers into the queue, and waits where it is full."""
    for number in numbers:
        waits = " (waits: the queue is full)" if queue.full() else ""
        print(f"producer: puts {number}{waits}")
        await queue.put(number)
    print("producer: has put everything")


async def consume(name: str, queue: asyncio.Queue[int], eaten: list[int]) -> None:
    """Takes numbers from the queue until it is cancelled."""
    try:
        while True:
            number = await queue.get()
            try:
                await asyncio.sleep(0.01)
                eaten.append(number)
                print(f"{name}: got {number}, {queue.qsize()} more are in the queue")
            finally:
                queue.task_done()  # even if it failed: join() counts what was put against this
    finally:
        print(f"{name}: stopped")


async def main() -> None:
    """Joins the queue, not the consumers: those wait for items that will never come."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    eaten: list[int] = []
    consumers = [asyncio.create_task(consume(f"consumer {n}", queue, eaten)) for n in (1, 2)]
    await produce(queue, range(1, 9))
    await queue.join()  # until every item has had its task_done()
    for task in consumers:
        task.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    print(f"{len(eaten)} items went through, the sum is {sum(eaten)}")


if __name__ == "__main__":
    asyncio.run(main())
