"""One thing that can be awaited, once: the compiled stand-in for a small ``async def``.

An ``Operation`` is what ``queue.get()``, ``reader.readline()`` or ``loop.sock_recv()`` return. It is a coroutine to all
who ask (``collections.abc.Coroutine``; ``create_task`` takes it), but no frame: awaiting it calls ``begin``, which
returns the result, raises, or parks on a ``Waiter``; after each wake-up ``resume`` does the same. The invariant: every
path ends in ENDED, through a result, an error or ``give_up``, which undoes what ``begin`` has arranged, so a cancelled
operation has taken nothing.

What ``begin``, ``resume`` and ``give_up`` return is the result, or the waiter that ``park`` returned, or PAUSE to go on
in the next turn. An operation is a runnable as well, for those that are woken by the clock.
"""

import warnings

import cython
from cython.cimports.weft._core.handle import Runnable
from cython.cimports.weft._core.sys.python import Py_TYPE, PyTypeObject
from cython.cimports.weft._core.waiter import WAITING, Waiter, new_waiter

# SAFETY: the module that defines the class holds it.
waiter_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Waiter))


PAUSE = cython.declare(object, object())


class Operation(Runnable):
    def __init__(self):
        raise TypeError(f"{type(self).__name__} objects are made by the method that returns them")

    # -- what each kind of operation says ------------------------------------------------------------------------------

    def begin(self):
        raise NotImplementedError

    def resume(self):
        """What was waited for has come, or seems to have."""
        return self.begin()

    def give_up(self, error):
        """``error`` was thrown in while it waited: undo what is arranged, and raise it."""
        raise error

    def name(self):
        """What a coroutine function of its kind would be called."""
        return "operation"

    # -- for those -----------------------------------------------------------------------------------------------------

    def park(self, loop):
        """Wait: to be returned by ``begin`` and the others, which have noted ``self.waiter`` where it will be woken."""
        waiter: Waiter = new_waiter(loop)
        waiter.is_blocking = True
        self.waiter = waiter
        return waiter

    # -- a coroutine's methods (PEP 492) -------------------------------------------------------------------------------

    def go(self):
        """To the next stop: the result, or the waiter."""
        result: object
        if self.stage == FRESH:
            self.stage = ENDED
            result = self.begin()
        elif self.stage == PARKED:
            if self.waiter is not None and self.waiter.state == WAITING:
                raise RuntimeError("await wasn't used with future")
            self.stage = ENDED
            result = self.resume()
        else:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if Py_TYPE(result) == waiter_type or result is PAUSE:
            self.stage = PARKED
        return result

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Go on; see :meth:`coroutine.send`."""
        if value is not None and self.stage == FRESH:
            raise TypeError("can't send non-None value to a just-started coroutine")
        result: object = self.go()
        if self.stage == PARKED:
            return None if result is PAUSE else result
        raise StopIteration(result)

    def throw(self, kind, value=None, traceback=None):
        """Raise inside; see :meth:`coroutine.throw`."""
        error: object = value if isinstance(value, BaseException) else kind
        if isinstance(error, type):
            error = error() if value is None else error(value)
        if traceback is not None:
            error = error.with_traceback(traceback)
        was_parked: cython.bint = self.stage == PARKED
        self.stage = ENDED
        if not was_parked:
            raise error
        result: object = self.give_up(error)
        if Py_TYPE(result) == waiter_type:
            self.stage = PARKED
            return result
        raise StopIteration(result)

    def close(self):
        """End it where it is; see :meth:`coroutine.close`."""
        was_parked: cython.bint = self.stage == PARKED
        self.stage = ENDED
        if not was_parked:
            return
        try:
            result = self.give_up(GeneratorExit())
        except (GeneratorExit, StopIteration):
            return
        if Py_TYPE(result) == waiter_type:
            raise RuntimeError("coroutine ignored GeneratorExit")

    def __del__(self):
        if self.stage == FRESH:
            warnings.warn(f"coroutine {self.name()!r} was never awaited", RuntimeWarning, 2, source=self)

    # What people and tools look at.

    def __getattr__(self, name):
        if name == "__qualname__":  # asyncio names a task's coroutine by it
            return self.name()
        if name == "__name__":
            return self.name().rpartition(".")[2]
        raise AttributeError(name)

    @property
    def cr_await(self):
        return self.waiter if self.stage == PARKED else None

    @property
    def cr_running(self):
        return False

    def __repr__(self):
        stage: str = ("not started", "waiting", "done")[cython.cast(cython.int, self.stage)]
        return f"<{self.name()}() {stage}>"


@cython.cfunc
def go(operation: object) -> object:
    # SAFETY: called for operations alone, from the slots of their type.
    return cython.cast(Operation, operation).go()


weft_install_operation(Operation, Waiter, PAUSE, go)
