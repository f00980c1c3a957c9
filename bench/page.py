"""``docs/benchmarks.md`` and the figures of ``README.md``: the text is written by hand, the tables are made here.

The invariant: what stands between a pair of markers is a function of the committed results and of the registered
cases, and nothing outside the markers is touched; so ``--check-docs`` can say whether the page is true.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench import report
from bench.model import CASES, Case
from bench.store import ROOT, CaseResult, Run, committed, results

PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"


def refresh(text: str, path: Path = PAGE) -> str:
    """A page with its generated parts made anew.

    Raises:
        ValueError: a marker is missing.
    """
    sections = {PAGE: {"results": results_section, "cases": cases_section}, README: {"figures": figures_section}}
    for name, section in sections[path].items():
        body = section()
        pattern = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text, found = pattern.subn(lambda match, body=body: f"{match[1]}\n{body}\n\n{match[2]}", text)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{path.name} needs the markers <!-- {name}: ... --> and <!-- end of {name} --> once each")
    return text


def write() -> None:
    """Bring the pages up to date."""
    for path in (PAGE, README):
        path.write_text(refresh(path.read_text(), path))


def is_current() -> bool:
    """Whether the pages say what the committed results say."""
    return all(refresh(text, path) == text for path in (PAGE, README) for text in [path.read_text()])


def results_section() -> str:
    """The tables of every committed results file."""
    parts = [_file_section(runs) for _, runs in committed()]
    return "\n\n".join(parts) if parts else "No results have been committed yet."


def figures_section() -> str:
    """The main cases of the first results file, for those who read one page only: medians, and how weft stands."""
    for _, runs in committed():
        found = results(runs)
        rows = [(case, result) for case, result in report.known(found) if case.quick]
        if tables := report.summaries(rows):
            about = runs[-1]["circumstances"]
            text = "\n\n".join(map(report.as_markdown, tables))
            return f"{text}\n\n{about['python']}, {about['cpu']}; medians."
    return "No results have been committed yet."


def _file_section(runs: list[Run]) -> str:
    newest = runs[-1]["circumstances"]
    found = results(runs)
    parts = [f"### {newest['python']}, {newest['cpu']}, {newest['cores']} cores", *map(_circumstances, runs)]
    for rows in report.groups(found).values():
        parts.extend(report.as_markdown(table) for table in report.tables(rows))
        details = report.detail_table(rows)
        if details:
            parts.append(f"<details><summary>All metrics of {rows[0][0].group} (medians)</summary>\n")
            parts.append(report.as_markdown(details) + "\n\n</details>")
    parts.append(_not_ahead(found))
    return "\n\n".join(parts)


def _circumstances(run: Run) -> str:
    about, settings = run["circumstances"], run["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if name != "asyncio")
    load = " ".join(f"{value:g}" for value in about["load_average"])
    return (
        f"{about['date']}: {len(run['cases'])} cases, {settings['rounds']} rounds; {about['kernel']}, "
        f"{about['machine']}, {versions}; load average at the start {load}."
    )


def _not_ahead(found: dict[str, CaseResult]) -> str:
    behind = report.not_ahead(found)
    title = f"**Where {report.PROJECT} is not ahead** (behind: in every round; level: in some)"
    if not any(case.field.subject in result.rounds for case, result in report.known(found)):
        return f"**{report.PROJECT} was not measured here.**"
    if not behind:
        return f"{title}: nowhere."
    lines = [f"- {one.case.title}: {one.verdict} {one.rival}, {report.ratio_cell(one.ratio)}" for one in behind]
    return f"{title}:\n\n" + "\n".join(lines)


def cases_section() -> str:
    """How each case is measured; cases that are measured alike share a line."""
    alike: dict[str, list[Case]] = {}
    for case in CASES.values():
        alike.setdefault(case.how, []).append(case)
    return "\n".join(f"- {_names(cases)}: {how}" for how, cases in alike.items())


def _names(cases: list[Case]) -> str:
    if len(cases) == 1:
        return f"`{cases[0].name}` ({cases[0].title})"
    first, last = min(names := [case.name for case in cases]), max(names)
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return f"`{first[:same]}*`"
