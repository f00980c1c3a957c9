"""The fixtures of the tests of lost work: nothing found before, and a run that gives what was found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.watch.kit import Run, found_in
from weft.watch import lost


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Nothing was found before, and nothing is kept for the next test."""
    lost.clear()
    yield
    lost.clear()


@pytest.fixture
def run() -> Run:
    """Runs a coroutine on a weft loop without a garbage collection, and gives what was found."""
    return found_in
