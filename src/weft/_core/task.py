"""``weft.Task`` and what makes tasks and futures on a loop.

The class is a real subclass of ``asyncio.Task``, whose constructor, registry, names, results and callbacks it keeps; it
replaces what has to do with stepping and cancelling, whose state is a part of the task. Invariant: that state is filled
before anything else sees the task. The mixin ``Tasks`` is part of the event loop.
"""

import _asyncio
import asyncio
import enum

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.weft._core.registry import StepState, weft_get_number, weft_hold, weft_set_number
from cython.cimports.weft._core.stepper import TaskScheduler, register_task_type, state_of, state_to_fill
from cython.cimports.weft._core.stepper import start as start_stepping
from cython.cimports.weft._core.stepper import start_eagerly as start_stepping_eagerly
from cython.cimports.weft._core.sys.python import (
    Py_EnterRecursiveCall,
    Py_LeaveRecursiveCall,
    Py_TYPE,
    PyObject,
    PyTypeObject,
    traverseproc,
    visitproc,
    weft_get_traverse,
    weft_init,
    weft_new,
    weft_set_traverse,
)

from weft import versions
from weft._core.registry import SteppedTask

StockTask = cython.declare(object, _asyncio.Task)
STOCK_GET_NAME = cython.declare(object, _asyncio.Task.get_name)
STOCK_SET_NAME = cython.declare(object, _asyncio.Task.set_name)
STOCK_GET_CORO = cython.declare(object, _asyncio.Task.get_coro)
NO_ARGS = cython.declare(tuple, ())
FUTURE_MAKE_CANCELLED_ERROR = cython.declare(object, _asyncio.Future._make_cancelled_error)
Future = cython.declare(object, _asyncio.Future)
# Beside those of the stepper: the task is to be cancelled while it waits for the future `what`.
CANCELLING = cython.declare(str, "cancelling")
LAZY_NAMES = cython.declare(cython.bint, versions.LAZY_TASK_NAMES)
# Tasks made so far that have had no name.
counted = cython.declare(uint64_t, 0)
# The class of loop that spawner_of() was asked about last.
spawner_class = cython.declare(object, None)
spawner_type = cython.declare(cython.pointer(PyTypeObject), cython.NULL)
UNCANCEL_TAKES_BACK = cython.declare(cython.bint, versions.UNCANCEL_TAKES_BACK)


class TaskState(enum.Enum):
    """Where a task stands; see :attr:`Task.state`."""

    PENDING = "pending"  #: made and not yet started, or waiting
    RUNNING = "running"  #: the loop is in it now
    DONE = "done"  #: returned or raised
    CANCELLED = "cancelled"


