"""Blocks the loop: a pattern that backtracks.

loop blocked 658 ms in task 'Task-1' at examples/pathologies/blocked_by_regex.py:20 in check(): PATTERN.match
(kernel: running); the pattern backtracks: make it simpler; a process pool keeps the loop free, a thread does not.
seen 1x

    python examples/pathologies/blocked_by_regex.py
"""

import asyncio
import re

import weft

PATTERN = re.compile(r"(\w+\s?)+$")  # should be: r"[\w\s]+$"


async def check(text: str) -> bool:
    """Whether a text is made of words."""
    return PATTERN.match(text) is not None


async def main() -> None:
    """The exclamation mark at the end is what takes so long."""
    print(await check("a" * 21 + "!"), await asyncio.sleep(0, "done"))


if __name__ == "__main__":
    weft.run(main())
