"""The command line of ``weft fetch``, checked as far as it can be before anything is opened or sent.

Invariant: an ``Options`` is plain data that can be pickled, and its parts do not contradict each other.
Called by the command's ``main``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from weft.cli.fetch import values
from weft.cli.fetch.model import Refused

__all__ = ["Options", "parse"]

STANDARD = "-"  # standard input or output
STANDARD_INPUT = 0
CONCURRENCY = 100
RETRIES = 2
HELD = 64 << 20  # bytes of a body that is kept in memory, unless told otherwise; curl has no limit, browsers die of it
BODIES = ("auto", "text", "base64", "none")


@dataclass(frozen=True)
class Options:
    """What the user wants. Times are in seconds; 0 stands for no limit, None for the client's own default."""

    urls: tuple[str, ...] = ()
    file: str | None = None  # "-": standard input
    concurrency: int = CONCURRENCY
    per_host: int | None = None
    rate: float | None = None  # requests per second
    retries: int = RETRIES
    timeout: float | None = None
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    idle_timeout: float | None = None
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    data: bytes | None = None
    redirects: bool = True
    verify: bool = True
    proxy: str | None = None
    output: str | None = None  # "-": standard output
    out_dir: str | None = None
    db: str | None = None
    body: str = "auto"
    show_headers: bool = False
    max_size: int | None = None  # bytes; None: no limit
    resume: bool = False
    quiet: bool = False
    workers: int | None = None  # processes; None: this one
    cluster: str | None = None  # the address of a Dask scheduler


