"""``Lock``, ``Event``, ``Semaphore`` and ``BoundedSemaphore``: asyncio's, with compiled methods, without futures.

Each class derives from asyncio's and from a core, which has the state as C fields and asyncio's private attributes as
properties. The invariant: an object of exactly one of these classes runs compiled code alone; for a subclass every
method is asyncio's own, on the same attributes, so whatever it overrides is called as asyncio would call it.

Stock asyncio's ``acquire``, ``wait`` and ``release`` are the specification, line by line; ``conditions`` builds on it.
"""

import asyncio
from asyncio.exceptions import CancelledError

import cython
from cython.cimports.weft._core.lines import LoopBound, Wait, is_cancelled, is_done, leave, new_line, wake, wake_some
from cython.cimports.weft._core.operation import Operation
from cython.cimports.weft._core.sys.python import Py_TYPE, PyTypeObject
from cython.cimports.weft._core.waiter import GIVEN_UP

from weft import versions

# From 3.13 on whoever leaves a semaphore's line wakes all for whom there is room, not the next one alone.
WAKES_ALL = cython.declare(cython.bint, versions.SEMAPHORE_WAKES_ALL)
WOKEN_AT_ONCE = cython.declare(cython.Py_ssize_t, 1 << 62)


# -- Lock --------------------------------------------------------------------------------------------------------------


class LockCore(LoopBound):
    def __init__(self, **unexpected):
        self.refuse(unexpected)
        self.settle()
        self.is_locked = False
        self.line = None

    @property
    def _locked(self):
        return self.is_locked

    @_locked.setter
    def _locked(self, value):
        self.is_locked = value

    @property
    def _waiters(self):
        return self.line

    @_waiters.setter
    def _waiters(self, value):
        self.line = value

    def settle(self):
        self.is_plain = Py_TYPE(self) == lock_type
        return 0

    def state_names(self):
        return ("_locked",)

    def waiting_count(self):
        return len(self.line) if self.line else 0

    def locked(self):
        """Whether it is taken."""
        return self.is_locked

    def acquire(self):
        """Take the lock, after everybody who came before; to be awaited, and True then."""
        if not self.is_plain:
            return STOCK_LOCK_ACQUIRE(self)
        return new_acquire(self, False)

    def release(self):
        """Give the lock back, and let the first who waits go on.

        Raises:
            RuntimeError: nobody holds it.
        """
        if self.is_plain:
            self.give_back()
        else:
            STOCK_LOCK_RELEASE(self)

    def __aenter__(self):
        if not self.is_plain:
            return STOCK_AENTER(self)
        return new_acquire(self, True)

    def __aexit__(self, kind, error, traceback):
        if not self.is_plain:
            return STOCK_AEXIT(self, kind, error, traceback)
        return leaving(self)

    def may_take(self):
        if self.is_locked:
            return False
        if self.line:
            for waiting in self.line:
                if not is_cancelled(waiting):
                    return False
        return True

    def give_back(self):
        if not self.is_locked:
            raise RuntimeError("Lock is not acquired.")
        self.is_locked = False
        if self.line:
            self.wake_first()
        return 0

    def wake_first(self):
        """Whoever is first and done will take the lock, or see to it that the next one does."""
        if self.line:
            first: object = self.line[0]
            if not is_done(first):
                wake(first, True)
        return 0


class Acquire(Wait):
    def name(self):
        return "Lock.__aenter__" if self.is_entering else "Lock.acquire"

    def begin(self):
        lock: LockCore = self.lock
        if lock.may_take():
            lock.is_locked = True
            return None if self.is_entering else True
        if lock.line is None:
            lock.line = new_line()
        return self.stand(lock, lock.line)

    def resume(self):
        lock: LockCore = self.lock
        leave(lock.line, self.waiter)
        lock.is_locked = True
        return None if self.is_entering else True

    def give_up(self, error):
        lock: LockCore = self.lock
        self.abandon(lock.line)
        if not lock.is_locked and isinstance(error, CancelledError):
            lock.wake_first()
        raise error


