"""The virtual driver: its clock jumps instead of waiting, moves only when told to, and never goes back."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import weft
from tests.core.kit import socketpair, virtual_driver, virtual_loop


def test_starts_at_zero_and_jumps_to_the_next_timer() -> None:
    with virtual_loop() as loop:
        assert loop.time() == 0
        before = time.monotonic()

        async def main() -> list[float]:
            moments = []
            for delay in (1, 3600, 86400 * 365):
                await asyncio.sleep(delay)
                moments.append(loop.time())
            return moments

        assert loop.run_until_complete(main()) == [1, 3601, 3601 + 86400 * 365]
        assert time.monotonic() - before < 60


def test_timeouts_are_exact() -> None:
    with virtual_loop() as loop:

        async def main() -> float:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(12.5):
                    await loop.create_future()
            return loop.time()

        assert loop.run_until_complete(main()) == 12.5


def test_never_goes_back() -> None:
    driver = virtual_driver()
    driver.advance(5)
    with pytest.raises(ValueError, match="stands at 5 ns and cannot go back to 4 ns"):
        driver.now = 4
    with pytest.raises(ValueError, match="cannot go back"):
        driver.advance(-1)
    assert driver.now == 5
    driver.now = 5


def test_by_hand_moves_when_told_to() -> None:
    """With ``on_turn`` set the clock stands still however long the timers wait."""
    driver = virtual_driver()
    loop = weft.EventLoop(driver=driver)
    ran: list[float] = []
    turns: list[int] = []

    def on_turn() -> None:
        turns.append(driver.now)
        if len(turns) % 10 == 0:
            driver.advance(1_000_000_000)

    driver.on_turn = on_turn
    assert driver.on_turn is on_turn
    loop.call_at(2.5, lambda: ran.append(loop.time()))
    loop.call_at(4, loop.stop)
    loop.run_forever()
    assert ran == [3.0]
    assert loop.time() == 4
    assert len(turns) >= 40
    driver.on_turn = None
    loop.close()


def test_an_error_in_the_hook_leaves_the_loop() -> None:
    driver = virtual_driver()
    loop = weft.EventLoop(driver=driver)
    driver.on_turn = lambda: divmod(1, 0)
    with pytest.raises(ZeroDivisionError):
        loop.run_forever()
    driver.on_turn = None
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


def test_descriptors_are_real() -> None:
    with virtual_loop() as loop, socketpair() as (ours, theirs):

        async def main() -> bytes:
            reader, writer = await asyncio.open_connection(sock=ours)
            theirs.send(b"real")
            data = await reader.readexactly(4)
            writer.close()
            await writer.wait_closed()
            return data

        assert loop.run_until_complete(main()) == b"real"


def test_a_thread_wakes_it() -> None:
    with virtual_loop() as loop:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()


def test_two_loops_have_two_clocks() -> None:
    with virtual_loop() as one, virtual_loop() as two:
        one.run_until_complete(asyncio.sleep(100))
        assert (one.time(), two.time()) == (100, 0)
