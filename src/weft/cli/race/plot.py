"""Draws the results of a race as bars: SVG by itself, PNG through matplotlib.

Each number of requests is a group with a scale of its own, the slowest contender filling the width: times differ by a
factor of 100 between groups, and the comparison is within one. Both formats draw from the same ``Group`` list.
Invariant: no time is drawn that was not measured; only the speed-up beside a bar may be reckoned, and is marked then.
Called by ``report``.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from weft.cli.race.contenders import STRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Drawable", "draw", "svg"]

# Mid-tones that stand out on white and on black alike.
INK = "#59636e"
STYLE = f"""
text {{ font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: {INK} }}
.title {{ font-size: 17px; font-weight: 600 }} .small {{ font-size: 12px }} .strong {{ font-weight: 600 }}
.track {{ fill: #8c96a3; opacity: .13 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #a9b3bf }} }}
"""
COLOURS = {
    "sequential": "#8c96a3",
    "threads": "#d08a2e",
    "asyncio": "#5b8fd6",
    "uvloop": "#3fa38f",
    "weft": "#d6497b",
    "httpx2": "#7d86d9",
    "pyreqwest": "#b0713f",
    "weft.http": "#d6497b",
}
WIDTH, BAR_FROM, BAR_MOST = 760, 236, 350  # px: names left of the bars, and right of them, right-aligned at
TIME_AT, SPEEDUP_AT = 664, 744  # these, the time and the speed-up
ROW, BAR, TITLE, GROUP_TITLE, GROUP_GAP = 26, 16, 58, 26, 14  # px, heights
EXPLANATION = "Time for all of them (shorter is better), and speed-up. Each group has its own scale."
FOOTNOTE = "* against one after another, reckoned from its largest run"


class Drawable(Protocol):
    """What of a result is drawn."""

    contender: str
    title: str
    requests: int
    seconds: float | None
    speedup: float | None
    speedup_extrapolated: bool


class Bar(NamedTuple):
    """One contender, its time also as a share of the longest."""

    title: str
    colour: str
    share: float
    time: str
    speedup: str
    strong: bool


class Group(NamedTuple):
    """The contenders with the same number of requests."""

    title: str
    bars: list[Bar]


def draw(results: Sequence[Drawable], title: str, path: Path) -> None:
    """Draws the results into a file, whose suffix (``.svg`` or ``.png``) chooses the format.

    Raises:
        OSError: when the file cannot be written.
        ImportError: for a PNG, when matplotlib is not installed.
    """
    if path.suffix.lower() == ".svg":
        path.write_text(svg(results, title), encoding="utf-8")
    else:
        _draw_png(results, title, path)


def svg(results: Sequence[Drawable], title: str) -> str:
    """Gives the drawing as an SVG document. It has no background, and suits a light page as well as a dark one."""
    groups = _groups(results)
    note = _footnote(results)
    rows = sum(GROUP_TITLE + ROW * len(group.bars) + GROUP_GAP for group in groups)
    height = TITLE + rows + (24 if note else 6)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="16" y="28">{escape(title)}</text>',
        f'<text class="small" x="16" y="46">{EXPLANATION}</text>',
    ]
    y = TITLE
    for group in groups:
        y += GROUP_TITLE
        parts.append(f'<text class="strong" x="16" y="{y - 9}">{escape(group.title)}</text>')
        for bar in group.bars:
            parts += _svg_bar(bar, y)
            y += ROW
        y += GROUP_GAP
    if note:
        parts.append(f'<text class="small" x="16" y="{y + 10}">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _svg_bar(bar: Bar, y: int) -> list[str]:
    top, base, strong = y + (ROW - BAR) // 2, y + ROW // 2 + 5, ' class="strong"' if bar.strong else ""
    length = max(2.0, bar.share * BAR_MOST)
    return [
        f'<text{strong} x="{BAR_FROM - 12}" y="{base}" text-anchor="end">{escape(bar.title)}</text>',
        f'<rect class="track" x="{BAR_FROM}" y="{top}" width="{BAR_MOST}" height="{BAR}" rx="3"/>',
        f'<rect x="{BAR_FROM}" y="{top}" width="{length:.1f}" height="{BAR}" rx="{min(3, length / 2):.1f}" '
        f'fill="{bar.colour}"/>',
        f'<text{strong} x="{TIME_AT}" y="{base}" text-anchor="end">{bar.time}</text>',
        f'<text{strong} x="{SPEEDUP_AT}" y="{base}" text-anchor="end">{bar.speedup}</text>',
    ]


def _draw_png(results: Sequence[Drawable], title: str, path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    groups = _groups(results)
    height = 1.5 + sum(0.62 + 0.31 * len(group.bars) for group in groups)
    figure = Figure(figsize=(9.5, height), layout=ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.12))
    left = {"x": 0.02, "ha": "left"}
    figure.suptitle(f"{title}\n", fontsize=14, fontweight="bold", color=INK, **left)
    note = _footnote(results)
    figure.supxlabel(EXPLANATION + (f"\n{note}" if note else ""), fontsize=9, color=INK, **left)
    ratios = [len(group.bars) + 0.6 for group in groups]
    all_axes = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for axes, group in zip(all_axes[:, 0], groups, strict=True):
        _draw_group(axes, group)
    figure.savefig(path, dpi=160)


def _draw_group(axes: Axes, group: Group) -> None:
    rows = range(len(group.bars))
    axes.barh(rows, [1] * len(group.bars), height=0.62, color="#eef0f3")
    shares = [max(bar.share, 0.004) for bar in group.bars]
    axes.barh(rows, shares, height=0.62, color=[bar.colour for bar in group.bars])
    axes.set_title(group.title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_yticks(rows, [bar.title for bar in group.bars], color=INK)
    for row, (bar, label) in enumerate(zip(group.bars, axes.get_yticklabels(), strict=True)):
        weight = "bold" if bar.strong else "normal"
        label.set_fontweight(weight)
        for place, text in ((1.13, bar.time), (1.31, bar.speedup)):
            axes.text(place, row, text, va="center", ha="right", color=INK, fontweight=weight)
    axes.set_xlim(0, 1.32)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)


def _groups(results: Sequence[Drawable]) -> list[Group]:
    groups = []
    for count, members in groupby(results, key=lambda each: each.requests):
        timed = [(each, each.seconds) for each in members if each.seconds is not None]
        longest = max((seconds for _, seconds in timed), default=1.0) or 1.0
        bars = [_bar(each, seconds, longest) for each, seconds in timed]
        groups.append(Group(f"{count} requests" if count > 1 else "1 request", bars))
    return groups


def _bar(each: Drawable, seconds: float, longest: float) -> Bar:
    time = f"{seconds:.2f} s" if seconds >= 0.995 else f"{seconds * 1e3:.0f} ms"
    speedup = "" if each.speedup is None else f"{each.speedup:.1f}×{'*' * each.speedup_extrapolated}"
    return Bar(each.title, COLOURS[each.contender], seconds / longest, time, speedup, each.contender in STRONG)


def _footnote(results: Sequence[Drawable]) -> str:
    return FOOTNOTE if any(each.speedup_extrapolated for each in results) else ""
