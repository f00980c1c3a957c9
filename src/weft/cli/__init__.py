"""The ``weft`` command: picks the subcommand and hands it the rest of the command line.

A subcommand is one module ``weft.cli.<name>`` with ``main(arguments) -> exit status``, and one line in ``COMMANDS``.
Invariant: importing this module imports no subcommand and nothing outside the standard library, so that the first
word on the command line decides what is loaded.
Called by the ``weft`` script that pip installs, and by ``python -m weft``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

COMMANDS = {
    "run": "run a Python program with weft as its event loop",
    "race": "one after another, threads, coroutines: the same requests, side by side",
    "fetch": "fetch many URLs at once, to JSON lines, files or SQLite",
}

USAGE_ERROR = 2  # what argparse, and most commands, exit with when the command line makes no sense


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the ``weft`` command.

    Args:
        arguments: the words after ``weft``; by default those of ``sys.argv``.

    Returns:
        The exit status: 0 when all went well, 1 when something failed, 2 for a command line that makes no sense.

    Raises:
        SystemExit: where the subcommand, or the program that it runs, ends that way.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        from weft._version import __version__

        print(f"weft {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return _unknown(words[0])
    from importlib import import_module

    status: int = import_module(f"weft.cli.{words[0]}").main(words[1:])
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: weft COMMAND [ARGUMENTS]\n\n"
        "A coroutine runtime for Python.\n\n"
        f"commands:\n{lines}\n\n"
        "options:\n  -h, --help     show this text\n  -V, --version  show the version\n\n"
        "'weft COMMAND --help' tells about one command."
    )


def _unknown(word: str) -> int:
    from difflib import get_close_matches

    kind = "option" if word.startswith("-") else "command"
    near = get_close_matches(word, COMMANDS, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(COMMANDS)}"
    print(f"weft: unknown {kind} '{word}'; {remedy}", file=sys.stderr)
    return USAGE_ERROR
