"""Blocks the loop: a large body that is parsed at once.

loop blocked 685 ms in task 'Task-1' at examples/pathologies/blocked_by_json_body.py:20 in handle(): json.loads
(kernel: running); use asyncio.to_thread(), or a process pool where it keeps the GIL; parse in smaller parts. seen
1x

    python examples/pathologies/blocked_by_json_body.py
"""

import asyncio
import json

import weft

BODY = f"[{', '.join(['7.25'] * 3_000_000)}]"


async def handle(body: str) -> int:
    """Counts what is in a request."""
    return len(json.loads(body))  # should be: await asyncio.to_thread(json.loads, body), or parts


async def main() -> None:
    """One request."""
    print(await handle(BODY), await asyncio.sleep(0, "done"))


if __name__ == "__main__":
    weft.run(main())
