"""The report of a run: what was wrong, in sections, as text or JSON; nothing when all was well.

Owns the table of sections. Each part of weft that finds something adds one by ``add_section``; one that has nothing to
say is left out. The one invariant: a report is made of what was found before, and makes nothing happen. ``weft run``
writes it when the program has ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO

__all__ = ["add_section", "collect", "render_json", "render_text", "write"]

_sections: dict[str, Callable[[], list[Any]]] = {}


def add_section(name: str, entries: Callable[[], list[Any]]) -> None:
    """Add a section, or replace the one of that name.

    Args:
        name: what the section is about, in the words of its heading.
        entries: called when the report is made; each thing that it returns is a line (by ``str``), and in JSON what a
            dataclass or a named tuple has, or ``to_json()`` returns.
    """
    _sections[name] = entries


def collect() -> dict[str, list[Any]]:
    """The sections that have something to say; an error in one is what it says."""
    found = {}
    for name, entries in _sections.items():
        try:
            found[name] = list(entries())
        except Exception as error:
            found[name] = [f"this section could not be made: {error!r}"]
    return {name: entries for name, entries in found.items() if entries}


def render_text(found: dict[str, list[Any]]) -> str:
    """A heading for each section, and a line for each entry."""
    lines = ["weft: what was wrong in this run"]
    for name, entries in found.items():
        lines.append(f"{name}:")
        lines += [f"  - {entry}" for entry in entries]
    return "\n".join(lines) + "\n"


def render_json(found: dict[str, list[Any]]) -> str:
    """One line of JSON: an object with a list for each section; ``{}`` when all was well."""
    return json.dumps({name: [_plain(entry) for entry in entries] for name, entries in found.items()}) + "\n"


def _plain(entry: Any) -> Any:
    """What JSON can say of an entry."""
    if hasattr(entry, "to_json"):
        return entry.to_json()
    if is_dataclass(entry) and not isinstance(entry, type):
        return {**_plain(asdict(entry)), "text": str(entry)}
    if hasattr(entry, "_asdict"):
        return _plain(entry._asdict())
    if isinstance(entry, dict):
        return {str(key): _plain(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_plain(value) for value in entry]
    return entry if isinstance(entry, str | int | float | bool | None) else str(entry)


def write(form: str, path: str | None) -> None:
    """Write the report.

    Args:
        form: "text" or "json". A text is only written when something was wrong; JSON always, so that a file is new.
        path: the file; None for standard error.
    """
    found = collect()
    if form == "text" and not found and path is None:
        return
    text = render_json(found) if form == "json" else render_text(found) if found else ""
    if path is None:
        _put(sys.stderr, text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _put(stream: TextIO | None, text: str) -> None:
    if stream is not None:  # there is none where the descriptor was closed at the start
        stream.write(text)
        stream.flush()


def _lost() -> list[Any]:
    lost = sys.modules.get("weft.watch.lost")
    if lost is None:
        return []
    lost.record_unread()
    return list(lost.findings())


def _stalls() -> list[Any]:
    """What the stall watch has, where it is part of this weft and was needed."""
    worst = getattr(sys.modules.get("weft.watch"), "worst", None)
    return list(worst()) if worst is not None else []


add_section("stalls", _stalls)
add_section("lost work", _lost)
