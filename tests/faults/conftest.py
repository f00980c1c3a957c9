"""The fixture of the tests of faults: the compiled shim."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kit import compile_shim


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes system calls fail."""
    return compile_shim(tmp_path_factory.mktemp("shim"))
