"""Producer and consumer with a generator: `yield`, `send`, and the priming `send(None)`.

A generator stands still at its `yield` until someone sends it a value, and goes on from there with all that it knew:
that is what a coroutine is, and there is no event loop in it yet. queue_consumer.py does the same with tasks.

    python examples/generator_consumer.py
    weft run examples/generator_consumer.py
"""

import inspect
from collections.abc import Generator


def consumer() -> Generator[str, int, None]:
    """Takes numbers by `send`, answers each, and keeps their sum between two calls."""
    total, answer = 0, "ready"
    try:
        while True:
            # Both ways in one word: the answer goes out, and what the producer sends comes in.
            number = yield answer
            total += number
            print(f"consumer: got {number}, the sum is {total}")
            answer = f"ok {number}"
    finally:
        print(f"consumer: closed, the sum was {total}")


def produce(numbers: range) -> None:
    """Feeds the numbers to a consumer of its own."""
    target = consumer()
    print(f"producer: the consumer is {inspect.getgeneratorstate(target)}: nothing in it has run")

    # Everyone's first error: it stands before its first line, where no yield can take the number.
    try:
        target.send(1)
    except TypeError as error:
        print(f"producer: TypeError: {error}")

    # Priming: run to the first yield. next(target) is the same.
    answer = target.send(None)  # type: ignore[arg-type]  # the one None that it takes
    print(f"producer: primed, the consumer says {answer!r} and is {inspect.getgeneratorstate(target)}")

    for number in numbers:
        print(f"producer: sends {number}")
        answer = target.send(number)
        print(f"producer: the consumer says {answer!r}")

    # Raises GeneratorExit at the yield, so that the consumer's `finally` runs now and not whenever it is collected.
    target.close()
    print(f"producer: the consumer is {inspect.getgeneratorstate(target)}")


if __name__ == "__main__":
    produce(range(1, 4))
