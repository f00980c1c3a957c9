"""Who takes part in a case: contenders, the one among them that is ours, and the floors beneath them.

A case says who competes by its ``Field``; the runner, the store and the report take it from there, whether the
contenders are event loops, HTTP clients or anything else. The invariant: a name stands once in a field, and names
mean the same in all fields, as they are what ``--contenders`` takes and what results are filed under.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Contender:
    """Something that can be measured; a plain one is always there (a program that the case brings)."""

    name: str

    def missing(self) -> str:
        """What it lacks to run here, in a few words; empty when it can run."""
        return ""

    def versions(self) -> dict[str, str]:
        """The versions of what it is made of, by package."""
        return {}

    def available(self) -> bool:
        """Whether it can run here."""
        return not self.missing()


@dataclass(frozen=True)
class Field:
    """The contenders of a case.

    Attributes:
        contenders: in the order of the tables.
        subject: the name of ours, which is compared with each of the others.
        peers: the names of those whose ratios stand in every table that has room for few.
        floors: what shows how far one could get, without being a rival; takes part whoever is chosen.
        tall: the contenders are too many for columns, so each case has a table with a row for each of them.
    """

    contenders: tuple[Contender, ...]
    subject: str
    peers: tuple[str, ...]
    floors: tuple[Contender, ...] = ()
    tall: bool = False

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) < len(names):
            raise ValueError(f"a contender stands twice in the field {', '.join(names)}: rename one")

    @property
    def everyone(self) -> tuple[Contender, ...]:
        """Floors first, then the contenders: the order of the tables."""
        return self.floors + self.contenders

    @property
    def names(self) -> list[str]:
        """The names of everyone."""
        return [contender.name for contender in self.everyone]

    @property
    def rivals(self) -> list[str]:
        """The names of all contenders but the subject."""
        return [contender.name for contender in self.contenders if contender.name != self.subject]

    def entrants(self, chosen: Collection[str]) -> list[str]:
        """Those of ``chosen`` who compete here, and the floors among them; nobody where only floors would be left."""
        competing = [contender.name for contender in self.contenders if contender.name in chosen]
        return [*competing, *(floor.name for floor in self.floors if floor.name in chosen)] if competing else []

    def with_floors(self, *floors: Contender) -> Field:
        """The same field over other floors."""
        return replace(self, floors=floors)

    def without(self, *names: str) -> Field:
        """The same field without some, who cannot do what a case asks for.

        Raises:
            LookupError: one of them is not in the field.
        """
        if unknown := set(names) - set(self.names):
            raise LookupError(f"{', '.join(sorted(unknown))}: not in the field of {', '.join(self.names)}")
        stay = (tuple(one for one in group if one.name not in names) for group in (self.contenders, self.floors))
        contenders, floors = stay
        return replace(self, contenders=contenders, floors=floors)


def importable(module: str) -> bool:
    """Whether a module is installed; the packages above it are imported to find out, it is not."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # a package above it that breaks when it is imported (not compiled, say) is no use either
        return False
    return spec is not None and spec.origin is not None


def version_of(package: str) -> str:
    """The version of an installed distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def python_is(since: tuple[int, int]) -> bool:
    """Whether this Python is at least ``since``."""
    return sys.version_info >= since
