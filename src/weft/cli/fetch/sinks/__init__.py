"""Where results go: JSON lines, an SQLite database, a directory of bodies.

A sink is any object with the methods of ``Sink``. Invariant: what ``write`` has returned from is where a later
``--resume`` finds it. All methods but the making run in one thread of the sink's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from weft.cli.fetch.model import Result

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes results, and knows those of earlier runs."""

    def done(self, urls: Sequence[str]) -> set[str]:
        """Which of these URLs an earlier run has fetched."""

    def write(self, results: Sequence[Result]) -> None:
        """Writes results.

        Raises:
            SinkError: when that is not possible any more.
        """

    def close(self) -> None:
        """Ends the sink. Writes what is left, if anything is."""
