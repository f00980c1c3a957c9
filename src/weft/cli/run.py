"""``weft run``: runs a Python program as ``python`` would, with weft as its event loop.

Invariant: what stands after the program's name belongs to the program, options included.
Called by ``weft.cli.main``.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Sequence

from weft.cli import USAGE_ERROR

__all__ = ["main"]

USAGE = """\
usage: weft run [OPTIONS] SCRIPT [ARGUMENTS]
       weft run [OPTIONS] -m MODULE [ARGUMENTS]
       weft run [OPTIONS] -c CODE [ARGUMENTS]"""

FORMS = ("text", "json", "none")
OPTIONS = {
    "--report": f"one of {', '.join(FORMS)}",
    "--report-file": "a file",
    "--shutdown-timeout": "seconds",
    "--workers": "a number, or cores,",
    "--no-accelerate": None,
}
"""Our options, each with what has to follow it; None for nothing."""

EXIT_BASE = 128
"""What a shell adds to the number of the signal that has ended a process."""

HELP = f"""{USAGE}

Runs a Python program with weft as its event loop: whatever asyncio.run(), asyncio.Runner(), asyncio.new_event_loop()
or asyncio.get_event_loop() makes in it is weft's. A loop that the program asks for by name stays what it is.

  SCRIPT     a file, a directory or zip file with a __main__.py, or - for the standard input
  -m MODULE  a module or a package, as with python -m
  -c CODE    the program itself, as with python -c

options:
  --report FORM           text or json: end with a report of what was wrong, with the line where each task and coroutine
                          was made, which costs about a microsecond for each; none: no report. Without this option
                          there is one in text, without those lines, when something was wrong.
  --report-file FILE      write the report there, not to standard error
  --shutdown-timeout S    seconds for the end of a run, after which what resists is given up; none: wait for ever
  --workers N             run the program in N processes that share the ports on which it listens; cores: one per core.
                          One that dies is replaced, SIGHUP replaces all of them one by one, SIGTERM ends them
  --no-accelerate         leave asyncio's queues, locks, sleep() and their like as they are; weft has faster ones,
                          which otherwise take their place

SIGINT and SIGTERM, where the program has no handlers for them, end asyncio.run() in good order; the exit status is then
130 or 143.

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
    words = list(arguments)
    try:
        options = _options(words)
    except ValueError as problem:
        return _refuse(str(problem))
    if not words:
        return _refuse("which program? Name a SCRIPT, -m MODULE or -c CODE")
    first = words[0]
    if first in ("-h", "--help"):
        print(HELP)
        return 0
    form, target, rest = _split(first, words[1:])
    if form in ("-m", "-c") and target is None:
        return _refuse(f"{first} needs {'a module' if form == '-m' else 'code'} after it")
    if target is None:
        return _refuse(f"unknown option '{first}'; the interpreter's own go before: python {first} -m weft run ...")

    if "--shutdown-timeout" in options:
        os.environ["WEFT_SHUTDOWN_TIMEOUT"] = options["--shutdown-timeout"]
    if "--workers" in options and (status := _supervise(options["--workers"])) is not None:
        return status
    from weft.cli._default_loop import make_default
    from weft.cli._program import launch

    make_default(accelerates="--no-accelerate" not in options, shutdown=True)
    _prepare_report(options)
    try:
        launch(form, target, rest)
    except KeyboardInterrupt as error:
        signum: int | None = getattr(error, "weft_signal", None)
        if signum is None:
            raise
        sys.excepthook = sys.__excepthook__  # nothing is to be shown: all is in order
        return EXIT_BASE + signum
    return 0


def _options(words: list[str]) -> dict[str, str]:
    """Takes our options off the front of the words.

    Raises:
        ValueError: an option lacks its value, or has one that makes no sense.
    """
    found = {}
    while words:
        name, has_value, value = words[0].partition("=")
        if name not in OPTIONS:
            break
        del words[0]
        if OPTIONS[name] is None:
            if has_value:
                raise ValueError(f"{name} takes no value")
        elif not has_value:
            if not words:
                raise ValueError(f"{name} needs {OPTIONS[name]} after it")
            value = words.pop(0)
        found[name] = value
    if found.get("--report", "text") not in FORMS:
        raise ValueError(f"--report is one of {', '.join(FORMS)}, not '{found['--report']}'")
    if "--shutdown-timeout" in found:
        _check_seconds(found["--shutdown-timeout"])
    workers = found.get("--workers", "cores")
    if workers != "cores" and not (workers.isdecimal() and int(workers)):
        raise ValueError(f"--workers takes a number of at least 1, or cores, not '{workers}'")
    return found


def _check_seconds(text: str) -> None:
    try:
        good = text == "none" or float(text) >= 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"--shutdown-timeout takes seconds from 0 on, or none, not '{text}'")


def _supervise(workers: str) -> int | None:
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
    return supervise(workers if workers == "cores" else int(workers))


def _prepare_report(options: dict[str, str]) -> None:
    """Sees to the report, which comes last of all: after the program's own exit handlers, and after its traceback."""
    form = options.get("--report", "text")
    if form == "none":
        return
    from weft.loop import troubles

    if "--report" in options:
        troubles.detailed = True
        sys.set_coroutine_origin_tracking_depth(1)
    troubles.note_coroutines()
    atexit.register(_report, form, options.get("--report-file"), os.getpid())


def _report(form: str, path: str | None, pid: int) -> None:
    """At exit. Where nothing was found, and nobody has asked, not even the modules for it are loaded."""
    if os.getpid() != pid or (form == "text" and path is None and "weft.watch" not in sys.modules):
        return  # a forked child that ends as its parent will; or all was well
    from weft.watch import report

    try:
        report.write(form, path)
    except OSError as problem:
        print(f"weft run: the report could not be written to {path}: {problem}", file=sys.stderr)


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
