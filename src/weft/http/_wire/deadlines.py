"""One timer for the time limits of all exchanges of a client.

What is limited stands in a set, with its limits as times of the loop's clock; the one timer is set to the earliest of
them, and never later. Most exchanges end long before their limit, so a limit costs an entry in the set and a
comparison. Callers: ``Incoming`` enters, begins and leaves; ``expire`` tells it that its time is over.

The limit on silence between bytes moves with every packet. To read the clock per packet is what this file avoids: a
packet only leaves a mark (``has_moved``), and a look every quarter of the limit turns the marks into times. So that
limit is kept within a quarter of its length, on the late side.
"""

import cython

INFINITY = cython.declare(cython.double, float("inf"))
# How often the marks are looked at within one limit on silence.
LOOKS = cython.declare(cython.double, 4.0)


class Limited:
    """Something that may take only so long in all, and be silent only so long."""

    def limit(self):
        if self.is_held or self.is_sending:  # it is its reader that is slow, or who makes its body, not the peer
            return self.total
        return min(self.total, self.silent_since + self.patience)

    def expire(self, is_total):
        """End: the limit on the whole is over, or that on silence."""
        return 0


class Deadlines:
    """The time limits of one client.

    Args:
        loop: the event loop whose clock counts.
    """

    def __init__(self, loop):
        self.loop = loop
        self.read_clock = loop.time
        self.limited = set()
        self.due = INFINITY

    def __len__(self):
        return len(self.limited)

    def enter(self, one, timeout, total):
        """Watch over ``one`` from now on: ``total`` is a time of the clock, the limits of ``timeout`` are spans."""
        one.silent_since = self.read_clock()
        one.total = total
        one.patience = INFINITY if timeout.first_byte is None else timeout.first_byte
        one.is_begun = one.has_moved = one.is_held = one.is_sending = False
        self.limited.add(one)
        if one.limit() < self.due:
            self.arm(one.limit())
        return 0

    def begin(self, one, timeout):
        """The first byte came, and more is to come."""
        one.silent_since = self.read_clock()
        one.patience = INFINITY if timeout.idle is None else timeout.idle
        one.is_begun = True
        when: cython.double = min(one.total, one.silent_since + one.patience / LOOKS)
        if when < self.due:
            self.arm(when)
        return 0

    def restart(self, one):
        """It is the peer's turn from now on."""
        one.silent_since = self.read_clock()
        if one.limit() < self.due:
            self.arm(one.limit())
        return 0

    def leave(self, one):
        self.limited.discard(one)
        return 0

    def arm(self, when):
        if self.timer is not None:
            self.timer.cancel()
        self.due = when
        self.timer = self.loop.call_at(when, self.look)
        return 0

    def look(self):
        """End what is over, and set the timer anew."""
        one: Limited
        now: cython.double = self.read_clock()
        when: cython.double = INFINITY
        self.timer = None
        # While this runs, what begins another exchange need not set the timer: it is set at the end.
        self.due = -INFINITY
        late: list = []
        for one in self.limited:
            if one.has_moved or one.is_held or one.is_sending:
                one.has_moved = False
                one.silent_since = now
            if one.limit() <= now:
                late.append(one)
        for one in late:
            self.limited.discard(one)
            one.expire(one.total <= now)
        for one in self.limited:
            when = min(when, min(one.limit(), now + one.patience / LOOKS) if one.is_begun else one.limit())
        self.due = INFINITY
        if when < INFINITY:
            self.arm(when)

    def close(self):
        """Forget everything."""
        self.limited.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.due = INFINITY
        return 0
