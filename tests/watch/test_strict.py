"""Strict mode: blocking as an error or a warning, where it is asked for and nowhere else."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import warnings
from typing import Any

import pytest

import weft
from tests.core.kit import run_script
from weft import watch
from weft._core import watchdog
from weft.errors import StallError

pytestmark = [pytest.mark.weft_only, pytest.mark.realtime]

needs_monitoring = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")


async def blocks(seconds: float = 0.15) -> str:
    time.sleep(seconds)
    await asyncio.sleep(0)
    return "done"


class TestModes:
    def test_by_default_nothing_is_raised(self) -> None:
        assert weft.run(blocks(), stall_threshold=0.05) == "done"

    def test_raise_ends_the_run_with_the_line(self) -> None:
        with watch.strict(threshold=0.05, calls=False) as strict:
            with pytest.raises(StallError, match=r"loop blocked .* in blocks\(\): time.sleep"):
                weft.run(blocks())
        assert len(strict.found) == 1
        assert weft.run(blocks()) == "done"

    def test_raise_leaves_the_loop_usable(self) -> None:
        loop = weft.new_event_loop()
        loop.stall_threshold = 0.05
        with watch.strict(calls=False), pytest.raises(StallError):
            loop.run_until_complete(blocks())
        assert loop.run_until_complete(blocks(0)) == "done"
        for task in asyncio.all_tasks(loop):
            loop.run_until_complete(task)
        loop.close()

    def test_warn_is_a_warning_at_the_line(self) -> None:
        with (
            watch.strict("warn", threshold=0.05, calls=False),
            pytest.warns(watch.StallWarning, match="time.sleep") as found,
        ):
            assert weft.run(blocks()) == "done"
        assert found[0].filename == __file__

    def test_a_warning_that_is_an_error_ends_the_run(self) -> None:
        with watch.strict("warn", threshold=0.05, calls=False), warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(watch.StallWarning):
                weft.run(blocks())

    def test_collect_and_allowed_modules(self) -> None:
        with watch.strict("collect", threshold=0.05, calls=False) as strict:
            weft.run(blocks())
        with watch.strict("collect", threshold=0.05, calls=False, allow=[__name__.partition(".")[0]]) as allowed:
            weft.run(blocks())
        assert (len(strict.found), allowed.found) == (1, [])

    def test_it_ends(self) -> None:
        before = watchdog.default_threshold()
        strict = watch.strict(threshold=0.05)
        assert watchdog.default_threshold() == 0.05
        strict.stop()
        strict.stop()
        assert watchdog.default_threshold() == before

    def test_an_unknown_mode_is_refused(self) -> None:
        with pytest.raises(ValueError, match="mode='loud'"):
            watch.strict("loud")
        with pytest.raises(ValueError, match="threshold"):
            watch.strict(threshold=0)


class TestAllowBlocking:
    def test_inside_the_block_it_is_no_stall(self) -> None:
        async def main() -> None:
            with watch.allow_blocking():
                time.sleep(0.15)
            await asyncio.sleep(0)

        with watch.strict("collect", threshold=0.05) as strict:
            weft.run(main())
        assert strict.found == []

    def test_other_tasks_are_not_covered(self) -> None:
        async def allowed() -> None:
            with watch.allow_blocking():
                await asyncio.sleep(0.05)

        async def main() -> None:
            task = asyncio.create_task(allowed())
            await asyncio.sleep(0)
            await blocks()
            await task

        with watch.strict("collect", threshold=0.05, calls=False) as strict:
            weft.run(main())
        assert len(strict.found) == 1


class TestEnvironment:
    PROGRAM = """
        import asyncio, time, weft
        async def main():
            time.sleep(0.25)
            await asyncio.sleep(0)
            print("went on")
        try:
            weft.run(main())
        except weft.errors.StallError as error:
            print("raised")
    """

    @pytest.mark.parametrize(("value", "expected"), [("raise", "raised"), ("warn", "went on"), ("off", "went on")])
    def test_for_the_whole_process(self, value: str, expected: str) -> None:
        assert run_script(self.PROGRAM, env={"WEFT_STRICT": value}).strip() == expected

    def test_a_mode_that_is_none_is_refused(self) -> None:
        out = run_script(
            "import weft\ntry: weft.new_event_loop()\nexcept ValueError as error: print(error)",
            env={"WEFT_STRICT": "loud"},
        )
        assert "WEFT_STRICT='loud'" in out


@needs_monitoring
class TestCalls:
    def test_a_fast_call_that_can_block_is_found_where_it_is_made(self) -> None:
        async def main() -> None:
            time.sleep(0)

        with (
            watch.strict() as strict,
            pytest.raises(StallError, match=r"test_strict.py:\d+ in .*main\(\): time.sleep; use"),
        ):
            weft.run(main())
        assert len(strict.found) == 1

    def test_outside_of_a_loop_it_is_allowed(self) -> None:
        with watch.strict():
            time.sleep(0)

    def test_what_cannot_block_is_allowed(self) -> None:
        async def main() -> None:
            import socket

            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.send(b"x") if theirs.gettimeout() == 0 else ours.send(b"x")
                future: Any = asyncio.get_running_loop().create_future()
                future.set_result(1)
                future.result()
            with watch.allow_blocking():
                time.sleep(0)

        with watch.strict("collect") as strict:
            weft.run(main())
        assert strict.found == []

    def test_a_place_is_found_once_and_all_ends(self) -> None:
        async def main() -> None:
            for _ in range(3):
                time.sleep(0)

        with watch.strict("collect") as strict:
            weft.run(main())
        assert len(strict.found) == 1
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        assert "weft.watch" not in {monitoring.get_tool(number) for number in range(6)}


def test_the_pid_is_ours() -> None:
    """A strict that was started here has left the environment alone."""
    assert "WEFT_STRICT" not in os.environ
