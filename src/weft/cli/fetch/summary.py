"""What a run came to, as text: counts, reasons of failures, latencies with their histogram.

Invariant: a figure that was not measured is not given. Called by the command when the run is over.
"""

from __future__ import annotations

from collections.abc import Iterator

from weft.cli.fetch.display import bytes_text, time_text
from weft.cli.fetch.histogram import Histogram
from weft.cli.fetch.model import Result
from weft.cli.fetch.stats import Stats

__all__ = ["summary"]

BAR = 40  # columns of the longest bar
REASONS = 10  # that are named
PERCENTILES = (50, 90, 99, 99.9)
EIGHTHS = " ▏▎▍▌▋▊▉█"


def summary(stats: Stats, stopped: str | None = None) -> str:
    """The text, several lines.

    Args:
        stats: the figures.
        stopped: what to say about the end of a run that was stopped.
    """
    return "\n".join([*_counts(stats, stopped), *_failures(stats), *_latencies(stats.latency)])


def _counts(stats: Stats, stopped: str | None) -> Iterator[str]:
    seconds = stats.seconds
    parts = [f"{stats.done} done", f"{stats.failed} failed"]
    if stats.skipped:
        parts.append(f"{stats.skipped} skipped, done before")
    per_second = f", {stats.finished / seconds:.0f} requests/s, {bytes_text(stats.size / seconds)}/s" if seconds else ""
    yield f"{', '.join(parts)}; {bytes_text(stats.size)} in {time_text(seconds)}{per_second if stats.finished else ''}"
    if stopped is not None:
        yield stopped


def _failures(stats: Stats) -> Iterator[str]:
    for reason, count in stats.reasons.most_common(REASONS):
        yield f"  {count} × {reason}"
    if (others := len(stats.reasons) - REASONS) > 0:
        yield f"  and {others} other reason{'s' * (others > 1)}"
    for sample in stats.samples:
        yield f"  {_where(sample)}{sample.item.url}: {sample.message or f'status {sample.status}'}"
    if stats.failed > len(stats.samples):
        yield f"  and {stats.failed - len(stats.samples)} more"


def _where(sample: Result) -> str:
    return "" if sample.item.line is None else f"line {sample.item.line}: "


def _latencies(latency: Histogram) -> Iterator[str]:
    if not latency.count:
        return
    figures = [("least", latency.least), *((f"p{each:g}", latency.percentile(each)) for each in PERCENTILES)]
    yield "latency: " + ", ".join(f"{name} {time_text(value)}" for name, value in [*figures, ("most", latency.most)])
    rows = list(latency.rows())
    longest = max(count for _, _, count in rows)
    digits = len(str(longest))
    for start, end, count in rows:
        yield f"  {time_text(start):>7} – {time_text(end):>7}  {count:>{digits}} {_bar(count / longest)}".rstrip()


def _bar(fraction: float) -> str:
    eighths = round(fraction * BAR * 8)
    full, rest = divmod(max(eighths, 1 if fraction else 0), 8)
    return EIGHTHS[8] * full + EIGHTHS[rest].strip()
