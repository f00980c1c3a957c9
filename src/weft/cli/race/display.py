"""Shows a race while it runs: live bars in a terminal, and plain lines anywhere else.

Invariant: all of this goes to stderr, so that stdout carries the table and nothing else.
Called by the race; the rows are updated from ``processes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from weft.cli.race.processes import Row

__all__ = ["Display"]

REFRESH = 12  # times a second; each redraw takes time from a machine that is being measured


class Display:
    """The screen of a race."""

    def __init__(self, heading: str) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._console.print(heading, markup=False)

    @contextmanager
    def group(self, count: int, titles: Sequence[str]) -> Iterator[Sequence[Row]]:
        """Shows, inside the block, the contenders with these titles, who all have so many requests to send."""
        name = f"{count} requests" if count > 1 else "1 request"
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield [_Line(self._console, f"{name}, {title}") for title in titles]
            return
        self._console.print(f"\n[bold]{name}[/]")
        columns = (
            TextColumn("  {task.description:<29}"),
            BarColumn(bar_width=28, complete_style="cyan", finished_style="green"),
            _Figures(),
        )
        with Progress(*columns, console=self._console, refresh_per_second=REFRESH) as progress:
            yield [_Bar(progress, progress.add_task(title, total=count, figures="")) for title in titles]


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, failed: int, seconds: float) -> None:
        self._progress.update(self._task, completed=done, figures=f"{done:>5} {seconds:7.2f} s{_failures(failed)}")

    def finish(self, seconds: float, failed: int) -> None:
        self.update(int(self._progress.tasks[self._task].total or 0), failed, seconds)

    def fail(self, reason: str) -> None:
        self._progress.update(self._task, figures=reason)


class _Line:
    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title

    def update(self, done: int, failed: int, seconds: float) -> None:
        pass  # a log wants the end, not the way

    def finish(self, seconds: float, failed: int) -> None:
        self._console.print(f"{self._title}: {seconds:.2f} s{_failures(failed)}", markup=False)

    def fail(self, reason: str) -> None:
        self._console.print(f"{self._title}: {reason}", markup=False)


class _Figures(ProgressColumn):
    """What stands behind a bar."""

    max_refresh = None

    def render(self, task: Task) -> Text:
        return Text(task.fields["figures"], no_wrap=True, overflow="ellipsis")


def _failures(failed: int) -> str:
    return f", {failed} failed" if failed else ""
