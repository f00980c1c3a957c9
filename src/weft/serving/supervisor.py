"""The process that looks after the workers, and does nothing else.

Invariant: each place has at most one worker that is not retired, and the sockets of the place while it has one, or gets
one within a second. One task per place replaces what dies; a reload replaces what lives, one place after the other.
Signals: SIGTERM and SIGINT end all workers, a second one at once; SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Sequence

from weft.serving.process import Worker, describe_end
from weft.serving.sockets import Sockets

__all__ = ["Supervisor"]

logger = logging.getLogger("weft.serve")

# A worker that lived so long (seconds) was in order: what ended it is no reason to wait before the next.
HEALTHY = 10.0
FIRST_DELAY = 0.1
LAST_DELAY = 30.0
# For so long (seconds) a place may be without a worker and keep its sockets, and so the connections that come.
KEEPS_SOCKETS = 1.0
# So many workers in a row that end before they serve, before any did, and the program is given up.
MOST_FALSE_STARTS = 3
# For so long (seconds) a reload waits for a new worker to serve.
BOOT_TIMEOUT = 60.0
# A worker whose predecessor did not listen either counts as started when it has lived so long (seconds).
BOOT_TIME = 1.0
# Between the end of a worker's own time to shut down and SIGKILL, in seconds.
GRACE = 2.0


class Place:
    """Where a worker is, and what is known of those that were there."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.failures = 0  # in a row
        self.has_served = False
        self.false_starts = 0


class Supervisor:
    """Starts workers and replaces them until told to stop.

    Args:
        command: what starts one.
        count: how many there are.
        shutdown_timeout: seconds that a worker has to end.
    """

    def __init__(self, command: Sequence[str], count: int, *, shutdown_timeout: float = 10.0) -> None:
        self._command = list(command)
        self._count = count
        self._patience = shutdown_timeout + GRACE
        self._sockets = Sockets()
        self._places: dict[int, Place] = {}
        self._has_served = False
        self._status = 0
        self._workers: set[Worker] = set()  # all that have not ended

    async def run(self) -> int:
        """Until all workers have ended; see :func:`weft.serving.supervise` for what it returns."""
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stop, signum)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        reloads = loop.create_task(self._reload_when_told())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._look_after(number))
            while self._workers:  # those that a reload had retired
                await asyncio.wait([worker.ended for worker in self._workers])
        finally:
            reloads.cancel()
            for worker in self._workers:
                worker.kill()
            self._sockets.close()
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(signum)
        return self._status

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """End all workers; those that are asked a second time at once."""
        if self._stopping.is_set():
            logger.warning("%s again: ending %d workers at once", signal.Signals(signum).name, len(self._workers))
            for worker in self._workers:
                worker.kill()
            return
        logger.info("%s: ending %d workers", signal.Signals(signum).name, len(self._workers))
        self._end_all(128 + signum)

    def _end_all(self, status: int) -> None:
        self._status = status
        self._stopping.set()
        self._sockets.close()  # from here on connections are refused as soon as the workers let go of theirs
        for worker in self._workers:
            worker.retire(self._patience)

    # -- one place

    async def _look_after(self, number: int) -> None:
        """Keep a worker in a place until it is given up."""
        place = self._places[number] = Place(await self._start(number))
        while True:
            worker = place.worker
            status = await asyncio.shield(worker.ended)
            if place.worker is not worker:
                continue  # a reload has put another one there
            if self._stopping.is_set():
                return
            if status == 0:
                logger.info("%r ended by itself", worker)
                self._sockets.close_place(number)
                return
            delay = self._delay_after(place, worker, status)
            if self._stopping.is_set() or not await self._wait(number, delay):
                return
            place.worker = await self._start(number)

    def _delay_after(self, place: Place, worker: Worker, status: int) -> float:
        """How long to wait, in seconds, until the next one; tells the log, and gives up what never came to life."""
        loop = asyncio.get_running_loop()
        lived = loop.time() - worker.began
        place.failures = 1 if lived >= HEALTHY else place.failures + 1
        if not self._has_served and not worker.serving.result():
            place.false_starts += 1
            if place.false_starts >= MOST_FALSE_STARTS:
                logger.error(
                    "%r %s, as %d before it: no worker has ever served, so this program is given up",
                    worker, describe_end(status), place.false_starts - 1,
                )  # fmt: skip
                self._end_all(status if status > 0 else 128 - status)
                return 0.0
        delay = 0.0
        if place.failures > 1:
            delay = min(FIRST_DELAY * 2 ** (place.failures - 2), LAST_DELAY) * random.uniform(0.75, 1.25)
        when = f"the next starts in {delay:.1f} s" if delay else "the next starts now"
        logger.warning("%r %s after %.1f s; %s", worker, describe_end(status), lived, when)
        return delay

    async def _wait(self, number: int, delay: float) -> bool:
        """Wait before a restart; False when there is none any more."""
        if not delay:
            return True
        if delay > KEEPS_SOCKETS:
            self._sockets.close_place(number)
        try:
            async with asyncio.timeout(delay):
                await self._stopping.wait()
        except TimeoutError:
            return True
        return False

    async def _start(self, number: int) -> Worker:
        """Start a worker; it is this object's from before its first instruction to after its last."""
        worker = Worker(number, self._sockets.give)
        await worker.start(self._command, self._count)
        self._workers.add(worker)
        worker.ended.add_done_callback(lambda _: self._on_end(worker))
        worker.serving.add_done_callback(lambda serving: self._on_serving(worker, serving.result()))
        if self._stopping.is_set():  # it was told while the process was being made
            worker.retire(self._patience)
        return worker

    def _on_serving(self, worker: Worker, serves: bool) -> None:
        if serves:
            self._has_served = self._places[worker.place].has_served = True
            logger.info("%r serves", worker)

    def _on_end(self, worker: Worker) -> None:
        self._workers.discard(worker)
        if worker.is_overdue:
            logger.warning("%r did not end within %.0f s of SIGTERM and was killed", worker, self._patience)

    # -- reloading

    async def _reload_when_told(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            logger.info("SIGHUP: replacing %d workers, one by one", len(self._places))
            for number, place in list(self._places.items()):
                if self._stopping.is_set() or not await self._replace(number, place):
                    break

    async def _replace(self, number: int, place: Place) -> bool:
        """Put a new worker into a place, and retire the old one when the new one serves; False when it does not."""
        old = place.worker
        if not old.is_running():
            return True  # its successor is on the way, or it is not wanted any more
        new = await self._start(number)
        if not await self._comes_to_life(new, place.has_served):
            if not self._stopping.is_set():
                logger.error("%r does not serve: the reload is given up, and %r goes on", new, old)
            new.kill()
            return False
        if place.worker is not old:  # it died meanwhile, and has a successor that is as new
            new.retire(self._patience)
            return True
        place.worker = new
        old.retire(self._patience)
        return True

    async def _comes_to_life(self, worker: Worker, should_serve: bool) -> bool:
        await asyncio.wait([worker.serving], timeout=BOOT_TIMEOUT if should_serve else BOOT_TIME)
        if worker.serving.done():
            return worker.serving.result()
        return not should_serve and worker.is_running()