class Task(SteppedTask):
    """A coroutine and its state, carried by a weft loop; everywhere an :class:`asyncio.Task`.

    Made by :func:`asyncio.create_task`, ``loop.create_task`` and their like on a weft loop. The loop holds the task
    until it is done, so that none is collected half way.

    Args:
        coro: the coroutine.
        loop: a weft event loop; the running one by default.
        name: a name for people; ``Task-N`` by default.
        context: the :class:`contextvars.Context` to run in; a copy of the current one by default.
        eager_start: take the first step at once, before the constructor returns, where the loop is running.

    Raises:
        TypeError: when ``coro`` is not a coroutine, or ``loop`` not a weft loop.
    """

    __slots__ = ()

    def __init__(self, coro, *, loop=None, name=None, context=None, eager_start=False):
        if loop is None:
            loop = asyncio.get_event_loop()
        if not isinstance(loop, TaskScheduler):
            raise TypeError(f"weft.Task needs a weft event loop, not {loop!r}; use asyncio.Task there")
        start(self, loop, coro, name, context, eager_start)

    @property
    def state(self):
        """The :class:`TaskState`: ``PENDING``, ``RUNNING``, ``DONE`` or ``CANCELLED``."""
        if self.done():
            return TaskState.CANCELLED if self.cancelled() else TaskState.DONE
        state: cython.pointer(StepState) = state_of(self)
        return TaskState.RUNNING if state.is_running else TaskState.PENDING

    @property
    def _must_cancel(self):
        state: cython.pointer(StepState) = state_of(self)
        return bool(state.must_cancel)

    @property
    def _fut_waiter(self):
        state: cython.pointer(StepState) = state_of(self)
        if state.coroutine == cython.NULL or state.held == cython.NULL:
            return None
        return cython.cast(object, state.held)  # SAFETY: the state owns it; the cast takes a reference

    def cancel(self, msg=None):
        """Ask the task to end: CancelledError is thrown into its coroutine; see :meth:`asyncio.Task.cancel`.

        Raises:
            RuntimeError: when the task's loop runs in another thread.
        """
        if self.done():
            self._log_traceback = False  # whoever cancels has given the result up
            return False
        state: cython.pointer(StepState) = state_of(self)
        if state.loop != cython.NULL:
            # First of all: half a cancellation would leave the task asleep for ever.
            # SAFETY: this task is in the registry of that loop, so the loop is alive.
            loop: TaskScheduler = cython.cast(TaskScheduler, state.loop)
            loop.check_thread()
            # SAFETY: the state owns what it points to; the cast takes a reference.
            if state.held != cython.NULL and type(cython.cast(object, state.held)) is Future:
                loop.tell(CANCELLING, self, cython.cast(object, state.held))
        state.cancel_requests += 1
        if state.held != cython.NULL:
            awaited: object = cython.cast(object, state.held)  # SAFETY: as above
            # A chain of tasks is as long as the user made it, and may be a ring.
            Py_EnterRecursiveCall(" while cancelling a task")
            try:
                if awaited.cancel(msg=msg):
                    # The future's callback brings the cancellation into the coroutine.
                    return True
            finally:
                Py_LeaveRecursiveCall()
        state.must_cancel = True
        self._cancel_message = msg
        return True

    def get_name(self):
        """The name: what it was given, or ``Task-N``."""
        state: cython.pointer(StepState) = state_of(self)
        number: uint64_t = weft_get_number(state)
        if number:
            STOCK_SET_NAME(self, f"Task-{number}")
            weft_set_number(state, 0)
        return STOCK_GET_NAME(self)

    def set_name(self, value):
        """Give the task another name."""
        state: cython.pointer(StepState) = state_of(self)
        weft_set_number(state, 0)
        STOCK_SET_NAME(self, value)

    def get_coro(self):
        """The coroutine; None for a task that ended in its eager first step, as in asyncio."""
        state: cython.pointer(StepState) = state_of(self)
        return None if state.ended_eagerly else STOCK_GET_CORO(self)

    def cancelling(self):
        """How many calls of :meth:`cancel` have not been taken back by :meth:`uncancel`."""
        state: cython.pointer(StepState) = state_of(self)
        return state.cancel_requests

    def uncancel(self):
        """Take one request to cancel back; returns how many are left."""
        state: cython.pointer(StepState) = state_of(self)
        if state.cancel_requests > 0:
            state.cancel_requests -= 1
            if UNCANCEL_TAKES_BACK and state.cancel_requests == 0:
                state.must_cancel = False
        return state.cancel_requests

    # The CancelledError that ended the task keeps its traceback for the first who asks, as in asyncio; result(),
    # exception() and `await` do so too: sys/weft_task.h.

    def _make_cancelled_error(self):
        return take_kept(self) or FUTURE_MAKE_CANCELLED_ERROR(self)


@cython.cfunc
def take_kept(task: object) -> object:
    """The CancelledError that ended the task, which it keeps for the first who asks; or None."""
    state: cython.pointer(StepState) = state_of(task)
    if state.coroutine != cython.NULL or state.held == cython.NULL:
        return None
    error: object = cython.cast(object, state.held)  # SAFETY: the state owns it; the cast takes a reference
    weft_hold(cython.address(state.held), cython.NULL)
    return error


weft_install_outcome(Task, StockTask, take_kept)
register_task_type(Task)


@cython.cfunc
@cython.exceptval(check=False)
def next_number() -> uint64_t:
    global counted
    counted += 1
    return counted


@cython.cfunc
def start(
    task: object, loop: TaskScheduler, coro: object, name: object, context: object, eagerly: object
) -> cython.int:
    """Let asyncio make the task, without the step that it would schedule, and start the stepper in its place."""
    loop.check()
    state: cython.pointer(StepState) = state_to_fill(task)
    keywords: dict = loop.task_keywords
    if LAZY_NAMES and name is None:
        weft_set_number(state, next_number())
    if name is not None or context is not None:
        keywords = dict(keywords)
        if name is not None:
            keywords["name"] = name
        if context is not None:
            keywords["context"] = context
    # A destructor or a name's __str__ may make another task before this one is made: each keeps its own account.
    outer_spawning: cython.bint = loop.is_spawning
    outer_context: object = loop.spawn_context
    loop.is_spawning = True
    try:
        weft_init(StockTask, task, (coro,), keywords)
        context = loop.spawn_context
    finally:
        loop.is_spawning = outer_spawning
        loop.spawn_context = outer_context
    if eagerly and loop.thread_id != 0:
        start_stepping_eagerly(loop, task, coro, context)
    else:
        start_stepping(loop, task, coro, context)
    return 0


