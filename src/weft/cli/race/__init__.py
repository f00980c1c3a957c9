"""``weft race``: the experiment that makes people move to coroutines, as one command.

The same GET requests, first one after another, then by a thread pool, then by coroutines on several event loops, and
by several clients on one; each contender alone in a fresh process, against a server in yet another. This file is the
whole course of a race; the parts: ``options`` (the command line), ``contenders`` (who runs), ``clients`` (how),
``worker`` (one contender's process), ``server``, ``processes`` (starting and surely ending those), ``display`` (live
bars), ``report`` (table, JSON), ``plot``.
Invariant: however a race ends, none of its processes outlives it. Called by ``weft.cli.main``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from weft.cli.race.clients import Job
from weft.cli.race.contenders import CONTENDERS, SEQUENTIAL_MOST, Contender, available
from weft.cli.race.options import Options, Refused, parse

if TYPE_CHECKING:
    from weft.cli.race.report import Result

__all__ = ["main"]

FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """Runs a race and prints its table.

    Args:
        arguments: the words after ``weft race``.

    Returns:
        0; 1 when a request or a contender failed; 2 when the arguments make no sense.

    Raises:
        SystemExit: after ``--help``, or for arguments that argparse refuses.
    """
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in signals}
    try:
        options = parse(arguments)
        return _race(options)
    except Refused as problem:
        print(f"weft race: {problem}", file=sys.stderr)
        return problem.status
    except BrokenPipeError:  # nobody reads the rest, as with "| head"
        _die_of(signal.SIGPIPE)
    except _Stopped as stopped:
        print(f"weft race: stopped by {stopped.signal.name}", file=sys.stderr)
        _die_of(stopped.signal)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _race(options: Options) -> int:
    from weft.cli.race import report
    from weft.cli.race.display import Display
    from weft.cli.race.processes import run_contender, serving

    results: list[Result] = []
    with ExitStack() as stack:
        url = options.url or stack.enter_context(serving(options.latency))
        display = Display(report.heading(options))
        for count, contenders in _plan(options):
            job: Job = {"url": url, "requests": count, "threads": options.threads_for(count)}
            with display.group(count, [contender.title(job["threads"]) for contender in contenders]) as rows:
                for contender, row in zip(contenders, rows, strict=True):
                    results.append(report.result(contender, job, run_contender(contender.key, job, row)))
    report.compare(results)
    report.print_table(results, options)
    report.write_files(results, options)
    return FAILED if any(result.failed for result in results) else 0


def _plan(options: Options) -> list[tuple[int, list[Contender]]]:
    """Who runs with how many requests. One after another has a limit, for the user's patience, but always runs once."""
    ready = [contender for contender in CONTENDERS if available(contender)]
    plan = {count: [c for c in ready if c.concurrent or count <= SEQUENTIAL_MOST] for count in options.counts}
    if min(plan) > SEQUENTIAL_MOST:
        plan = {SEQUENTIAL_MOST: [c for c in ready if not c.concurrent], **plan}
    return list(plan.items())


class _Stopped(BaseException):
    """A signal asked the race to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def _stop(number: int, frame: FrameType | None) -> Any:
    signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clearing up
    raise _Stopped(number)


def _die_of(number: int) -> NoReturn:
    """Ends as the signal would have ended us, so that a shell's loop around the command ends too."""
    with suppress(OSError):
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)  # where the signal is blocked
