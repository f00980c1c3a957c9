"""Blocks the loop: a loop in Python that computes.

loop blocked 513 ms in task 'Task-1' at examples/pathologies/blocked_by_cpu.py:15 in primes.<locals>.<genexpr>():
range (kernel: running); use a process pool by "await loop.run_in_executor()", or give way at times by "await
asyncio.sleep(0)". seen 1x

    python examples/pathologies/blocked_by_cpu.py
"""

import weft


def primes(limit: int) -> int:
    """How many primes there are below a limit."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


async def main() -> None:
    """Counts, while nobody else gets a turn."""
    print(primes(200_000))  # should be: await loop.run_in_executor(pool, primes, 200_000)


if __name__ == "__main__":
    weft.run(main())
