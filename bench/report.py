"""Tables of results, for a terminal and for ``docs/benchmarks.md``, from the same cells.

The invariant: everything here is a function of the samples alone, so a page made from committed data can be checked
against it. A cell is the median over the rounds with the lowest and highest round; a ratio is the median of the
ratios taken per round, always the way round that more than 1 means that weft (the subject of the case's field) is
better. Cases with few contenders share tables with a column for each; a field that is ``tall`` has a table per case.
Called by ``__main__`` and ``page``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.model import CASES, Aim, Case, Metric
from bench.stats import Spread, advantage, spread
from bench.store import CaseResult

PROJECT = "weft"
ABSENT = "-"

Table = list[list[str]]


@dataclass(frozen=True)
class Standing:
    """How the subject stands against one other contender in one case."""

    case: Case
    rival: str
    ratio: Spread

    @property
    def verdict(self) -> str:
        """``ahead`` when every round was better, ``behind`` when every round was worse, else ``level``."""
        if self.ratio.low > 1:
            return "ahead"
        return "behind" if self.ratio.high < 1 else "level"


def number(value: float) -> str:
    """Three or four digits, with a separator for thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(values: Sequence[float | None]) -> str:
    """``median (low-high)``."""
    found = spread(values)
    if found is None:
        return ABSENT
    return f"{number(found.median)} ({number(found.low)}-{number(found.high)})"


def ratio_cell(ratio: Spread | None) -> str:
    """``2.95x (2.90-3.01)``."""
    return ABSENT if ratio is None else f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"


def known(results: dict[str, CaseResult]) -> Iterator[tuple[Case, CaseResult]]:
    """The results of cases that still exist, in the order of registration."""
    for name, case in CASES.items():
        if name in results:
            yield case, results[name]


def groups(results: dict[str, CaseResult]) -> dict[str, list[tuple[Case, CaseResult]]]:
    """The results by group of cases."""
    found: dict[str, list[tuple[Case, CaseResult]]] = {}
    for case, result in known(results):
        found.setdefault(case.group, []).append((case, result))
    return found


def took_part(rows: Iterable[tuple[Case, CaseResult]]) -> list[str]:
    """The contenders of some results in the order of their fields, and before them those that have left the field."""
    rows = list(rows)
    names = {name for _, result in rows for name in result.rounds}
    floors = dict.fromkeys(floor.name for case, _ in rows for floor in case.field.floors)
    order = dict.fromkeys([*floors, *(one.name for case, _ in rows for one in case.field.contenders)])
    return sorted(names - set(order)) + [name for name in order if name in names]


def standing(case: Case, result: CaseResult, rival: str, metric: Metric | None = None) -> Standing | None:
    """The subject against ``rival`` by a metric (the headline); None when one of them has no sample."""
    metric = metric or case.headline
    ours, theirs = result.values(case.field.subject, metric.key), result.values(rival, metric.key)
    ratio = advantage(ours, theirs, more_is_better=metric.more_is_better)
    return None if ratio is None else Standing(case, rival, ratio)


def tables(rows: Sequence[tuple[Case, CaseResult]]) -> list[Table]:
    """The tables of a group: one per metric that is compared, or one per case of a tall field."""
    tall = [ranking(case, result) for case, result in rows if case.field.tall]
    return tall + comparisons([(case, result) for case, result in rows if not case.field.tall])


def comparisons(rows: Sequence[tuple[Case, CaseResult]]) -> list[Table]:
    """One table per metric that is compared."""
    metrics = dict.fromkeys(metric for case, _ in rows for metric in case.compared)
    return [comparison(rows, metric) for metric in metrics]


def comparison(rows: Sequence[tuple[Case, CaseResult]], metric: Metric) -> Table:
    """One row per case: a metric of every contender, and how many times better the subject is."""
    rows = [(case, result) for case, result in rows if metric in case.compared]
    names = took_part(rows)
    field = rows[0][0].field
    with_ratios = field.subject in names
    peers = [peer for peer in field.peers if peer in names] if with_ratios else []
    with_aims = with_ratios and any(metric == case.headline for case, _ in rows)
    head = [f"{rows[0][0].group}, {metric.unit}", *names, *(f"{field.subject} vs {peer}" for peer in peers)]
    table = [head + (["aim"] if with_aims else [])]
    for case, result in rows:
        line = [case.title, *(cell(result.values(name, metric.key)) for name in names)]
        for peer in peers:
            found = standing(case, result, peer, metric)
            line.append(ratio_cell(found.ratio if found else None))
        if with_aims:
            line.append(", ".join(aim_cell(case, result, aim) for aim in case.aims))
        table.append(line)
    return table


