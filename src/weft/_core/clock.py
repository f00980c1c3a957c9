"""Time as the core keeps it: integer nanoseconds of CLOCK_MONOTONIC; seconds as floats only at the public edge.

``FOREVER`` is the largest moment: a timer beyond it (a delay of centuries, or of infinity) never fires.
"""

import cython
from cython.cimports.libc.stdint import INT64_MAX, int64_t

# Half the range, so that adding a timeout to the present moment cannot overflow.
FOREVER = INT64_MAX // 2


def to_ns(seconds):
    """Round to the nearest nanosecond; NaN is refused, as it has no place in an order of timers."""
    if seconds != seconds:
        raise ValueError("a time for a timer cannot be NaN")
    if seconds >= cython.cast(cython.double, FOREVER) * 1e-9:
        return FOREVER
    if seconds <= -cython.cast(cython.double, FOREVER) * 1e-9:
        return -FOREVER
    return cython.cast(int64_t, seconds * 1e9 + (0.5 if seconds >= 0 else -0.5))


def to_seconds(ns):
    return ns / 1e9
