"""``weft run``: runs a Python program as ``python`` would, with weft as its event loop.

Invariant: what stands after the program's name belongs to the program, options included.
Called by ``weft.cli.main``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from weft.cli import USAGE_ERROR

__all__ = ["main"]

USAGE = """\
usage: weft run [--no-accelerate] SCRIPT [ARGUMENTS]
       weft run [--no-accelerate] -m MODULE [ARGUMENTS]
       weft run [--no-accelerate] -c CODE [ARGUMENTS]"""

HELP = f"""{USAGE}

Runs a Python program with weft as its event loop: whatever asyncio.run(), asyncio.Runner(), asyncio.new_event_loop()
or asyncio.get_event_loop() makes in it is weft's. A loop that the program asks for by name stays what it is.

  SCRIPT     a file, a directory or zip file with a __main__.py, or - for the standard input
  -m MODULE  a module or a package, as with python -m
  -c CODE    the program itself, as with python -c

  --no-accelerate  leave asyncio's queues, locks, sleep() and their like as they are; weft has faster ones, which
                   otherwise take their place

Options of the interpreter go before: python -X dev -W error -m weft run SCRIPT"""


def main(arguments: Sequence[str]) -> int:
    """Runs the program that the arguments name, to its end.

    Args:
        arguments: the words after ``weft run``.

    Returns:
        0 when the program ran to its end, 2 when the arguments name no program.

    Raises:
        BaseException: what leaves the program, ``SystemExit`` included; its traceback will be shown without the frames
            of weft and of the import system that lie below the program.
    """
    accelerates = list(arguments[:1]) != ["--no-accelerate"]
    if not accelerates:
        arguments = arguments[1:]
    if not arguments:
        return _refuse("which program? Name a SCRIPT, -m MODULE or -c CODE")
    first = arguments[0]
    if first in ("-h", "--help"):
        print(HELP)
        return 0
    form, target, rest = _split(first, list(arguments[1:]))
    if form in ("-m", "-c") and target is None:
        return _refuse(f"{first} needs {'a module' if form == '-m' else 'code'} after it")
    if target is None:
        return _refuse(f"unknown option '{first}'; the interpreter's own go before: python {first} -m weft run ...")

    from weft.cli._default_loop import make_default
    from weft.cli._program import launch

    make_default(accelerates=accelerates)
    launch(form, target, rest)
    return 0


def _split(first: str, rest: list[str]) -> tuple[str, str | None, list[str]]:
    """Gives the form (``-m``, ``-c``, or ``""`` for a file), the target (None: there is none), and what follows it."""
    if first in ("-m", "-c"):
        return first, rest[0] if rest else None, rest[1:]
    if first[:2] in ("-m", "-c"):  # -mMODULE, as the interpreter takes it too
        return first[:2], first[2:], rest
    if first == "--":
        return "", rest[0] if rest else None, rest[1:]
    if first.startswith("-") and first != "-":
        return "", None, rest
    return "", first, rest


def _refuse(problem: str) -> int:
    print(f"{USAGE}\nweft run: {problem}", file=sys.stderr)
    return USAGE_ERROR
