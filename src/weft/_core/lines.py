"""Lines: who waits for something of ours, first come, first served; what locks, queues and their like have in common.

A line is a ``collections.deque`` of waiters, as asyncio's own is of futures: so whatever looks at ``lock._waiters``, or
puts a future of its own there, finds what it expects. The invariant is asyncio's: whoever is woken and cannot take what
it was woken for passes that on; and an object belongs to the loop that was running when somebody first had to wait.

``locks`` and ``queue`` build on it.
"""

import copyreg
from asyncio import get_running_loop
from collections import deque

import cython
from cython.cimports.weft._core.operation import Operation
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sys.python import Py_TYPE, PyThread_get_thread_ident, PyTypeObject
from cython.cimports.weft._core.waiter import GIVEN_UP, WAITING, Waiter, new_waiter

# SAFETY: the module that defines the class holds it.
waiter_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Waiter))
APPEND = cython.declare(object, deque.append)
POPLEFT = cython.declare(object, deque.popleft)
REMOVE = cython.declare(object, deque.remove)
NEW_OBJECT = cython.declare(object, copyreg.__newobj__)
RUNNING_LOOP = cython.declare(object, get_running_loop)


def new_line():
    return deque()


# -- one who waits: a waiter of ours, or whatever future somebody has put into the line --------------------------------


def is_done(waiting):
    if Py_TYPE(waiting) == waiter_type:
        # SAFETY: its type was looked at; so in what follows.
        return cython.cast(Waiter, waiting).state != WAITING
    return waiting.done()


def is_cancelled(waiting):
    if Py_TYPE(waiting) == waiter_type:
        return cython.cast(Waiter, waiting).state == GIVEN_UP  # SAFETY: as above
    return waiting.cancelled()


def wake(waiting, value):
    """Let it go on: a future of foreign make gets ``value``, as it would from asyncio."""
    if Py_TYPE(waiting) == waiter_type:
        cython.cast(Waiter, waiting).wake()  # SAFETY: as above
    else:
        waiting.set_result(value)
    return 0


def wake_next(line):
    """Take out of the line up to the first who still waits, and wake that one; returns whether there was one."""
    while line:
        waiting = POPLEFT(line)
        if not is_done(waiting):
            wake(waiting, None)
            return True
    return False


def wake_some(line, count, value):
    """Wake the first ``count`` who still wait, and leave them in the line until they go on; returns how many."""
    woken: cython.Py_ssize_t = 0
    for waiting in line:
        if woken >= count:
            break
        if not is_done(waiting):
            woken += 1
            wake(waiting, value)
    return woken


def leave(line, waiting):
    """Take ``waiting`` out of the line, where it is in it; mostly it is the first."""
    if not line:
        return 0
    if line[0] is waiting:
        POPLEFT(line)
        return 0
    try:
        REMOVE(line, waiting)
    except ValueError:
        pass
    return 0


# -- what they wait for ------------------------------------------------------------------------------------------------


class LoopBound:
    """What belongs to one loop from the first wait on."""

    @property
    def _loop(self):
        return self.loop

    @_loop.setter
    def _loop(self, value):
        self.scheduler = None
        self.loop = value

    def refuse(self, unexpected):
        """Keyword arguments that nobody takes; ``loop`` was one once."""
        if unexpected:
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument {next(iter(unexpected))!r}"
            )
        return 0

    def settle(self):
        """Set the fields that are no attributes, of an object that is just made."""
        raise NotImplementedError

    def state_names(self):
        """The private attributes in which the state is, while nobody waits."""
        raise NotImplementedError

    def waiting_count(self):
        """How many wait."""
        raise NotImplementedError

    # As asyncio's can be copied, in a dataclass that is deep-copied say, while nobody waits.

    def __reduce__(self):
        if self.waiting_count():
            raise TypeError(f"cannot copy {self!r} while somebody waits for it")
        names: tuple = self.state_names()
        return NEW_OBJECT, (type(self),), {**self.__dict__, **{name: getattr(self, name) for name in names}}

    def __setstate__(self, state):
        self.settle()
        for name, value in state.items():
            setattr(self, name, value)

    def bind(self):
        """The running loop, when it is the one to which this belongs."""
        if self.scheduler is not None and self.scheduler.thread_id == PyThread_get_thread_ident():
            return self.loop
        running: object = RUNNING_LOOP()
        if self.loop is None:
            self.loop = running
        elif running is not self.loop:
            raise RuntimeError(f"{self!r} is bound to a different event loop")
        self.scheduler = running if isinstance(running, Scheduler) else None
        return running


class Wait(Operation):
    """An operation that stands in a line."""

    def stand(self, owner, line):
        """Wait at the end of ``line``; to be returned by ``begin`` and the others."""
        loop: object = owner.bind()
        waiter: Waiter = new_waiter(loop)
        waiter.is_blocking = True
        self.waiter = waiter
        APPEND(line, waiter)
        return waiter

    def abandon(self, line):
        """Something was thrown in: stand in the line no longer; returns whether the wake-up had come already."""
        waiter: Waiter = self.waiter
        was_woken: cython.bint = waiter.state != WAITING and waiter.state != GIVEN_UP
        if waiter.state == WAITING:
            # Nobody is there to hear of it: whoever threw has taken the task off the waiter.
            waiter.state = GIVEN_UP
            waiter.waker = None
        leave(line, waiter)
        return was_woken
