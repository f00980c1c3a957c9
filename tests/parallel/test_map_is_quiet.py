"""What ends a map early is no lost work: a program that is in order hears nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.core.kit import SOURCES

pytestmark = pytest.mark.weft_only

PROGRAM = """
import asyncio, weft

async def inverse(number):
    await asyncio.sleep(0)
    return 1 / number

async def main():
    {work}

weft.run(main())
print("done")
"""


@pytest.mark.parametrize(
    "work",
    [
        """
    try:
        await weft.map(inverse, [1, 0, 2])
    except weft.MapError:
        pass""",
        """
    try:
        await weft.map(lambda number: 1 // number, [1, 0, 2])
    except weft.MapError:
        pass""",
        """
    async for result in weft.map(inverse, range(1, 1000)):
        break""",
        """
    try:
        async with asyncio.timeout(0.01):
            await weft.map(inverse, iter(lambda: 1, 0))
    except TimeoutError:
        pass""",
    ],
    ids=["a failed item", "a failed call", "left early", "no time left"],
)
def test_nothing_is_said(work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weft", "run", "-c", PROGRAM.format(work=work)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCES), "WEFT_STALL_THRESHOLD": "off"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
