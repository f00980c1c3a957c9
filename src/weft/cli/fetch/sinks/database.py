"""An SQLite database of results: one row for each URL, the newest.

Invariant: a batch is one transaction, so a crash leaves all of it or nothing; write-ahead logging lets others read
meanwhile. Implements ``Sink``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from weft.cli.fetch.model import Refused, Result, SinkError
from weft.cli.fetch.sinks.known import among
from weft.cli.fetch.sinks.records import headers_json

__all__ = ["Database"]

VERSION = 1  # of the schema, kept in user_version
BUSY = 30.0  # seconds that somebody else may hold the database

SCHEMA = """
CREATE TABLE results (
    url TEXT PRIMARY KEY,    -- as the user wrote it
    ok INTEGER NOT NULL,     -- 1: an answer came whole, with a status below 400
    line INTEGER,            -- in the file of URLs
    status INTEGER,
    final_url TEXT,          -- after redirects
    started REAL NOT NULL,   -- seconds since 1970
    seconds REAL NOT NULL,   -- until the body was complete
    first_byte REAL,         -- seconds until the answer began
    size INTEGER NOT NULL,   -- bytes of the body, decoded
    error TEXT,              -- class of the error
    message TEXT,
    headers TEXT,            -- JSON: a list of pairs
    charset TEXT,            -- of the body, as the headers name it
    file TEXT,               -- where the body was written
    body BLOB
)
"""
COLUMNS = 15


class Database:
    """Writes results to a database.

    Args:
        file: its name; it is made if it is not there.
        keep_body: whether bodies are kept.

    Raises:
        Refused: when it cannot be opened, or is something else.
    """

    def __init__(self, file: str, *, keep_body: bool = True) -> None:
        self._name = file
        self._keep_body = keep_body
        try:
            self._database = sqlite3.connect(file, timeout=BUSY, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as exc:
            raise Refused(f"cannot open {file}: {exc}") from None
        try:
            self._prepare()
        except BaseException as exc:
            self._database.close()
            if isinstance(exc, sqlite3.Error):
                raise Refused(f"cannot use {file}: {exc}") from None
            raise

    def done(self, urls: Sequence[str]) -> set[str]:
        try:
            return among(self._database, "SELECT url FROM results WHERE ok = 1 AND url IN", urls)
        except sqlite3.Error as exc:
            raise SinkError(f"cannot read {self._name}: {exc}") from exc

    def write(self, results: Sequence[Result]) -> None:
        marks = ",".join("?" * COLUMNS)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(f"INSERT OR REPLACE INTO results VALUES ({marks})", map(self._row, results))
            self._database.execute("COMMIT")
        except sqlite3.Error as exc:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise SinkError(f"cannot write {self._name}: {exc}") from exc

    def close(self) -> None:
        self._database.close()

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version not in (0, VERSION) or (version == 0 and tables) or (version == VERSION and "results" not in tables):
            raise Refused(f"{self._name} is a database of something else; name another file")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")  # with WAL: a power cut loses commits, never the file
        if version == 0:
            self._database.executescript(f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA user_version = {VERSION}; COMMIT")

    def _row(self, each: Result) -> tuple[object, ...]:
        return (each.item.url, each.ok, each.item.line, each.status, each.final_url, each.started, each.seconds,
                each.first_byte, each.size, each.error, each.message, headers_json(each.headers), each.charset,
                each.file, each.body if self._keep_body else None)  # fmt: skip
