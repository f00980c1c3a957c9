"""A process that shall not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os

__all__ = ["end_with_parent"]

PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(parent: int, signum: int) -> bool:
    """Have the kernel send ``signum`` when ``parent`` ends, however it does (``PR_SET_PDEATHSIG``, prctl(2)).

    Returns:
        Whether it is still there: one that ended before the kernel was told will not be heard of.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
    return os.getppid() == parent
