"""Compares what a target did with what stock asyncio did in the same run.

The invariant: a test counts as valid when stock asyncio passes it on this machine and no exclusion covers it;
everything valid must pass. Called by ``__main__``; pure functions over outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.conformance.exclusions import Exclusion
from tools.conformance.supervise import Outcome, Outcomes

NOT_RUN = Outcome("not run", "stock asyncio runs this test, the target's run has no word of it")


@dataclass
class Verdict:
    """The comparison of one module on one target.

    Attributes:
        passed: How many of the valid tests the target passes.
        valid: How many tests stock passes, less the excluded ones.
        on_loop: How many of the valid tests made at least one loop of the target in their process.
        excluded: Excluded tests that stock passes and the target does not.
        failed: Valid tests that the target does not pass.
        stale: Excluded tests that the target passes: the exclusion is untrue.
        broken: Tests that stock itself does not pass (a skip is no failure), so that they say nothing.
        retried: Valid tests that passed at the second attempt only.
    """

    module: str
    passed: int = 0
    valid: int = 0
    on_loop: int = 0
    excluded: list[str] = field(default_factory=list)
    failed: dict[str, Outcome] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    broken: dict[str, Outcome] = field(default_factory=dict)
    retried: dict[str, Outcome] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not self.failed and not self.stale


def judge(module: str, stock: Outcomes, target: Outcomes, exclusions: Sequence[Exclusion]) -> Verdict:
    """Compares the outcomes of one module."""
    verdict = Verdict(module)
    for test, baseline in stock.items():
        outcome = target.get(test, NOT_RUN)
        if not baseline.ok:
            if baseline.word != "skipped":
                verdict.broken[test] = baseline
            continue
        if any(entry.covers(test) for entry in exclusions):
            (verdict.stale if outcome.ok else verdict.excluded).append(test)
            continue
        verdict.valid += 1
        verdict.on_loop += bool(outcome.loops)
        if not outcome.ok:
            verdict.failed[test] = outcome
            continue
        verdict.passed += 1
        if outcome.retried:
            verdict.retried[test] = outcome
    return verdict


def unmatched(exclusions: Sequence[Exclusion], stock: Mapping[str, Outcomes]) -> list[str]:
    """The globs that match no test, of those that are about the modules in ``stock``.

    Args:
        exclusions: Entries that apply to the interpreter and target at hand.
        stock: The baseline's outcomes by module, each of them run as a whole.
    """
    globs = [glob for entry in exclusions for glob in entry.tests if glob.partition(".")[0] in stock]
    tests = {glob: stock[glob.partition(".")[0]] for glob in globs}
    return [glob for glob in globs if not any(Exclusion((glob,), "private", "").covers(test) for test in tests[glob])]


def total(verdicts: Sequence[Verdict]) -> Verdict:
    """The sum of several modules."""
    result = Verdict("total")
    for verdict in verdicts:
        result.passed += verdict.passed
        result.valid += verdict.valid
        result.on_loop += verdict.on_loop
        result.excluded += verdict.excluded
        result.failed |= verdict.failed
        result.stale += verdict.stale
        result.broken |= verdict.broken
        result.retried |= verdict.retried
    return result
