"""``weft fetch``: fetches many URLs at once, to JSON lines, files or SQLite.

This file is the command; the parts: ``options`` and ``values`` (the command line), ``run`` (the course of a run),
``source`` (where URLs come from), ``engine`` and ``rate`` (how many at once, and how fast), ``shared`` (the same over
processes or a cluster), ``http`` (the only one that knows the client), ``sinks`` (where results go), ``stats``,
``histogram``, ``display``, ``summary``; ``model`` is what they pass to each other. Invariant: what finished before the
run ended, in whatever way, is written. Called by ``weft.cli.main``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from weft.cli.fetch.options import Options
    from weft.cli.fetch.run import Outcome

__all__ = ["main"]

FAILED = 1
USAGE_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """Fetches what the arguments name.

    Args:
        arguments: the words after ``weft fetch``.

    Returns:
        0 when all succeeded, 1 when some failed or results could not be written, 2 when the arguments make no sense.

    Raises:
        SystemExit: after ``--help``; with 130 or 143 after SIGINT or SIGTERM.
    """
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop_early) for number in signals}
    try:
        return _fetch(arguments, signals)
    except BrokenPipeError:  # of --help
        _die_of(signal.SIGPIPE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fetch(arguments: Sequence[str], signals: Sequence[int]) -> int:
    from weft.cli.fetch.model import Refused
    from weft.cli.fetch.options import parse

    try:
        options = parse(arguments)
        from weft.cli.fetch.run import run

        outcome = run(options, signals)
    except Refused as problem:
        _tell(f"weft fetch: {problem}")
        return USAGE_ERROR
    return _report(outcome, options)


def _report(outcome: Outcome, options: Options) -> int:
    from weft.cli.fetch.summary import summary

    error, stopped = outcome.error, outcome.stopped
    if isinstance(getattr(error, "__cause__", None), BrokenPipeError):  # nobody reads the rest, as with "| head"
        _die_of(signal.SIGPIPE)
    if not options.quiet:
        _tell(summary(outcome.stats, _stopped_text(stopped, options)))
    if error is not None:
        _tell(f"weft fetch: {error}")
        return FAILED
    if stopped is not None:
        raise SystemExit(128 + stopped)  # all is written: this is an orderly end, and says why it came early
    return FAILED if outcome.stats.failed else 0


def _stopped_text(stopped: signal.Signals | None, options: Options) -> str | None:
    if stopped is None:
        return None
    return f"stopped by {stopped.name}" + ("" if options.output == "-" else "; --resume goes on from here")


def _tell(text: str) -> None:
    """Says something on standard error, which may be closed or have no reader: no reason to fail."""
    if sys.stderr is None:
        return
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(errors="backslashreplace")  # µ and bars in an ASCII world
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _stop_early(number: int, frame: FrameType | None) -> Any:
    """A signal while nothing is under way yet."""
    raise SystemExit(128 + number)


def _die_of(number: int) -> NoReturn:
    """Ends as the signal would have ended us, so that a shell knows it from a failure."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)  # where the signal is blocked
