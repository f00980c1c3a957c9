"""What goes through ``weft fetch``: the item that a source gives and the result that a fetch makes of it.

Invariant: both are plain data that can be pickled, so that another process can do the fetching.
Used by every other module of the package; imports none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Item", "Refused", "Result", "SinkError"]

FIRST_BAD_STATUS = 400  # RFC 9110, section 15: from here on the status says that the request failed
RECORD_WEIGHT = 1000  # bytes; about what a result takes besides its body and headers


class Refused(Exception):
    """The command cannot be carried out as given. Carries the one line for the user; the exit status is 2."""


class SinkError(Exception):
    """Results cannot be written any more. Carries the one line for the user; ``__cause__`` is the reason."""


class Item(NamedTuple):
    """One URL to fetch."""

    url: str  # as the user wrote it, without the white space around it
    line: int | None = None  # where it stands in the file; None for an argument
    problem: str | None = None  # why it cannot even be tried


@dataclass(slots=True)
class Result:
    """What became of an item."""

    item: Item
    started: float  # seconds since the epoch
    seconds: float = 0.0  # until the body was complete, or until it failed
    first_byte: float | None = None  # seconds until the status and headers were there
    final_url: str | None = None  # after redirects
    status: int | None = None
    headers: list[tuple[str, str]] | None = None
    size: int = 0  # bytes of the body, decoded
    body: bytes | None = None  # None: not kept
    charset: str | None = None  # as the headers name it
    file: str | None = None  # where the body was written
    error: str | None = None  # name of the exception's class
    message: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the fetch succeeded: an answer came whole, and its status is no error."""
        return self.error is None and self.status is not None and self.status < FIRST_BAD_STATUS

    @property
    def weight(self) -> int:
        """About how many bytes of memory the result takes."""
        return RECORD_WEIGHT + len(self.body or b"")
