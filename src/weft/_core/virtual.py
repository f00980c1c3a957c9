"""A driver whose clock stands still until it is told to move: for tests that must not wait.

Descriptors are real and are polled without waiting. Where the loop would sleep until its next timer, the clock jumps
there instead. With ``on_turn`` set, the clock moves only when it is told to: the hook is called once a turn, after the
ready callbacks ran and before timers are looked at. The invariant: the clock never goes back.
"""

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.weft._core.epoll import EpollDriver

# How long to wait for a descriptor when there is no timer to jump to: only another thread or a peer can end it.
REAL_WAIT = cython.declare(int64_t, 1_000_000)


class VirtualDriver(EpollDriver):
    """An epoll driver with a clock of its own, which starts at 0."""

    def __cinit__(self):
        self.poll_interval = 0  # its clock does not tell how long callbacks have run

    @property
    def now(self) -> int:
        """The clock in nanoseconds; setting it to an earlier moment is refused."""
        return self.moment

    @now.setter
    def now(self, moment: int) -> None:
        if moment < self.moment:
            raise ValueError(f"the clock stands at {self.moment} ns and cannot go back to {moment} ns")
        self.moment = moment

    @property
    def on_turn(self):
        return self.on_turn_hook

    @on_turn.setter
    def on_turn(self, hook) -> None:
        self.on_turn_hook = hook

    def advance(self, ns: int) -> None:
        """Move the clock ``ns`` nanoseconds ahead."""
        self.now = self.moment + ns

    def read_clock(self):
        return self.moment

    def wait(self, timeout):
        count: cython.int = self.poll(0)
        if self.on_turn_hook is not None:
            self.on_turn_hook()
        elif count == 0 and self.unsent.count == 0:
            if timeout > 0:
                self.moment += timeout
            elif timeout < 0:
                self.poll(REAL_WAIT)
        return count