class _Parser(argparse.ArgumentParser):
    """Refuses in one line: the usage text of so many options would hide what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise Refused(message)


def parse(arguments: Sequence[str]) -> Options:
    """Reads the words after ``weft fetch``.

    Raises:
        Refused: with a text that names what is wrong and what would be right.
        SystemExit: after ``--help``.
    """
    given = _parser().parse_intermixed_args(arguments)
    _check_sources(given)
    _check_sinks(given)
    _check_workers(given)
    data, headers = _request_body(given)
    return Options(
        urls=tuple(given.urls),
        file=given.file,
        concurrency=given.concurrency,
        per_host=given.per_host,
        rate=given.rate,
        retries=given.retries,
        timeout=given.timeout,
        connect_timeout=given.connect_timeout,
        first_byte_timeout=given.first_byte_timeout,
        idle_timeout=given.idle_timeout,
        method=given.method or ("GET" if data is None else "POST"),
        headers=headers,
        data=data,
        redirects=not given.no_redirects,
        verify=not given.insecure,
        proxy=given.proxy,
        output=STANDARD if given.output is given.out_dir is given.db is None else given.output,
        out_dir=given.out_dir,
        db=given.db,
        body=given.body or "auto",
        show_headers=given.show_headers,
        max_size=given.max_size or (HELD if given.max_size is given.out_dir is None else None),
        resume=given.resume,
        quiet=given.quiet,
        workers=given.workers,
        cluster=given.cluster,
    )


# -- the options, by what they are about


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weft fetch",
        usage="weft fetch [URL...] [-f FILE] [OPTION...]",
        allow_abbrev=False,
        description="Fetches many URLs at once: from arguments, a file or standard input, to JSON lines, files or "
        "SQLite.",
        epilog="TIME is 10, 10s, 500ms or 2m, and 0 for no limit. SIZE is 1000, 64K, 10M or 2G. Exit status: 0 when "
        "all succeeded, 1 when some failed, 2 for a command line that makes no sense.",
    )
    parser.add_argument("urls", nargs="*", metavar="URL", help="what to fetch")
    parser.add_argument(
        "-f", "--file", metavar="FILE", help="a URL per line, '#' starts a comment; - is standard input"
    )
    _add_pace(parser.add_argument_group("pace"))
    _add_request(parser.add_argument_group("request"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_pace(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-c", "--concurrency", type=values.concurrency, default=CONCURRENCY, metavar="N",
        help=f"so many requests at once; default: {CONCURRENCY}")  # fmt: skip
    add("--per-host", type=values.count, metavar="N", help="at most so many connections to one host; default: no limit")
    add("--workers", type=values.count, metavar="N", help="share the work among so many processes; default: this one")
    add("--cluster", metavar="ADDRESS", help="share it among a Dask cluster: the address of its scheduler")
    add("--rate", type=values.rate, metavar="N", help="start at most so many requests per second")
    add("--retries", type=values.whole, default=RETRIES, metavar="N",
        help=f"try again so often, where that is safe and may help; default: {RETRIES}")  # fmt: skip
    add("--timeout", type=values.seconds, metavar="TIME", help="for a whole request, its body included")
    add("--connect-timeout", type=values.seconds, metavar="TIME", help="until the connection is made")
    add("--first-byte-timeout", type=values.seconds, metavar="TIME", help="until the answer begins")
    add("--idle-timeout", type=values.seconds, metavar="TIME", help="between two pieces of the answer")


def _add_request(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-X", "--method", type=values.method, metavar="METHOD", help="default: GET, or POST with a body")
    add("-H", "--header", action="append", type=values.header, default=[], metavar="'NAME: VALUE'", dest="headers",
        help="a header to send; may be given several times")  # fmt: skip
    add("-d", "--data", metavar="BODY", help="a body to send; @FILE takes it from a file")
    add("--json", metavar="JSON", help="the same, with the content type of JSON")
    add("--no-redirects", action="store_true", help="a redirect is the answer")
    add("-k", "--insecure", action="store_true", help="take any certificate")
    add("--proxy", type=values.proxy, metavar="URL", help="an HTTP or SOCKS5 proxy, instead of the environment's")


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="JSON lines; default: standard output, unless one of the next two is given",
    )
    add("--out-dir", metavar="DIR", help="each body to a file of its own")
    add("--db", metavar="FILE", help="an SQLite database")
    add("--body", choices=BODIES, help="how JSON lines show the body; default: text where it is text, else base64")
    add("--show-headers", action="store_true", help="with the response's headers")
    add("--max-size", type=values.size, metavar="SIZE",
        help="a larger body is a failure; default: 64M, and no limit with --out-dir")  # fmt: skip
    add("--resume", action="store_true", help="skip what an earlier run has fetched to the same -o, --out-dir or --db")
    add("-q", "--quiet", action="store_true", help="no progress and no summary")


# -- what goes together


def _check_sources(given: argparse.Namespace) -> None:
    if not given.urls and given.file is None:
        raise Refused("no URLs: name some, or a file of them with -f FILE (- is standard input)")
    if given.file in (None, STANDARD):
        return
    path = Path(given.file)
    if path.is_dir():
        raise Refused(f"cannot read {path}: it is a directory")
    if not path.exists():
        raise Refused(f"cannot read {path}: there is no such file")
    for other in (given.output, given.db):
        if other is not None and other != STANDARD and Path(other).exists() and path.samefile(other):
            raise Refused(f"{path} is read from; write the results to another file")


def _check_sinks(given: argparse.Namespace) -> None:
    for name in (given.output, given.db):
        if name is None or name == STANDARD:
            continue
        path = Path(name)
        if path.is_dir():
            raise Refused(f"cannot write {path}: it is a directory")
        if not path.parent.is_dir():
            raise Refused(f"cannot write {path}: there is no directory {path.parent}")
    if given.output is not None and given.db is not None and Path(given.output).resolve() == Path(given.db).resolve():
        raise Refused("-o and --db name the same file")
    if given.db == STANDARD:
        raise Refused("--db needs a file; a database cannot go to standard output")
    if given.resume and given.out_dir is given.db is None and given.output in (None, STANDARD):
        raise Refused("--resume needs to know what is done: name the -o FILE, --out-dir or --db of the earlier run")
    if given.out_dir is not None and given.body not in (None, "none"):
        raise Refused(f"--body {given.body} and --out-dir exclude each other: the bodies are in the files")
    if given.output is given.out_dir is None and given.db is not None and given.body in ("text", "base64"):
        raise Refused(f"--body {given.body} is for JSON lines; a database takes the bytes as they are")


def _check_workers(given: argparse.Namespace) -> None:
    if given.workers is not None and given.cluster is not None:
        raise Refused("--workers and --cluster exclude each other: the work goes to processes here, or to the cluster")
    if given.cluster is not None and ":" not in given.cluster:
        raise Refused(f"--cluster {given.cluster} is not an address such as tcp://scheduler:8786")
    if given.cluster is not None and given.out_dir is not None:
        raise Refused("--cluster and --out-dir exclude each other: the files would be on the machines of the cluster")
    for name in ("concurrency", "per_host"):
        if given.workers is not None and (getattr(given, name) or given.workers) < given.workers:
            option = "--per-host" if name == "per_host" else "-c"
            raise Refused(f"{option} {getattr(given, name)} cannot be shared out among --workers {given.workers}")


def _request_body(given: argparse.Namespace) -> tuple[bytes | None, tuple[tuple[str, str], ...]]:
    """The body to send, and the headers with what the body adds to them."""
    headers = tuple(given.headers)
    if given.data is not None and given.json is not None:
        raise Refused("-d and --json exclude each other")
    text, kind = given.data, "application/x-www-form-urlencoded"  # curl's default for -d
    if given.json is not None:
        text, kind = given.json, "application/json"
    if text is None:
        return None, headers
    data = _content(text, given.file)
    if given.json is not None:
        values.check_json(data)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers += (("Content-Type", kind),)
    return data, headers


def _content(text: str, source: str | None) -> bytes:
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    if text == "@-" and source == STANDARD:
        raise Refused("standard input cannot be both the URLs and the body")
    try:
        with open(STANDARD_INPUT if text == "@-" else text[1:], "rb", closefd=text != "@-") as stream:
            return stream.read()
    except OSError as exc:
        raise Refused(f"cannot read {text[1:]}: {exc.strerror or exc}") from None
