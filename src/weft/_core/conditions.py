"""``Condition``: asyncio's, with a ``wait`` that neither makes a future nor a frame.

Built as the locks are (``locks.py`` says how). The invariant is that of every condition variable: ``wait`` gives the
lock back and takes it again before it ends, however it ends. Where the lock that it was given is not one of ours,
``wait`` is asyncio's own.
"""

import asyncio
from asyncio.exceptions import CancelledError

import cython
from cython.cimports.weft._core.lines import LoopBound, Wait, leave, new_line, wake_some
from cython.cimports.weft._core.locks import LockCore, leaving, new_acquire
from cython.cimports.weft._core.operation import ENDED
from cython.cimports.weft._core.sys.python import Py_TYPE, PyTypeObject
from cython.cimports.weft._core.waiter import Waiter

from weft import versions
from weft._core.locks import Lock

PASSES_ON = cython.declare(cython.bint, versions.CONDITION_PASSES_ON)
# SAFETY: the module that defines the class holds it.
waiter_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Waiter))


class ConditionCore(LoopBound):
    def __init__(self, lock=None, **unexpected):
        self.refuse(unexpected)
        self._lock = Lock() if lock is None else lock
        self.settle()
        # asyncio lends them out as attributes, and so do programs that look for them.
        self.locked = self.lock.locked
        self.acquire = self.lock.acquire
        self.release = self.lock.release

    def settle(self):
        self.line = new_line()
        return 0

    def state_names(self):
        return ("_lock",)

    def waiting_count(self):
        return len(self.line)

    @property
    def _lock(self):
        return self.lock

    @_lock.setter
    def _lock(self, value):
        self.lock = value
        self.own = None
        if Py_TYPE(self) == condition_type and isinstance(value, LockCore):
            lock: LockCore = value
            self.own = lock if lock.is_plain else None

    @property
    def _waiters(self):
        return self.line

    @_waiters.setter
    def _waiters(self, value):
        self.line = value

    def __aenter__(self):
        return STOCK_AENTER(self) if self.own is None else new_acquire(self.own, True)

    def __aexit__(self, kind, error, traceback):
        return STOCK_AEXIT(self, kind, error, traceback) if self.own is None else leaving(self.own)

    def wait(self):
        """Give the lock back, wait to be notified, and take it again; to be awaited, and True then.

        From Python 3.13 on it may also end without a notification: ask again for what was waited for.

        Raises:
            RuntimeError: nobody holds the lock.
        """
        if self.own is None:
            return STOCK_WAIT(self)
        waiting: ConditionWait = ConditionWait.__new__(ConditionWait)
        waiting.condition = self
        return waiting

    def notify(self, n=1):
        """Let ``n`` of those who wait go on, once they have the lock.

        Raises:
            RuntimeError: nobody holds the lock.
        """
        if self.own is None:
            STOCK_NOTIFY(self, n)
            return
        if not self.own.is_locked:
            raise RuntimeError("cannot notify on un-acquired lock")
        if self.line:
            wake_some(self.line, n, False)


class ConditionWait(Wait):
    def name(self):
        return "Condition.wait"

    def begin(self):
        condition: ConditionCore = self.condition
        if not condition.own.is_locked:
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter: object = self.stand(condition, condition.line)
        condition.own.give_back()
        return waiter

    def resume(self):
        if self.acquiring is None:
            leave(self.condition.line, self.waiter)
            return self.take_again()
        self.acquiring.resume()
        return self.finish()

    def give_up(self, error):
        if self.acquiring is None:
            self.abandon(self.condition.line)
            self.error = error
        else:
            try:
                self.acquiring.give_up(error)
            except CancelledError:
                # The lock has to be had first.
                self.error = error if PASSES_ON else CancelledError()
            except BaseException:
                self.pass_on()
                raise
        return self.take_again()

    def take_again(self):
        self.acquiring = new_acquire(self.condition.own, False)
        self.acquiring.stage = ENDED  # it is driven from here, by nobody else
        if Py_TYPE(self.acquiring.begin()) == waiter_type:
            self.waiter = self.acquiring.waiter
            return self.waiter
        return self.finish()

    def finish(self):
        error, self.error = self.error, None
        if error is None:
            return True
        self.pass_on()
        raise error

    def pass_on(self):
        """A notification may have come to this one, who has no use for it."""
        if PASSES_ON:
            wake_some(self.condition.line, 1, False)
        return 0


# Taken before anybody may have put something else in their place.
STOCK_AENTER = cython.declare(object, asyncio.Condition.__aenter__)
STOCK_AEXIT = cython.declare(object, asyncio.Condition.__aexit__)
STOCK_WAIT = cython.declare(object, asyncio.Condition.wait)
STOCK_NOTIFY = cython.declare(object, asyncio.Condition.notify)


class Condition(ConditionCore, asyncio.Condition):
    """:class:`asyncio.Condition`: a lock, and a line of those who wait for what changes under it.

    Args:
        lock: the lock; a new :class:`weft.Lock` by default.
    """


Condition.__module__ = "weft"
# SAFETY: the module holds the class.
condition_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Condition))
