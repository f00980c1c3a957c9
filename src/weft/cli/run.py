"""``weft run``: runs a Python program as ``python`` would, with weft as its event loop.

Invariant: what stands after the program's name belongs to the program, options included.
Called by ``weft.cli.main``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from weft.cli import USAGE_ERROR

__all__ = ["main"]

USAGE = """\
usage: weft run [OPTIONS] SCRIPT [ARGUMENTS]
       weft run [OPTIONS] -m MODULE [ARGUMENTS]
       weft run [OPTIONS] -c CODE [ARGUMENTS]"""

HELP = f"""{USAGE}

Runs a Python program with weft as its event loop: whatever asyncio.run(), asyncio.Runner(), asyncio.new_event_loop()
or asyncio.get_event_loop() makes in it is weft's. A loop that the program asks for by name stays what it is.

  SCRIPT     a file, a directory or zip file with a __main__.py, or - for the standard input
  -m MODULE  a module or a package, as with python -m
  -c CODE    the program itself, as with python -c

  --workers N  run the program in N processes that share the ports on which it listens; "cores" for one per core.
               One that dies is replaced, SIGHUP replaces all of them one by one, SIGTERM ends them

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
    workers, arguments = _workers(arguments)
    if (isinstance(workers, int) and workers < 1) or not arguments:
        return _refuse("--workers needs a number of at least 1, or 'cores', and a program after it")
    first = arguments[0]
    if first in ("-h", "--help"):
        print(HELP)
        return 0
    form, target, rest = _split(first, list(arguments[1:]))
    if form in ("-m", "-c") and target is None:
        return _refuse(f"{first} needs {'a module' if form == '-m' else 'code'} after it")
    if target is None:
        return _refuse(f"unknown option '{first}'; the interpreter's own go before: python {first} -m weft run ...")

    if workers is not None and (status := _supervise(workers)) is not None:
        return status
    from weft.cli._default_loop import make_default
    from weft.cli._program import launch

    make_default(accelerates=accelerates)
    launch(form, target, rest)
    return 0


def _workers(arguments: Sequence[str]) -> tuple[int | str | None, Sequence[str]]:
    """What ``--workers`` says (None: it is not there; 0: nonsense), and the words after it."""
    option, equals, value = arguments[0].partition("=")
    if option != "--workers":
        return None, arguments
    rest = list(arguments[1:])
    if not equals:
        value = rest.pop(0) if rest else ""
    return value if value == "cores" else int(value) if value.isdecimal() else 0, rest


def _supervise(workers: int | str) -> int | None:
    """Look after so many workers to their end, and give the exit status; None in one of them, who runs the program."""
    from weft.serving import place, supervise

    if place() is not None:
        return None
    logger = logging.getLogger("weft.serve")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s weft: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    return supervise(workers)


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
