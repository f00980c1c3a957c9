"""The command line of ``weft race``, checked as far as it can be before anything is started.

Invariant: options that leave here can be carried out, so that nobody waits for a race whose result cannot be written.
Called by the race.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

__all__ = ["Options", "Refused", "parse"]

PACKAGES = ("aiohttp", "requests", "rich")
THREADS = 32  # the most that ThreadPoolExecutor takes when it is not told, whatever the machine
LATENCY = 0.05  # seconds: a request to another continent's edge, or a slow database query
LATENCY_MOST = 30.0  # seconds: half of what a contender waits for an answer
SPARE_FILES = 64  # open files that a process needs besides its connections
CONNECT_TIMEOUT = 5.0  # seconds, for the knock on the door of a server of the user's own


class Refused(Exception):
    """The race cannot be held. Carries the text for the user, and the exit status: 2 for wrong use, 1 for the rest."""

    def __init__(self, text: str, status: int = 2) -> None:
        super().__init__(text)
        self.status = status


class Options(NamedTuple):
    """What the user wants."""

    url: str | None  # None: the embedded server
    latency: float  # of the embedded server, in seconds
    counts: tuple[int, ...]  # numbers of requests, ascending
    threads: int  # at most, for the thread pool
    json: Path | None
    plot: Path | None

    def threads_for(self, count: int) -> int:
        """The size of the thread pool for that many requests."""
        return min(self.threads, count)


def parse(arguments: Sequence[str]) -> Options:
    """Reads the words after ``weft race``.

    Raises:
        Refused: with a text that names what is wrong and what would be right.
        SystemExit: from argparse, after ``--help`` or a usage message.
    """
    given = _parser().parse_args(arguments)
    if given.url is not None and given.latency is not None:
        raise Refused("--latency is for the embedded server; a server of your own has the latency it has")
    options = Options(
        url=given.url,
        latency=LATENCY if given.latency is None else given.latency,
        counts=given.requests,
        threads=given.threads,
        json=given.json,
        plot=given.plot,
    )
    _check_packages(options)
    _check_files(options)
    if options.url is not None:
        _check_reachable(options.url)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weft race",
        allow_abbrev=False,
        description="Sends the same GET requests one after another, by a thread pool, and by coroutines: with aiohttp "
        "on asyncio, uvloop and weft, and with httpx2, pyreqwest and weft.http on weft. Shows what each way costs. "
        "uvloop, httpx2 and pyreqwest take part where they are installed.",
    )
    parser.add_argument("--url", type=_url, help="race against this server instead of the embedded one")
    parser.add_argument(
        "--latency",
        type=_latency,
        metavar="TIME",
        help="how long the embedded server takes for an answer: 50ms, 0.05s or (milliseconds) 50; default: 50ms",
    )
    parser.add_argument(
        "--requests",
        type=_counts,
        default=(10, 100, 1000),
        metavar="N,N,...",
        help="how many requests; those above 100 are not sent one after another; default: 10,100,1000",
    )
    parser.add_argument(
        "--threads",
        type=_count,
        default=THREADS,
        metavar="N",
        help=f"size of the thread pool, where there are as many requests; default: {THREADS}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--plot", type=_plot, metavar="FILE", help="draw the results: FILE.svg or FILE.png")
    return parser


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is too few, it takes at least 1")
    return count


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(sorted({_count(part) for part in text.split(",")}))
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and counts[-1] + SPARE_FILES > limit:
        raise argparse.ArgumentTypeError(
            f"{counts[-1]} requests at once take more open files than this system allows ({limit}, see ulimit -Hn)"
        )
    return counts


def _latency(text: str) -> float:
    number, scale = text.strip(), 1e-3
    for unit, factor in (("ms", 1e-3), ("s", 1.0)):
        if number.endswith(unit):
            number, scale = number.removesuffix(unit), factor
            break
    try:
        seconds = float(number) * scale
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 50ms, 0.05s or 50") from None
    if not (math.isfinite(seconds) and 0 <= seconds <= LATENCY_MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and {LATENCY_MOST:.0f}s")
    return seconds


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _port(parts)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: {exc}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(map(str.isspace, text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as http://localhost:8000/")
    return text


def _port(parts: SplitResult) -> int:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _plot(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".svg", ".png"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither FILE.svg nor FILE.png")
    return path


def _check_packages(options: Options) -> None:
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise Refused(f"{' and '.join(missing)} not installed; pip install 'weft[race]' brings all it needs", status=1)
    if options.plot and options.plot.suffix.lower() == ".png" and find_spec("matplotlib") is None:
        raise Refused("a .png takes matplotlib: pip install 'weft[plot]', or draw a .svg instead", status=1)


def _check_files(options: Options) -> None:
    for path in (options.json, options.plot):
        if path is None:
            continue
        if path.is_dir():
            raise Refused(f"cannot write {path}: it is a directory")
        if not path.parent.is_dir():
            raise Refused(f"cannot write {path}: there is no directory {path.parent}")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise Refused(f"cannot write {path}: permission denied")


def _check_reachable(url: str) -> None:
    """Knocks once, because a mistyped address is better told in one line than as so many failed requests."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, _port(parts)), CONNECT_TIMEOUT).close()
    except OSError as exc:
        raise Refused(f"cannot reach {url}: {exc.strerror or exc}", status=1) from None
