"""A plugin of pytest: a test whose coroutine blocks the loop fails, with the line that does it.

Off unless asked for: for all tests by ``weft_strict = true`` among pytest's options (or ``--weft-strict``), for one by
``@pytest.mark.weft_strict``. The invariant: a test that is not asked about runs exactly as without the plugin; weft is
not even imported. Called by pytest, by the entry point ``pytest11``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

MARKER = (
    "weft_strict(on=True, threshold=0.1, allow=(), calls=True): fail when a coroutine of the test blocks weft's loop "
    "for `threshold` seconds, or (calls; Python 3.12+) calls what can block; `allow` names modules that may"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    parser.addini("weft_strict", "fail tests that block weft's loop", type="bool", default=False)
    parser.addini("weft_stall_threshold", "seconds that a callback may take there (0.1)", default="0.1")
    parser.addini("weft_strict_allow", "modules that may block there", type="linelist", default=[])
    parser.getgroup("weft").addoption(
        "--weft-strict", action="store_true", default=False, help="fail tests that block weft's loop"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker of the plugin."""
    config.addinivalue_line("markers", MARKER)


def _wishes(item: pytest.Item) -> dict[str, Any] | None:
    """The arguments of ``weft.watch.strict`` for a test; None where nobody asks for it."""
    wishes: dict[str, Any] = {
        "threshold": float(item.config.getini("weft_stall_threshold")),
        "allow": tuple(item.config.getini("weft_strict_allow")),
    }
    marker = item.get_closest_marker("weft_strict")
    if marker is None:
        is_on = item.config.getini("weft_strict") or item.config.getoption("--weft-strict")
        return wishes if is_on else None
    given = dict(marker.kwargs)
    if not given.pop("on", marker.args[0] if marker.args else True):
        return None
    return {**wishes, **given}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the test, and fail it for what has blocked."""
    wishes = _wishes(item)
    if wishes is None:
        return (yield)
    from weft.watch import strict

    with strict("collect", **wishes) as watch:
        result = yield
    if watch.found:
        pytest.fail("\n".join(map(str, watch.found)), pytrace=False)
    return result
