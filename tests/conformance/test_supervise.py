"""The supervisor gives every test exactly one outcome, whatever the tests do to their interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.conformance.supervise import Job, Outcomes, retry_failed, run_module

PACKAGE = "tests.conformance.samples"
HANGS_AFTER = 1.0  # seconds; the sample that hangs sleeps for an hour


def job(*only: str, limit: float = 30.0) -> Job:
    globs = [f"misbehaving.{glob}" for glob in only]
    return Job(sys.executable, "stock", "misbehaving", only=globs, limit=limit, package=PACKAGE)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    everything = run_module(job("Misbehaving.*", "BrokenFixture.*", limit=HANGS_AFTER))
    return {test.removeprefix("misbehaving."): outcome for test, outcome in everything.items()}


@pytest.mark.parametrize(
    ("test", "word"),
    [
        ("test_1_passes", "passed"),
        ("test_2_hangs", "hung"),
        ("test_3_passes_after_the_hang", "passed"),
        ("test_4_kills_the_interpreter", "crashed"),
        ("test_5_exits", "crashed"),
        ("test_6_fails", "failed"),
        ("test_7_fails_in_a_subtest", "failed"),
        ("test_8_skipped", "skipped"),
        ("test_9_fails_as_expected", "xfailed"),
    ],
)
def test_each_test_has_its_outcome(outcomes: Outcomes, test: str, word: str) -> None:
    assert outcomes[f"Misbehaving.{test}"].word == word


def test_a_broken_fixture_is_an_error_of_each_test_behind_it(outcomes: Outcomes) -> None:
    outcome = outcomes["BrokenFixture.test_never_runs"]
    assert outcome.word == "error"
    assert "no set-up" in outcome.detail


def test_a_hang_says_where(outcomes: Outcomes) -> None:
    assert "test_2_hangs" in outcomes["Misbehaving.test_2_hangs"].detail


def test_a_failure_carries_its_traceback(outcomes: Outcomes) -> None:
    assert "AssertionError: 1 != 2" in outcomes["Misbehaving.test_6_fails"].detail


def test_an_unknown_module_has_no_tests() -> None:
    assert run_module(Job(sys.executable, "stock", "test_of_another_version", package=PACKAGE)) == {}


def test_what_fails_once_is_run_again_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFORMANCE_MARKER", str(tmp_path / "marker"))
    chosen = job("FailsOnce.*")
    first = run_module(chosen)
    assert [outcome.word for outcome in first.values()] == ["failed"]
    (second,) = retry_failed(chosen, first).values()
    assert second.ok and second.retried
    assert "the first attempt fails" in second.detail


def test_what_fails_twice_stays_failed() -> None:
    chosen = job("Misbehaving.test_6*")
    (outcome,) = retry_failed(chosen, run_module(chosen)).values()
    assert outcome.word == "failed" and not outcome.retried