def ranking(case: Case, result: CaseResult) -> Table:
    """One row per contender: all metrics of a case, how many times better the subject is, and what it was to reach."""
    subject, names = case.field.subject, took_part([(case, result)])
    compared = case.compared if subject in names else ()
    head = [case.title, *(metric.unit for metric in case.metrics)]
    table = [[*head, *(f"{subject} vs it, {metric.unit}" for metric in compared), *(["aim"] if compared else [])]]
    for name in names:
        line = [name, *(_full_or_middle(case, metric, result.values(name, metric.key)) for metric in case.metrics)]
        for metric in compared:
            found = standing(case, result, name, metric) if name != subject else None
            line.append(ratio_cell(found.ratio if found else None))
        if compared:
            aims = [aim for aim in case.aims if (aim.rival or subject) == name]
            line.append(", ".join(f"{case.metric(aim.key).unit} {aim_cell(case, result, aim)}" for aim in aims))
        table.append(line)
    return table


def _full_or_middle(case: Case, metric: Metric, values: Sequence[float | None]) -> str:
    if metric in case.compared:
        return cell(values)
    found = spread(values)
    return number(found.median) if found else ABSENT


def summaries(rows: Sequence[tuple[Case, CaseResult]]) -> list[Table]:
    """A summary for each subject that was measured: event loops are not compared with clients."""
    subjects = dict.fromkeys(case.field.subject for case, _ in rows)
    parts = ([row for row in rows if row[0].field.subject == subject] for subject in subjects)
    return [summary(part) for part in parts if any(case.field.subject in result.rounds for case, result in part)]


def summary(rows: Sequence[tuple[Case, CaseResult]]) -> Table:
    """One row per case: the median of its main metric for the subject and each peer, and how they compare."""
    subject, peers = rows[0][0].field.subject, rows[0][0].field.peers
    table = [["", *peers, subject, *(f"{subject} vs {peer}" for peer in peers)]]
    for case, result in rows:
        metric = case.headline
        middles = [spread(result.values(name, metric.key)) for name in (*peers, subject)]
        ratios = [standing(case, result, peer) for peer in peers]
        table.append(
            [
                f"{case.title}, {metric.unit}",
                *(number(found.median) if found else ABSENT for found in middles),
                *(f"{one.ratio.median:.2f}x" if one else ABSENT for one in ratios),
            ]
        )
    return table


def aim_cell(case: Case, result: CaseResult, aim: Aim) -> str:
    """What is aimed at and, where it was measured, whether it is met: by the median."""
    metric = case.metric(aim.key)
    if aim.rival is not None:
        found = standing(case, result, aim.rival, metric)
        wanted, reached = f"{aim.value:g}x", found.ratio.median - aim.value if found else None
    else:
        own = spread(result.values(case.field.subject, metric.key))
        wanted = f"{'≥' if metric.more_is_better else '≤'} {number(aim.value)}"
        reached = None if own is None else (own.median - aim.value) * (1 if metric.more_is_better else -1)
    return wanted if reached is None else f"{wanted}: {'met' if reached >= 0 else 'missed'}"


def detail_table(rows: Sequence[tuple[Case, CaseResult]]) -> Table:
    """One row per case and contender with the medians of all its metrics, where the tables of the group lack some."""
    detailed = [(case, result) for case, result in rows if len(case.metrics) > 1 and not case.field.tall]
    if not detailed:
        return []
    metrics: dict[str, Metric] = {metric.key: metric for case, _ in detailed for metric in case.metrics}
    table = [["case", "contender", *(metric.unit for metric in metrics.values())]]
    for case, result in detailed:
        for name in took_part([(case, result)]):
            middles = (spread(result.values(name, key)) for key in metrics)
            table.append([case.title, name, *(number(found.median) if found else ABSENT for found in middles)])
    return table


def not_ahead(results: dict[str, CaseResult]) -> list[Standing]:
    """Every (case, rival) in which the subject is not ahead in every round, the worst first."""
    found = []
    for case, result in known(results):
        for rival in case.field.rivals:
            one = standing(case, result, rival)
            if one is not None and one.verdict != "ahead":
                found.append(one)
    return sorted(found, key=lambda one: one.ratio.median)


def as_text(table: Table) -> str:
    """A table for a terminal, columns aligned."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for index, line in enumerate(table):
        first, *rest = line
        cells = [first.ljust(widths[0]), *(word.rjust(width) for word, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
        if index == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """The same table in Markdown."""
    head, *rows = table
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))


def print_all(results: dict[str, CaseResult]) -> None:
    """Everything, on standard output."""
    for rows in groups(results).values():
        for table in tables(rows):
            print("\n" + as_text(table))
        details = detail_table(rows)
        if details:
            print("\n" + as_text(details))
    behind = not_ahead(results)
    if behind:
        print(f"\nwhere {PROJECT} is not ahead:")
        for one in behind:
            print(f"  {one.verdict:6}  {one.case.name}  {ratio_cell(one.ratio)} of {one.rival}")
