"""The fixture that every test of a primitive runs under: asyncio's own and weft's, each on both loops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import weft

LIBRARIES: dict[str, Any] = {"asyncio's": asyncio, "weft's": weft}


@pytest.fixture(params=list(LIBRARIES))
def lib(request: pytest.FixtureRequest) -> Any:
    """Where the primitives come from: asyncio, the oracle, in one run of the test, and weft in the other."""
    return LIBRARIES[request.param]
