"""CPython's own asyncio tests on weft: the part that takes under two minutes. ``make conformance`` runs everything.

All modules run once for the whole file, two at a time, on stock asyncio and on weft; then each module is a test here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TypeAlias

import pytest

from tools.conformance import exclusions, interpreters
from tools.conformance.__main__ import execute
from tools.conformance.modules import (
    QUICK_ACCELERATED_MODULES,
    QUICK_FOREIGN_TASK_MODULES,
    QUICK_MODULES,
    QUICK_WITHOUT,
    SLOWEST_FIRST,
    STREAM_MODULES,
)
from tools.conformance.supervise import Job, Outcomes
from tools.conformance.verdict import judge

pytestmark = [
    pytest.mark.skipif((reason := interpreters.probe(sys.executable).lacks("weft")) is not None, reason=str(reason)),
    pytest.mark.time_limit(900),  # the first of these tests runs all of CPython's; a busy machine takes its time
]

LIMIT = 20.0  # seconds; the slowest of these tests takes two and a half on stock asyncio
CASES = [("weft", module) for module in QUICK_MODULES]
CASES += [("weft+ctask", module) for module in QUICK_FOREIGN_TASK_MODULES]
CASES += [("weft+streams", module) for module in STREAM_MODULES]
CASES += [("weft+accelerated", module) for module in QUICK_ACCELERATED_MODULES]

Results: TypeAlias = Mapping[str, Mapping[str, Outcomes]]


@pytest.fixture(scope="module")
def results() -> Results:
    cases = [("stock", module) for module in QUICK_MODULES] + CASES
    cases.sort(key=lambda case: case[1] not in SLOWEST_FIRST)
    jobs = [Job(sys.executable, target, module, without=QUICK_WITHOUT, limit=LIMIT) for target, module in cases]
    return execute(jobs, parallel=2)


@pytest.mark.parametrize(("target", "module"), CASES, ids=[f"{module}-{target}" for target, module in CASES])
def test_module(results: Results, target: str, module: str) -> None:
    stock = results["stock"][module]
    if not stock:
        pytest.skip(f"this Python has no {module}")
    entries = exclusions.applicable(exclusions.load(), sys.version_info[:2], target)
    verdict = judge(module, stock, results[target][module], entries)
    details = "\n".join(f"{test}: {outcome.word}\n{outcome.detail}" for test, outcome in verdict.failed.items())
    assert not verdict.failed, f"{verdict.passed} of {verdict.valid} pass\n{details}"
    assert not verdict.stale, "these pass, and tools/conformance/exclusions.toml lists them"