class Leave(Operation):
    """What ``async with lock`` awaits at its end."""

    def name(self):
        return "Lock.__aexit__"

    def begin(self):
        self.lock.give_back()


def new_acquire(lock, is_entering):
    acquiring: Acquire = Acquire.__new__(Acquire)
    acquiring.lock = lock
    acquiring.is_entering = is_entering
    return acquiring


def leaving(lock):
    operation: Leave = Leave.__new__(Leave)
    operation.lock = lock
    return operation


# -- Event -------------------------------------------------------------------------------------------------------------


class EventCore(LoopBound):
    def __init__(self, **unexpected):
        self.refuse(unexpected)
        self.settle()
        self.value = False

    @property
    def _value(self):
        return self.value

    @_value.setter
    def _value(self, value):
        self.value = value

    @property
    def _waiters(self):
        return self.line

    @_waiters.setter
    def _waiters(self, value):
        self.line = value

    def settle(self):
        self.is_plain = Py_TYPE(self) == event_type
        self.line = new_line()
        return 0

    def state_names(self):
        return ("_value",)

    def waiting_count(self):
        return len(self.line)

    def is_set(self):
        """Whether it is set."""
        return self.value

    def set(self):
        """Set it, and let all who wait go on."""
        if not self.value:
            self.value = True
            if self.line:
                wake_some(self.line, WOKEN_AT_ONCE, True)

    def clear(self):
        """Unset it: who comes from now on waits."""
        self.value = False

    def wait(self):
        """Wait until it is set; to be awaited, and True then."""
        if not self.is_plain:
            return STOCK_EVENT_WAIT(self)
        waiting: EventWait = EventWait.__new__(EventWait)
        waiting.event = self
        return waiting


class EventWait(Wait):
    def name(self):
        return "Event.wait"

    def begin(self):
        if self.event.value:
            return True
        return self.stand(self.event, self.event.line)

    def resume(self):
        leave(self.event.line, self.waiter)
        return True

    def give_up(self, error):
        self.abandon(self.event.line)
        raise error


# -- Semaphore ---------------------------------------------------------------------------------------------------------


class SemaphoreCore(LoopBound):
    def __init__(self, value=1, **unexpected):
        self.refuse(unexpected)
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self.settle()
        self.line = None
        self.value = self.bound = value

    @property
    def _value(self):
        return self.value

    @_value.setter
    def _value(self, value):
        self.value = value

    @property
    def _bound_value(self):
        return self.bound

    @_bound_value.setter
    def _bound_value(self, value):
        self.bound = value

    @property
    def _waiters(self):
        return self.line

    @_waiters.setter
    def _waiters(self, value):
        self.line = value

    def settle(self):
        self.is_bounded = Py_TYPE(self) == bounded_type
        self.is_plain = self.is_bounded or Py_TYPE(self) == semaphore_type
        return 0

    def state_names(self):
        return ("_value", "_bound_value")

    def waiting_count(self):
        return len(self.line) if self.line else 0

    def locked(self):
        """Whether :meth:`acquire` would have to wait."""
        return not self.may_take()

    def acquire(self):
        """Take one, after everybody who came before; to be awaited, and True then."""
        if not self.is_plain:
            return STOCK_SEMAPHORE_ACQUIRE(self)
        return new_take(self, False)

    def release(self):
        """Give one back, and let the first who waits go on.

        Raises:
            ValueError: a bounded semaphore would have more than it began with.
        """
        if self.is_plain:
            self.give_back()
        else:
            (STOCK_BOUNDED_RELEASE if isinstance(self, BoundedSemaphore) else STOCK_SEMAPHORE_RELEASE)(self)

    def __aenter__(self):
        if not self.is_plain:
            return STOCK_AENTER(self)
        return new_take(self, True)

    def __aexit__(self, kind, error, traceback):
        if not self.is_plain:
            return STOCK_AEXIT(self, kind, error, traceback)
        giving: GiveBack = GiveBack.__new__(GiveBack)
        giving.semaphore = self
        return giving

    def may_take(self):
        if self.value == 0:
            return False
        if self.line:
            for waiting in self.line:
                if not is_cancelled(waiting):
                    return False
        return True

    def give_back(self):
        if self.is_bounded and self.value >= self.bound:
            raise ValueError("BoundedSemaphore released too many times")
        self.value += 1
        if self.line:
            self.wake_next()
        return 0

    def wake_next(self):
        """Give one to the first who still waits (and stays in the line until it goes on); whether there was one."""
        if self.line:
            for waiting in self.line:
                if not is_done(waiting):
                    self.value -= 1
                    wake(waiting, True)
                    return True
        return False

    def pass_on(self):
        """For whoever leaves the line: those who came meanwhile had to stand behind."""
        if WAKES_ALL:
            while self.value > 0 and self.wake_next():
                pass
        elif self.value > 0:
            self.wake_next()
        return 0


