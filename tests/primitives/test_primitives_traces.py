"""Whatever is done to a primitive, and in which turn: weft's shows what asyncio's shows, step for step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import weft
from tests.primitives.scenes import SCENES

Run = Callable[[Any, Any, Any], list[Any]]


@pytest.fixture
def runs() -> Iterator[dict[str, Callable[[Any], list[Any]]]]:
    """How to run a scene: asyncio's primitives on asyncio's loop, and weft's on both."""
    loops = {"asyncio": asyncio.SelectorEventLoop(), "weft": weft.new_event_loop()}
    yield {
        "stock": lambda make: loops["asyncio"].run_until_complete(make(asyncio)),
        "weft's on asyncio's loop": lambda make: loops["asyncio"].run_until_complete(make(weft)),
        "weft's on weft's loop": lambda make: loops["weft"].run_until_complete(make(weft)),
    }
    for loop in loops.values():
        loop.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_traces_agree(scene: Any, runs: dict[str, Callable[[Any], list[Any]]]) -> None:
    step = st.tuples(st.sampled_from([*scene.steps, "turn", "turn"]), st.integers(0, 7))

    @hypothesis.settings(max_examples=120)
    @hypothesis.given(st.lists(step, max_size=24))
    def check(steps: list[tuple[str, int]]) -> None:
        async def play(lib: Any) -> list[Any]:
            trace: list[Any] = await scene(lib).run(steps)
            return trace

        expected = runs["stock"](play)
        for name in list(runs)[1:]:
            assert runs[name](play) == expected, name

    check()
