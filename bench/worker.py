"""One measurement in a process of its own: ``python -m bench.worker CASE CONTENDER SECONDS`` prints the sample.

Called by ``runner``, once per (round, case, contender). The invariant: one JSON object on standard output, and
nothing of one measurement can reach the next.
"""

from __future__ import annotations

import json
import sys

import bench.cases  # noqa: F401  registers every case
from bench.model import CASES


def main(arguments: list[str]) -> None:
    """Measure and print."""
    case, contender, seconds = arguments
    sample = CASES[case].measure(contender, float(seconds))
    json.dump(sample, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