class Take(Wait):
    def name(self):
        return "Semaphore.__aenter__" if self.is_entering else "Semaphore.acquire"

    def begin(self):
        semaphore: SemaphoreCore = self.semaphore
        if semaphore.may_take():
            semaphore.value -= 1
            return None if self.is_entering else True
        if semaphore.line is None:
            semaphore.line = new_line()
        return self.stand(semaphore, semaphore.line)

    def resume(self):
        leave(self.semaphore.line, self.waiter)
        self.semaphore.pass_on()
        return None if self.is_entering else True

    def give_up(self, error):
        semaphore: SemaphoreCore = self.semaphore
        self.abandon(semaphore.line)
        if isinstance(error, CancelledError) and self.waiter.state != GIVEN_UP:
            # It was given one, and will not use it.
            semaphore.value += 1
            if not WAKES_ALL:
                semaphore.wake_next()
        if WAKES_ALL:
            semaphore.pass_on()
        raise error


class GiveBack(Operation):
    """What ``async with semaphore`` awaits at its end."""

    def name(self):
        return "Semaphore.__aexit__"

    def begin(self):
        self.semaphore.give_back()


def new_take(semaphore, is_entering):
    taking: Take = Take.__new__(Take)
    taking.semaphore = semaphore
    taking.is_entering = is_entering
    return taking


# -- the classes -------------------------------------------------------------------------------------------------------

# Taken before anybody may have put something else in their place.
STOCK_AENTER = cython.declare(object, asyncio.Lock.__aenter__)
STOCK_AEXIT = cython.declare(object, asyncio.Lock.__aexit__)
STOCK_LOCK_ACQUIRE = cython.declare(object, asyncio.Lock.acquire)
STOCK_LOCK_RELEASE = cython.declare(object, asyncio.Lock.release)
STOCK_EVENT_WAIT = cython.declare(object, asyncio.Event.wait)
STOCK_SEMAPHORE_ACQUIRE = cython.declare(object, asyncio.Semaphore.acquire)
STOCK_SEMAPHORE_RELEASE = cython.declare(object, asyncio.Semaphore.release)
STOCK_BOUNDED_RELEASE = cython.declare(object, asyncio.BoundedSemaphore.release)


class Lock(LockCore, asyncio.Lock):
    """:class:`asyncio.Lock`: one holder at a time; who waits gets it in the order of coming."""


class Event(EventCore, asyncio.Event):
    """:class:`asyncio.Event`: a flag that can be waited for."""


class Semaphore(SemaphoreCore, asyncio.Semaphore):
    """:class:`asyncio.Semaphore`: so many holders at a time; who waits comes in in the order of coming.

    Args:
        value: how many may hold it.

    Raises:
        ValueError: ``value`` is negative.
    """


class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    """:class:`asyncio.BoundedSemaphore`: one that refuses a release too many."""


def new_event(is_set):
    event: EventCore = Event()
    event.value = is_set
    return event


for _class in (Lock, Event, Semaphore, BoundedSemaphore):
    _class.__module__ = "weft"

# SAFETY: the module holds the classes.
lock_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Lock))
event_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Event))
semaphore_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Semaphore))
bounded_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), BoundedSemaphore))
