"""A set of URLs of any size in constant memory: a temporary database, which SQLite keeps in a nameless file.

Invariant: exact, no digest stands for a URL. Used by the sink of JSON lines, whose file has no index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

__all__ = ["Known", "among"]

CACHE = 8 << 10  # KiB of the temporary database that stay in memory
BATCH = 1000  # URLs that are added at a time
VARIABLES = 500  # in one query; SQLite before 3.32 takes 999


class Known:
    """URLs that an earlier run has fetched."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (f"PRAGMA cache_size = -{CACHE}", "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF",
                          "CREATE TABLE known (url TEXT PRIMARY KEY) WITHOUT ROWID", "BEGIN"):  # fmt: skip
            self._database.execute(statement)
        self._added: list[tuple[str]] = []

    def add(self, url: str) -> None:
        """Takes in a URL."""
        self._added.append((url,))
        if len(self._added) >= BATCH:
            self._flush()

    def among(self, urls: Sequence[str]) -> set[str]:
        """Those of the URLs that are known."""
        self._flush()
        return among(self._database, "SELECT url FROM known WHERE url IN", urls)

    def close(self) -> None:
        """Ends the set; its file goes with it."""
        self._database.close()

    def _flush(self) -> None:
        added, self._added = self._added, []
        self._database.executemany("INSERT OR IGNORE INTO known VALUES (?)", added)


def among(database: sqlite3.Connection, query: str, urls: Sequence[str]) -> set[str]:
    """What a query that ends in ``IN`` gives for all of the URLs."""
    found: set[str] = set()
    for start in range(0, len(urls), VARIABLES):
        part = urls[start : start + VARIABLES]
        rows = database.execute(f"{query} ({','.join('?' * len(part))})", part)
        found.update(url for (url,) in rows)
    return found
