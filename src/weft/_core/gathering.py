"""``gather``: asyncio's, with one object that hears of all its children, called by the ring without handle or context.

The future that it returns, and the tasks that it makes, are asyncio's kinds. The invariant is asyncio's: the outer
future is done once, with the first error or with all results, and every child's error counts as seen.
"""

import asyncio
from asyncio import _get_running_loop, ensure_future, tasks
from asyncio.exceptions import CancelledError
from collections.abc import Awaitable
from types import CoroutineType

import cython
from cython.cimports.cpython.contextvars import PyContext_CopyCurrent
from cython.cimports.weft._core.futures import (
    add_callback,
    error_of,
    is_known,
    is_pending,
    result_of,
    was_cancelled,
)
from cython.cimports.weft._core.handle import Runnable
from cython.cimports.weft._core.operation import Operation
from cython.cimports.weft._core.stepper import register_listener_type
from cython.cimports.weft._core.task import spawn, spawner_of

from weft import versions

STOCK_GATHER = cython.declare(object, asyncio.gather)
OuterFuture = cython.declare(object, tasks._GatheringFuture)
ENSURE_FUTURE = cython.declare(object, ensure_future)
RUNNING_LOOP_OR_NONE = cython.declare(object, _get_running_loop)
CoroutineClass = cython.declare(object, CoroutineType)
ADD_AWAITED_BY = cython.declare(object, versions.future_add_to_awaited_by)
DISCARD_AWAITED_BY = cython.declare(object, versions.future_discard_from_awaited_by)
# From 3.12 on, when tasks may start eagerly, a child that is done is counted at once.
COUNTS_AT_ONCE = cython.declare(cython.bint, versions.EAGER_TASKS)


class Gathering(Runnable):
    def __repr__(self):
        return f"<gather of {len(self.children)}, {self.finished} done>"

    @property
    def _gathered(self):
        """What asyncio's callback has in its cells, for ``weft.watch``."""
        return {"children": self.children, "outer": self.outer, "return_exceptions": self.keeps_errors}

    def __call__(self, future):
        """A child is done, on a loop that is not ours."""
        self.on_done(future)

    def run(self, argument):
        # SAFETY: the ring's entry holds the argument until run() returns.
        self.on_done(cython.cast(object, argument))
        return 0

    def report(self, loop, argument, error):
        loop.call_exception_handler({"message": f"Exception in {self!r}", "exception": error})
        return 0

    def on_done(self, future):
        self.finished += 1
        if DISCARD_AWAITED_BY is not None and self.waiting_task is not None:
            DISCARD_AWAITED_BY(future, self.waiting_task)
        if self.outer is None or not is_pending(self.outer):
            if not was_cancelled(future):
                error_of(future)  # which marks it as seen
            return 0
        if not self.keeps_errors:
            if was_cancelled(future):
                self.outer.set_exception(future._make_cancelled_error())
                return 0
            error: object = error_of(future)
            if error is not None:
                self.outer.set_exception(error)
                return 0
        if self.finished == self.total:
            self.conclude()
        return 0

    def conclude(self):
        """All are done, and no error has ended it before."""
        results: list = [self.outcome_of(child) for child in self.children]
        if self.outer._cancel_requested:
            # It was cancelled, and a child took that in; or the errors are kept: who awaits hears of it all the same.
            self.outer.set_exception(self.children[-1]._make_cancelled_error())
        else:
            self.outer.set_result(results)
        return 0

    def outcome_of(self, child):
        if not self.keeps_errors:
            return result_of(child)
        if was_cancelled(child):
            message: object = child._cancel_message
            return CancelledError("" if message is None else message)
        error: object = error_of(child)
        return result_of(child) if error is None else error

    def forget_waiting(self, outer):
        """A child that outlives the gathering is awaited by nobody (from 3.14 on)."""
        for child in self.children:
            DISCARD_AWAITED_BY(child, self.waiting_task)

    def add(self, argument, loop):
        """The child for an argument, which is asked for its end; what it returns goes into ``children``."""
        child: object = new_child(argument, loop, self.spawner)
        if child is not argument:
            # The caller cannot take care of it.
            child._log_destroy_pending = False
        self.total += 1
        if COUNTS_AT_ONCE and not (is_pending(child) if is_known(child) else not child.done()):
            self.early.append(child)
            return child
        if ADD_AWAITED_BY is not None and self.waiting_task is not None:
            ADD_AWAITED_BY(child, self.waiting_task)
        if is_known(child):
            add_callback(child, self, self.context)
        else:
            child.add_done_callback(self)
        return child


def new_child(argument, loop, spawner):
    if type(argument) is not CoroutineClass and not isinstance(argument, Operation):
        return ENSURE_FUTURE(argument, loop=loop)
    try:
        if spawner is not None and (loop is None or loop is spawner):
            return spawn(spawner, argument)
        return (RUNNING_LOOP_OR_NONE() if loop is None else loop).create_task(argument)
    except RuntimeError:
        argument.close()
        raise


def gather(*coros_or_futures, return_exceptions=False):
    """Run all of *coros_or_futures* side by side; see :func:`asyncio.gather`.

    Args:
        *coros_or_futures: coroutines, which become tasks, futures, and whatever else can be awaited.
        return_exceptions: whether an error is one of the results; else the first is raised, and the others run on.

    Returns:
        A future of the list of results, in the order of the arguments. To cancel it cancels all that have not ended.
    """
    running: object = RUNNING_LOOP_OR_NONE()
    if running is None or not coros_or_futures:
        return STOCK_GATHER(*coros_or_futures, return_exceptions=return_exceptions)
    gathering: Gathering = Gathering.__new__(Gathering)
    gathering.keeps_errors = return_exceptions
    gathering.spawner = spawner_of(running)
    gathering.children = []
    gathering.early = []
    gathering.context = PyContext_CopyCurrent()
    if ADD_AWAITED_BY is not None:
        gathering.waiting_task = asyncio.current_task(running)
    loop: object = None
    known: dict = {}
    for argument in coros_or_futures:
        child: object = known.get(argument)
        if child is None:
            child = known[argument] = gathering.add(argument, loop)
            if loop is None:
                loop = child.get_loop()
        gathering.children.append(child)
    gathering.outer = OuterFuture(gathering.children, loop=loop)
    for child in gathering.early:
        gathering.on_done(child)
    gathering.early = gathering.context = None
    if gathering.waiting_task is not None:
        gathering.outer.add_done_callback(gathering.forget_waiting)
    return gathering.outer


gather.__annotations__ = {"coros_or_futures": Awaitable, "return_exceptions": bool, "return": asyncio.Future}
gather.__module__ = "weft"
register_listener_type(Gathering)
