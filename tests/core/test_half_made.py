"""A garbage collection while a loop is being made: it meets an object of which only a part is there."""

from __future__ import annotations

import gc

import weft


def test_a_collection_at_every_allocation_of_a_new_loop() -> None:
    before = gc.get_threshold()
    try:
        for first in range(1, 40):
            gc.set_threshold(first)
            for _ in range(3):
                weft.new_event_loop().close()
    finally:
        gc.set_threshold(*before)
