"""What a task is parked on while it waits for something of ours: bytes, a lock, an item, a moment.

A ``Waiter`` stands for a wake-up and carries nothing else. To whoever looks at it it is a future (``asyncio.isfuture``
says so, ``task._fut_waiter`` shows it, any task can wait for it), without what a future costs: a task of ours that
waits for one is pushed on the ready ring when it is woken, with no callback, handle or context in between. The
invariant: it is woken or given up once; who waits hears of it once, in the turn after that.

Made by ``Operation.park``, for whoever has something to wait for; woken by what they wait for.
"""

from asyncio.exceptions import CancelledError, InvalidStateError

import cython
from cython.cimports.cpython.contextvars import PyContext_CopyCurrent
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sys.python import PyObject

STATE_NAMES = cython.declare(tuple, ("PENDING", "FINISHED", "CANCELLED"))  # asyncio's words


class Waiter:
    def __init__(self):
        raise TypeError("a waiter is made by what waits")

    def __repr__(self):
        return f"<Waiter {self._state.lower()}>"

    # -- for what is waited for ----------------------------------------------------------------------------------------

    def wake(self):
        """Let whoever waits go on; harmless when that has been done, or was given up."""
        if self.state == WAITING:
            self.state = WOKEN
            return self.settle()
        return 0

    def settle(self):
        waker: object = self.waker
        callbacks: object = self.callbacks
        if waker is not None:
            self.waker = None
            # SAFETY: only our tasks park here, and they do on waiters of their own loop, which is a Scheduler.
            loop: Scheduler = cython.cast(Scheduler, self.loop)
            loop.check()
            # SAFETY: push() takes a reference of its own.
            loop.ring.push(loop.stepper, cython.cast(cython.pointer(PyObject), waker))
        if callbacks is not None:
            self.callbacks = None
            for callback, context in callbacks:
                self.loop.call_soon(callback, self, context=context)
        return 0

    def error(self):
        return CancelledError() if self.message is None else CancelledError(self.message)

    # -- as asyncio.Future has it --------------------------------------------------------------------------------------

    @property
    def _asyncio_future_blocking(self):
        return self.is_blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        self.is_blocking = value

    @property
    def _loop(self):
        return self.loop

    @property
    def _state(self):
        return STATE_NAMES[cython.cast(cython.int, self.state)]

    def get_loop(self):
        """The event loop."""
        return self.loop

    def done(self):
        """Whether it was woken or cancelled."""
        return self.state != WAITING

    def cancelled(self):
        """Whether it was cancelled."""
        return self.state == GIVEN_UP

    def cancel(self, msg=None):
        """Give the waiting up; returns whether there was any."""
        if self.state != WAITING:
            return False
        self.state = GIVEN_UP
        self.message = msg
        self.settle()
        return True

    def set_result(self, result):
        """Let whoever waits go on; see :meth:`asyncio.Future.set_result`. For asyncio's code, which wakes so."""
        if self.state != WAITING:
            raise InvalidStateError(f"invalid state: {self!r}")
        self.wake()

    def result(self):
        """None, once it was woken; see :meth:`asyncio.Future.result`."""
        if self.state == GIVEN_UP:
            raise self.error()
        if self.state == WAITING:
            raise InvalidStateError("Result is not ready.")

    def exception(self):
        """None, once it was woken; see :meth:`asyncio.Future.exception`."""
        return self.result()

    def add_done_callback(self, callback, *, context=None):
        """Call ``callback(waiter)`` in the turn after it was woken or cancelled."""
        if context is None:
            context = PyContext_CopyCurrent()
        if self.state != WAITING:
            self.loop.call_soon(callback, self, context=context)
        elif self.callbacks is None:
            self.callbacks = [(callback, context)]
        else:
            self.callbacks.append((callback, context))

    def remove_done_callback(self, callback):
        """Forget every entry of ``callback``; returns how many there were."""
        before: list = self.callbacks or []
        left: list = [entry for entry in before if entry[0] != callback]
        self.callbacks = left or None
        return len(before) - len(left)

    def __await__(self):
        if self.state == WAITING:
            self.is_blocking = True
            yield self
        if self.state == WAITING:
            raise RuntimeError("await wasn't used with future")
        return self.result()

    __iter__ = __await__


def new_waiter(loop):
    waiter: Waiter = Waiter.__new__(Waiter)
    waiter.loop = loop
    return waiter