def spawner_of(loop):
    """``loop``, when ``spawn`` may make its tasks: it is ours, with our ``create_task``, and without a factory."""
    global spawner_class, spawner_type
    if Py_TYPE(loop) != spawner_type:
        if not isinstance(loop, TaskScheduler) or type(loop).create_task is not Tasks.create_task:
            return None
        spawner_class = type(loop)
        # SAFETY: held by the line above.
        spawner_type = cython.cast(cython.pointer(PyTypeObject), spawner_class)
    # Who wants to hear of each task, as weft.watch does, puts a method of his own before ours.
    # SAFETY: its class was looked at.
    factory: object = cython.cast(TaskScheduler, loop)._task_factory
    return loop if factory is None and "create_task" not in vars(loop) else None


def spawn(loop, coro):
    """What ``create_task(coro)`` of such a loop does."""
    task: object = weft_new(Task, NO_ARGS)
    start(task, loop, coro, None, None, False)
    return task


@cython.cfunc
def by_factory(loop: TaskScheduler, coro: object, name: object, context: object, extra: dict) -> object:
    loop._check_closed()
    return versions.call_task_factory(loop._task_factory, loop, coro, name, context, extra)


class Tasks:
    """The loop's methods that make tasks and futures."""

    def create_future(self):
        """A new :class:`asyncio.Future` on this loop."""
        future = weft_new(Future, NO_ARGS)
        # SAFETY: this mixin is only ever part of a TaskScheduler.
        weft_init(Future, future, NO_ARGS, cython.cast(TaskScheduler, self).loop_keyword)
        return future

    def create_task(self, coro, *, name=None, context=None, **kwargs):
        """Run ``coro`` as a task; see :meth:`asyncio.loop.create_task`.

        Args:
            coro: a coroutine.
            name: a name for people.
            context: the :class:`contextvars.Context` to run in; a copy of the current one by default.
            **kwargs: ``eager_start=True`` takes the first step at once; everything is passed on to a task factory.

        Returns:
            A :class:`Task`, or what the task factory made.
        """
        if self._task_factory is None:
            eagerly = kwargs.pop("eager_start", False) if kwargs else False
            if kwargs:
                raise TypeError(f"create_task() got an unexpected keyword argument {next(iter(kwargs))!r}")
            task = weft_new(Task, NO_ARGS)
            start(task, self, coro, name, context, eagerly)
            return task
        return by_factory(self, coro, name, context, kwargs)

    def set_task_factory(self, factory):
        """Set what makes tasks: a callable as for :meth:`asyncio.loop.set_task_factory`, or None for weft's own."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self):
        """The task factory, or None."""
        return self._task_factory


@cython.cfunc
def create(loop: object, coro: object) -> object:
    # SAFETY: the door has looked at its class.
    scheduler: TaskScheduler = cython.cast(TaskScheduler, loop)
    return spawn(scheduler, coro) if scheduler._task_factory is None else by_factory(scheduler, coro, None, None, {})


CREATE_TASK = cython.declare(object, Tasks.create_task)
weft_install_create_task(CREATE_TASK, TaskScheduler, create)


@cython.cfunc
@cython.exceptval(check=False)
def traverse(self: cython.pointer(PyObject), visit: visitproc, data: cython.p_void) -> cython.int:
    """What the garbage collector sees of a loop: ring, timers, driver and registry hold references in C.

    A loop that is dropped without ``close()``, tasks and all, is so found and finalised.
    """
    seen: cython.int = cython_traverse(self, visit, data)
    # SAFETY: the collector holds the loop; the temporary reference does not disturb it, as it counts in a copy.
    loop: TaskScheduler = cython.cast(TaskScheduler, self)
    if seen == 0 and loop.ring is not None:
        seen = loop.ring.traverse(visit, data)
    if seen == 0 and loop.due is not None:
        seen = loop.due.traverse(visit, data)
    if seen == 0 and loop.timers is not None:
        seen = loop.timers.traverse(visit, data)
    if seen == 0 and loop._driver is not None:
        seen = loop._driver.traverse(visit, data)
    # While a loop is being made its methods are still the base's, which has no such one; it has no task then either.
    if seen == 0 and loop.first != cython.NULL:
        seen = loop.traverse_members(visit, data)
    return seen


cython_traverse = cython.declare(traverseproc, weft_get_traverse(TaskScheduler))
weft_set_traverse(TaskScheduler, traverse)
