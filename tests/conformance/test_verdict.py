"""The comparison with the baseline: what counts, what fails, and which exclusions have become untrue."""

from __future__ import annotations

import pytest

from tools.conformance import exclusions
from tools.conformance.exclusions import Exclusion
from tools.conformance.supervise import Outcome
from tools.conformance.verdict import judge, unmatched

STOCK = {
    "m.C.good": Outcome("passed"),
    "m.C.bad": Outcome("passed"),
    "m.C.private": Outcome("passed"),
    "m.C.skipped": Outcome("skipped"),
    "m.C.broken": Outcome("failed"),
    "m.C.absent": Outcome("xfailed"),
}
TARGET = {
    "m.C.good": Outcome("passed", loops=2, retried=True),
    "m.C.bad": Outcome("hung"),
    "m.C.private": Outcome("error"),
    "m.C.skipped": Outcome("passed"),
    "m.C.broken": Outcome("passed"),
}
PRIVATE = Exclusion(("m.C.private",), "private", "it reads loop._ready")


def test_valid_is_what_stock_passes_less_the_exclusions() -> None:
    verdict = judge("m", STOCK, TARGET, [PRIVATE])
    assert (verdict.passed, verdict.valid, verdict.on_loop) == (1, 3, 1)
    assert verdict.excluded == ["m.C.private"]
    assert {test: outcome.word for test, outcome in verdict.failed.items()} == {
        "m.C.bad": "hung",
        "m.C.absent": "not run",
    }
    assert list(verdict.broken) == ["m.C.broken"]
    assert list(verdict.retried) == ["m.C.good"]
    assert not verdict.clean


def test_a_target_that_passes_all_is_clean() -> None:
    assert judge("m", STOCK, STOCK, []).clean


def test_an_excluded_test_that_passes_is_stale() -> None:
    verdict = judge("m", STOCK, STOCK, [PRIVATE])
    assert verdict.stale == ["m.C.private"]
    assert not verdict.clean


def test_a_test_that_the_target_skips_is_not_passed() -> None:
    assert "m.C.good" in judge("m", STOCK, {"m.C.good": Outcome("skipped")}, []).failed


def test_a_glob_that_matches_nothing_is_named() -> None:
    entry = Exclusion(("m.C.gone", "m.C.pri*", "other.D.*"), "private", "")
    assert unmatched([entry], {"m": STOCK}) == ["m.C.gone"]


@pytest.mark.parametrize(
    ("condition", "version", "holds"),
    [
        ("", (3, 14), True),
        (">=3.12", (3, 11), False),
        (">=3.12", (3, 12), True),
        (">=3.9", (3, 11), True),
        (">=3.12,<3.14", (3, 14), False),
        ("==3.11", (3, 11), True),
    ],
)
def test_conditions_on_the_version(condition: str, version: tuple[int, int], holds: bool) -> None:
    assert Exclusion(("x",), "private", "", condition).applies(version, "weft") is holds


def test_our_own_decisions_do_not_excuse_a_peer() -> None:
    assert Exclusion(("x",), "private", "").applies((3, 12), "uvloop")
    assert not Exclusion(("x",), "design", "").applies((3, 12), "uvloop")


def test_the_list_can_be_read() -> None:
    exclusions.load()


@pytest.mark.parametrize(
    "text",
    [
        'kind = "private"\nreason = "no tests"\ntests = []',
        'kind = "private"\nreason = " "\ntests = ["x"]',
        'kind = "flaky"\nreason = "because"\ntests = ["x"]',
        'kind = "private"\nreason = "because"\ntests = ["x"]\npython = "3.11"',
        'kind = "private"\nreason = "because"\ntests = ["x"]\nwhy = "?"',
    ],
)
def test_an_entry_without_a_reason_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("list") / "exclusions.toml"
    path.write_text(f"[[exclude]]\n{text}\n")
    with pytest.raises(ValueError, match=r"entry 1|condition"):
        exclusions.load(path)
