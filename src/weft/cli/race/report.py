"""What a race has shown: results, compared with one after another, as a table for people and as JSON for programs.

Invariant: a figure that was not measured is either marked as such or not given. Called by the race.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from weft._version import __version__
from weft.cli.race.clients import Job
from weft.cli.race.contenders import CONTENDERS, STRONG, Contender, available, missing
from weft.cli.race.options import Options, Refused

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Result", "compare", "heading", "print_table", "result", "write_files"]

WIDTH = 80  # columns that the table needs; a narrower terminal breaks its lines, rather than that figures are cut off
MARK = "*"  # on a speed-up that rests on a reckoned time


@dataclass
class Result:
    """One contender with one number of requests. Figures are None where there are none."""

    contender: str
    title: str
    requests: int
    concurrency: int
    seconds: float | None
    requests_per_second: float | None
    cpu_us_per_request: float | None
    peak_threads: int | None
    failed: int
    rounds: int  # of which the quickest is shown
    errors: dict[str, int] = field(default_factory=dict)
    speedup: float | None = None
    speedup_extrapolated: bool = False


def result(contender: Contender, job: Job, measured: dict[str, Any]) -> Result:
    """Makes a result of a worker's last report."""
    count, seconds, cpu = job["requests"], measured.get("seconds"), measured.get("cpu_seconds")
    ways = {"sequential": 1, "threads": job["threads"]}
    return Result(
        contender=contender.key,
        title=contender.title(job["threads"]),
        requests=count,
        concurrency=ways.get(contender.key, count),
        seconds=seconds,
        requests_per_second=count / seconds if seconds else None,
        cpu_us_per_request=None if cpu is None else cpu / count * 1e6,
        peak_threads=measured.get("peak_threads"),
        failed=measured["failed"],
        rounds=measured.get("rounds", 0),
        errors=measured["errors"],
    )


def compare(results: Sequence[Result]) -> None:
    """Fills in how many times as fast as one after another each result is.

    Where that was not run, its time is reckoned from its largest run. A result with failed requests is not compared:
    to fail is often quicker than to succeed.
    """
    base = {r.requests: r.seconds for r in results if r.contender == "sequential" and r.seconds and not r.failed}
    if not base:
        return
    largest = max(base)
    for each in results:
        if each.seconds and not each.failed:
            slow = base.get(each.requests) or base[largest] / largest * each.requests
            each.speedup = slow / each.seconds
            each.speedup_extrapolated = each.requests not in base


def heading(options: Options) -> str:
    """Says what is raced against."""
    return f"GET from {options.url or f'an embedded server that answers after {options.latency * 1e3:g} ms'}"


def versions() -> dict[str, str]:
    """What took part in the race, by name."""
    from importlib.metadata import version

    packages = dict.fromkeys(package for each in CONTENDERS if available(each) for package in each.needs)
    python = {platform.python_implementation(): platform.python_version()}
    return {"weft": __version__} | python | {package: version(package) for package in packages}


def print_table(results: Sequence[Result], options: Options) -> None:
    """Prints the table, and below it what it takes to read it, on stdout."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # µ and × in an ASCII world
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    with console.capture() as capture:
        console.print("", _table(results), "", sep="\n")
        for note in [*_notes(results), _conditions(options)]:
            console.print(note, markup=False, soft_wrap=True)
    print("\n".join(line.rstrip() for line in capture.get().rstrip().split("\n")))


def _table(results: Sequence[Result]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("\nGETs", justify="right")
    table.add_column("\ncontender", no_wrap=True)
    failures = any(each.failed for each in results)
    for name in ("\nseconds", "\nreq/s", "\nspeed-up", "CPU µs\nper GET", "peak\nthreads"):
        table.add_column(name, justify="right", no_wrap=True)
    if failures:
        table.add_column("\nfailed", justify="right")
    for index, each in enumerate(results):
        first = index == 0 or results[index - 1].requests != each.requests
        if first and index:
            table.add_section()
        cells = [str(each.requests), each.title, *_figures(each)]
        if failures:
            cells.append(str(each.failed or ""))
        table.add_row(*cells, style="bold red" if each.failed else "bold" if each.contender in STRONG else "")
    return table


def _figures(each: Result) -> list[str]:
    def show(value: float | None, form: str, unit: str = "") -> str:
        return "–" if value is None else f"{value:{form}}{unit}"

    return [
        show(each.seconds, ".3f" if (each.seconds or 0) < 10 else ".1f"),
        show(each.requests_per_second, ".0f"),
        show(each.speedup, ".1f", "×" + MARK * each.speedup_extrapolated),
        show(each.cpu_us_per_request, ".0f"),
        show(each.peak_threads, "d"),
    ]


def _notes(results: Sequence[Result]) -> list[str]:
    notes = []
    if any(each.speedup_extrapolated for each in results):
        base = max((each for each in results if each.contender == "sequential"), key=lambda each: each.requests)
        assert base.seconds is not None
        reckoned = {each.requests: base.seconds / base.requests * each.requests for each in results
                    if each.speedup_extrapolated}  # fmt: skip
        times = ", ".join(f"{count} in {seconds:.1f} s" for count, seconds in reckoned.items())
        notes.append(f"{MARK} one after another, reckoned from its {base.requests} requests: {times}")
    for each in results:
        for reason, count in Counter(each.errors).most_common(3):
            notes.append(f"failed: {count} of {each.requests}, {each.title}: {reason}")
    return notes


def _conditions(options: Options) -> str:
    parts = [heading(options), f"{os.cpu_count()} cores", *(" ".join(item) for item in versions().items())]
    if absent := missing():
        names = " and ".join(filter(None, (", ".join(absent[:-1]), absent[-1])))
        parts.append(f"without {names}, which {'are' if len(absent) > 1 else 'is'} not installed")
    return ", ".join(parts)


def write_files(results: Sequence[Result], options: Options) -> None:
    """Writes the files that the user wants.

    Raises:
        Refused: when that does not work.
    """
    for path, write in ((options.json, _write_json), (options.plot, _write_plot)):
        if path is None:
            continue
        try:
            write(results, options)
        except OSError as exc:
            raise Refused(f"cannot write {path}: {exc.strerror or exc}", status=1) from None
        print(f"wrote {path}", file=sys.stderr)


def _write_json(results: Sequence[Result], options: Options) -> None:
    assert options.json is not None
    document = {
        "versions": versions(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "server": {"url": options.url} if options.url else {"latency_seconds": options.latency},
        "results": [asdict(each) for each in results],
    }
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_plot(results: Sequence[Result], options: Options) -> None:
    from weft.cli.race import plot

    assert options.plot is not None
    where = options.url or f"{options.latency * 1e3:g} ms latency"
    plot.draw(results, f"GET requests, {where}", options.plot)
