"""What goes between the engine and a backend: a job, and what each side may ask of the other.

Invariant: a backend reports each job that it was given exactly once: done, failed or lost. It may do so from
inside ``submit``. Everything here is called in the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["Backend", "Job", "Reports"]


class Job:
    """One item on its way.

    Attributes:
        index: its place among the items, from 0.
        item: what the function is called with.
        tries: how often it has failed.
        strikes: how many workers it may have killed.
        alone: whether it has to be sent without others, as one of those it was sent with did harm.
        done: whether ``value`` or ``error`` is there.
    """

    __slots__ = ("alone", "done", "error", "index", "item", "strikes", "tries", "value")

    def __init__(self, index: int, item: Any) -> None:
        self.index = index
        self.item = item
        self.tries = 0
        self.strikes = 0
        self.alone = False
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None


class Reports(Protocol):
    """What a backend tells the engine."""

    def finished(self, job: Job, value: Any) -> None:
        """The function returned."""

    def failed(self, job: Job, error: BaseException, *, final: bool = False) -> None:
        """The function raised; ``final``: trying again cannot help."""

    def lost(self, job: Job) -> None:
        """Nobody knows what became of it: it has to be run again."""

    def room(self) -> None:
        """There may be room for more jobs."""

    def broken(self, error: BaseException) -> None:
        """The backend cannot go on; this is why."""


class Backend(Protocol):
    """Where jobs are run."""

    reports: Reports

    @property
    def capacity(self) -> int:
        """How many jobs it would hold at most, now; the engine reads twice that far ahead of the consumer."""

    async def start(self, remaining: Callable[[], int | None]) -> None:
        """Gets ready. ``remaining`` tells how many items are still to come, where that is known."""

    def room(self) -> int:
        """How many jobs it would take now."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes jobs, not more than there is room for."""

    async def close(self, *, early: bool) -> None:
        """Gives everything back; ``early``: jobs may be under way, and are stopped as far as that is possible."""
