"""Memory that a worker shares with its parent, in which it writes down the items that are under way.

When a worker dies, the parent reads there what it died of. Invariant: a place holds the index of a job whose function
has been called and has not ended, or ``FREE``. Made by ``crew``, written by ``worker``.
"""

from __future__ import annotations

import mmap
import os

__all__ = ["FREE", "Board"]

FREE = -1
SIZE = 8  # bytes of a place


class Board:
    """The places.

    Args:
        fd: of the memory; it is not kept.
        places: how many there are; a new board is cleared, for None it stays as it is.
    """

    def __init__(self, fd: int, places: int | None = None) -> None:
        if places is not None:
            os.ftruncate(fd, places * SIZE)
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self.places = memoryview(self._memory).cast("q")
        if places is not None:
            self.places[:] = memoryview(b"\xff" * places * SIZE).cast("q")

    @staticmethod
    def new(places: int) -> tuple[Board, int]:
        """A board, and the descriptor by which another process finds it.

        Raises:
            OSError: there is no descriptor left.
        """
        fd = os.memfd_create("weft-board", os.MFD_CLOEXEC)
        try:
            return Board(fd, places), fd
        except BaseException:
            os.close(fd)
            raise

    def started(self) -> set[int]:
        """The indices of the jobs that are under way."""
        return {index for index in self.places if index != FREE}

    def close(self) -> None:
        """Gives the memory back."""
        self.places.release()
        self._memory.close()
