"""Servers that the tests of a module share. A machine without one skips those tests, and says why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.frameworks import databases


@pytest.fixture(scope="module")
def redis_server() -> Iterator[databases.Server]:
    """A Redis of the module's own."""
    binary = databases.redis_binary()
    if binary is None:
        pytest.skip("there is no redis-server on this machine (Debian: apt-get install redis-server)")
    with databases.redis_server(binary) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[databases.Server]:
    """A PostgreSQL of the module's own."""
    binaries = databases.postgres_binaries()
    if binaries is None:
        pytest.skip("there is no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    with databases.postgres_server(binaries) as server:
        yield server
