"""What blocks a loop: ``weft.watch`` names the line, and says what to write instead.

Every loop of weft is watched (``stall_threshold``). Nothing of this package is imported before the first stall, or the
first call of a function here. The parts: ``reports`` (from the facts of the core to a line in the log), ``strict``
(errors in tests) with ``callsites``, ``ledger`` (what was seen, who is told), ``blame`` (whose line it is), ``cures``
(what to do about it), ``stall`` (the result). The invariant: imports among them go down in this order.
Called by users, and by ``weft._core.watchdog`` by name.
"""

from __future__ import annotations

from weft.watch.ledger import Place, on_stall, reset, stats, worst
from weft.watch.reports import logger
from weft.watch.stall import Kind, Stall, StallWarning
from weft.watch.strict import Strict, allow_blocking, strict

__all__ = [
    "Kind",
    "Place",
    "Stall",
    "StallWarning",
    "Strict",
    "allow_blocking",
    "logger",
    "on_stall",
    "reset",
    "stats",
    "strict",
    "worst",
]
