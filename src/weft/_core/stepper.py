"""The stepper: what carries a task from one ``await`` to the next.

A ``weft.Task`` is an ``asyncio.Task`` whose steps are not asyncio's own. Its stepper lies in the ready ring by value,
without handle or bound method; its argument is the task that has a step to take. ``TaskScheduler`` is the scheduler
with what tasks need: the registry that keeps unfinished ones alive, the current task, and a ``call_soon`` that knows
the callbacks which never become a handle.

Invariants: a task is in its loop's registry from its start until its coroutine has ended; while it waits, exactly
one done callback (the task itself) stands in what it waits for; asyncio's current task is this task from its first
instruction to its last, and is set back before anything that is not a step runs.
"""

import asyncio
from asyncio.exceptions import CancelledError
from types import GeneratorType

import cython
from cython.cimports.cpython.contextvars import PyContext_Copy, PyContext_Enter, PyContext_Exit
from cython.cimports.cpython.dict import PyDict_SetItem
from cython.cimports.cpython.exc import PyErr_Clear, PyErr_ExceptionMatches
from cython.cimports.weft._core.futures import (
    add_callback,
    begin_waiting,
    cancel,
    is_pending,
    is_step_wrapper,
    outcome,
    set_exception,
    set_result,
)
from cython.cimports.weft._core.futures import register_task_type as futures_register
from cython.cimports.weft._core.handle import Runnable
from cython.cimports.weft._core.registry import (
    StepState,
    TaskRegistry,
    weft_find_state,
    weft_hold,
    weft_set_number,
    weft_share_state,
    weft_state_of,
)
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sys.python import (
    PYGEN_ERROR,
    PYGEN_NEXT,
    PYGEN_RETURN,
    Py_DECREF,
    Py_TYPE,
    PyObject,
    PySendResult,
    PyTypeObject,
    weft_call2,
    weft_raise_again,
    weft_step,
    weft_take_exception,
    weft_try_call2,
)
from cython.cimports.weft._core.waiter import GIVEN_UP, WAITING, Waiter

from weft import versions
from weft._core.registry import SteppedTask, StockTask

THROW = cython.declare(str, "throw")
# Up to 3.13 the current task of a loop is an entry of this dict; later it is kept on the thread's state.
CURRENT_TASKS = cython.declare(object, versions.CURRENT_TASKS)
SWAP_CURRENT_TASK = cython.declare(object, versions.swap_current_task)
# The name of a task that nobody has asked for its name, where names are made when they are asked for.
UNNAMED = cython.declare(str, "Task")
LAZY_NAMES = cython.declare(cython.bint, versions.LAZY_TASK_NAMES)
ADD_AWAITED_BY = cython.declare(object, versions.future_add_to_awaited_by)
DISCARD_AWAITED_BY = cython.declare(object, versions.future_discard_from_awaited_by)
# What an observer is told, by these words: observer(loop, event, task, what).
FAILED = cython.declare(str, "failed")  # the task has ended with an exception, and its callbacks `what` are to run
SURVIVED = cython.declare(str, "survived")  # it goes on after the CancelledError `what`, and did not take it back
ENDED = cython.declare(str, "ended")  # it is about to end well, and a request to cancel it stands
# SAFETY: the module that defines the class holds it.
waiter_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Waiter))


class Stepper(Runnable):
    """The runnable of every task; its argument says which task it is that has a step to take."""

    def run(self, argument):
        # SAFETY: the ring's entry holds the task until run() returns.
        task: object = cython.cast(object, argument)
        state: cython.pointer(StepState) = weft_state_of(argument)
        if state.held == cython.NULL or state.coroutine == cython.NULL:
            return step(task, state, None)
        # SAFETY: the cast takes a reference, as step() lets go of the state's.
        awaited: object = cython.cast(object, state.held)
        if Py_TYPE(awaited) == waiter_type:
            waiter: Waiter = awaited
            return step(task, state, waiter.error() if waiter.state == GIVEN_UP else None)
        if DISCARD_AWAITED_BY is not None:
            weft_call2(DISCARD_AWAITED_BY, awaited, task)
        return step(task, state, outcome(awaited))

    def describe(self, argument):
        return cython.cast(object, argument)  # SAFETY: as above

    def report(self, loop, argument, error):
        return report_step(loop, cython.cast(object, argument), error)  # SAFETY: as above


class Refusal(Runnable):
    """A step into which an error is thrown: the task has awaited what cannot be awaited."""

    def run(self, argument):
        return step(self.task, state_of(self.task), self.error)

    def describe(self, argument):
        return self.task

    def report(self, loop, argument, error):
        return report_step(loop, self.task, error)


def report_step(loop, task, error):
    """A step raises only where a future of foreign make, or a method that somebody overrode, does."""
    loop.call_exception_handler({"message": f"Exception in a step of {task!s}", "exception": error})
    return 0


class Wakeup:
    """The done callback of a task that cannot be handed out as its own: it can be called."""

    def __getattr__(self, name):
        if name == "__qualname__":
            return "Task.task_wakeup"  # how asyncio shows the callback of a waiting task in the repr of a future
        raise AttributeError(name)

    def __call__(self, future):
        """For futures of foreign make that call their callbacks themselves."""
        self.resume_by(future)
        stepper.run(cython.cast(cython.pointer(PyObject), self.task))  # SAFETY: we hold the task

    def resume_by(self, future):
        """Have the next step look at ``future``."""
        state: cython.pointer(StepState) = state_of(self.task)
        if state.coroutine == cython.NULL:
            raise asyncio.InvalidStateError(f"step(): already done: {self.task!r}")
        # SAFETY: the caller holds its argument.
        weft_hold(cython.address(state.held), cython.cast(cython.pointer(PyObject), future))
        return 0


def state_of(task):
    """What we keep of ``task``, for whom it may be any object; everything else here knows that it is a task."""
    state: cython.pointer(StepState) = weft_find_state(task)
    if not state.is_made:
        raise RuntimeError(f"{type(task).__name__}.__init__() was not called")
    return state


def state_to_fill(task):
    """For the constructor, which fills what the others ask for."""
    state: cython.pointer(StepState) = weft_find_state(task)
    if state.loop != cython.NULL:
        raise RuntimeError(f"{task!r} was started already")
    state.cancel_requests = 0
    weft_set_number(state, 0)
    state.is_made = True
    return state


def begin(loop, task, coroutine, context):
    state: cython.pointer(StepState) = state_of(task)
    # SAFETY: the state owns these two until unlink().
    weft_hold(cython.address(state.coroutine), cython.cast(cython.pointer(PyObject), coroutine))
    weft_hold(cython.address(state.context), cython.cast(cython.pointer(PyObject), context))
    loop.link(task, state)
    return state


def start(loop, task, coroutine, context):
    """Make the first step ready."""
    begin(loop, task, coroutine, context)
    return loop.wake(task)


def start_eagerly(loop, task, coroutine, context):
    """Take the first step at once, inside whatever is running now."""
    outer: object = loop.current
    state: cython.pointer(StepState) = begin(loop, task, coroutine, context)
    try:
        step(task, state, None)
        state.ended_eagerly = state.coroutine == cython.NULL
    finally:
        loop.enter(outer)
    return 0


def step(task, state, error):
    """Resume the coroutine, by ``error`` where there is one, and act on what it does."""
    if state.coroutine == cython.NULL or not is_pending(task):
        raise asyncio.InvalidStateError(f"step(): already done: {task!r}, {error!r}")
    # SAFETY: each cast takes a reference of its own, so both outlive what the step does to the state.
    coroutine: object = cython.cast(object, state.coroutine)
    context: object = cython.cast(object, state.context)
    if state.must_cancel:
        if not isinstance(error, CancelledError):
            error = task._make_cancelled_error()
        state.must_cancel = False
    weft_hold(cython.address(state.held), cython.NULL)
    # SAFETY: this task is in the registry of that loop, so the loop is alive.
    cython.cast(TaskScheduler, state.loop).enter(task)
    produced: cython.pointer(PyObject) = cython.NULL
    status: PySendResult
    PyContext_Enter(context)
    state.is_running = True
    # SAFETY: the locals `coroutine` and `error` outlive the call.
    status = weft_step(
        coroutine,
        cython.NULL if error is None else cython.cast(cython.pointer(PyObject), error),
        THROW,
        cython.address(produced),
    )
    state.is_running = False
    if status == PYGEN_ERROR:
        produced = weft_take_exception()
    # SAFETY: either call gave a new reference; the object takes one of its own.
    what: object = cython.cast(object, produced)
    Py_DECREF(produced)
    if error is not None and status != PYGEN_ERROR and state.cancel_requests > 0:
        survived(task, state, error)
    try:
        if status == PYGEN_NEXT:
            wait_for(task, state, what)
        elif status == PYGEN_RETURN:
            finish(task, state, what)
        else:
            fail(task, state, what)
    finally:
        PyContext_Exit(context)
    return 0


def wait_for(task, state, awaited):
    """The coroutine has yielded ``awaited``: a future to wait for, or None to give way for one turn."""
    # SAFETY: here and below: a task that is stepped is in the registry of its loop, so the loop is alive.
    if awaited is None:
        return cython.cast(TaskScheduler, state.loop).wake(task)
    if Py_TYPE(awaited) == waiter_type and park(task, state, awaited):
        return subscribe(task, state, awaited)
    if awaited is task or not begin_waiting(awaited, state.loop):
        return wait_for_other(task, state, awaited)
    if ADD_AWAITED_BY is not None:
        weft_call2(ADD_AWAITED_BY, awaited, task)
    context: object = cython.cast(object, state.context)  # SAFETY: the cast takes a reference
    # SAFETY: as above.
    if not cython.cast(TaskScheduler, state.loop).hands_tasks:
        # Whoever runs the callback enters its context, and the step that it leads to enters the task's.
        add_callback(awaited, new_wakeup(task), PyContext_Copy(context))
    elif Py_TYPE(task) != task_type:
        add_callback(awaited, new_wakeup(task), context)
    else:
        add_callback(awaited, task, context)
    return subscribe(task, state, awaited)


def park(task, state, waiter):
    """The fast way to wait for a waiter: True when it was just awaited and is this loop's."""
    # SAFETY: only compared.
    if cython.cast(cython.pointer(PyObject), waiter.loop) != state.loop or not waiter.is_blocking:
        return False
    if waiter.state != WAITING or waiter.waker is not None:
        return False
    waiter.is_blocking = False
    waiter.waker = task
    return True


def wait_for_other(task, state, awaited):
    """Subclasses, futures of foreign make, and everything that cannot be awaited."""
    blocking = getattr(awaited, "_asyncio_future_blocking", None)
    if blocking is None:
        if isinstance(awaited, GeneratorType):
            return refuse(
                task, state, f"yield was used instead of yield from for generator in task {task!r} with {awaited!r}"
            )
        return refuse(task, state, f"Task got bad yield: {awaited!r}")
    # SAFETY: only compared.
    if asyncio.futures._get_loop(awaited) is not cython.cast(object, state.loop):
        return refuse(task, state, f"Task {task!r} got Future {awaited!r} attached to a different loop")
    if not blocking:
        return refuse(task, state, f"yield was used instead of yield from in task {task!r} with {awaited!r}")
    if awaited is task:
        return refuse(task, state, f"Task cannot await on itself: {task!r}")
    if ADD_AWAITED_BY is not None:
        weft_call2(ADD_AWAITED_BY, awaited, task)
    awaited._asyncio_future_blocking = False
    context: object = cython.cast(object, state.context)  # SAFETY: the cast takes a reference
    awaited.add_done_callback(new_wakeup(task), context=context)
    return subscribe(task, state, awaited)


def subscribe(task, state, future):
    # SAFETY: the state owns what it waits for until the step that follows.
    weft_hold(cython.address(state.held), cython.cast(cython.pointer(PyObject), future))
    if state.must_cancel and future.cancel(msg=task._cancel_message):
        state.must_cancel = False
    return 0


def refuse(task, state, message):
    """Throw RuntimeError into the coroutine in the next turn."""
    refusal: Refusal = Refusal.__new__(Refusal)
    refusal.task = task
    refusal.error = RuntimeError(message)
    # SAFETY: as above.
    return cython.cast(TaskScheduler, state.loop).ring.push(refusal, cython.NULL)


def finish(task, state, result):
    must_cancel: cython.bint = state.must_cancel
    # SAFETY: this task is in the registry of that loop, so the loop is alive; the local keeps it so.
    loop: TaskScheduler = cython.cast(TaskScheduler, state.loop)
    if state.cancel_requests > 0 and not must_cancel:
        loop.tell(ENDED, task, None)
    loop.unlink(task)
    if must_cancel:
        # cancel() came during the last step, in which the coroutine returned.
        cancel(task, task._cancel_message)
    else:
        set_result(task, result)
    return 0


def fail(task, state, error):
    # SAFETY: as above.
    loop: TaskScheduler = cython.cast(TaskScheduler, state.loop)
    loop.unlink(task)
    if isinstance(error, CancelledError):
        # SAFETY: owned until somebody asks for it, or the task goes.
        weft_hold(cython.address(state.held), cython.cast(cython.pointer(PyObject), error))
        cancel(task, None)  # the message is in the error, for the first who asks
        return 0
    callbacks: object = None if loop._task_observer is None else task._callbacks
    set_exception(task, error)
    loop.tell(FAILED, task, callbacks)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        weft_raise_again(error)
    return 0


def survived(task, state, error):
    """The coroutine went on, or returned, although ``error`` was thrown into it and a cancellation stands."""
    if isinstance(error, CancelledError):
        # SAFETY: as above.
        return cython.cast(TaskScheduler, state.loop).tell(SURVIVED, task, error)
    return 0


@cython.cfunc
def new_wakeup(task: object) -> Wakeup:
    wakeup: Wakeup = Wakeup.__new__(Wakeup)
    wakeup.task = task
    return wakeup


stepper = cython.declare(Stepper, Stepper.__new__(Stepper))


class TaskScheduler(TaskRegistry):
    def __cinit__(self, *args, **kwargs):
        self.current = None
        self.spawn_context = None
        self.loop_keyword = {"loop": self}
        self.task_keywords = {"loop": self, "name": UNNAMED} if LAZY_NAMES else self.loop_keyword
        # SAFETY: the module holds the class.
        self.step_type = cython.cast(cython.pointer(PyTypeObject), Stepper)
        self.stepper = stepper

    def call_soon(self, callback, *args, context=None):
        """Run ``callback(*args)`` in the next turn, after everything that was scheduled before it.

        Args:
            callback: any callable but a coroutine function.
            *args: its positional arguments.
            context: the :class:`contextvars.Context` to run it in; a copy of the current one by default.

        Returns:
            A handle whose ``cancel()`` keeps the callback from running.

        Raises:
            RuntimeError: when the loop is closed, or runs in another thread.
            TypeError: when ``callback`` is not callable.
        """
        return self.schedule(callback, args, context)

    def schedule(self, callback, args, context):
        """What ``call_soon`` does, for the method and for the door before it (sys/weft_call_soon.h)."""
        self.check()
        if Py_TYPE(callback) == wakeup_type and len(args) == 1:
            wakeup: Wakeup = callback
            wakeup.resume_by(args[0])
            self.wake(wakeup.task)
            return None
        if Py_TYPE(callback) == listener_type and len(args) == 1:
            # A future that is done tells who listens. asyncio ignores what this returns.
            # SAFETY: push() takes a reference of its own.
            self.ring.push(callback, cython.cast(cython.pointer(PyObject), args[0]))
            return None
        if self.is_spawning and is_step_wrapper(callback):
            # asyncio.Task.__init__ schedules its own first step; ours is scheduled instead.
            # It is the innermost task under way whose wrapper comes first; start() sees to those around it.
            self.is_spawning = False
            self.spawn_context = context
            return None
        return self.soon(callback, args, context)

    def wake(self, task):
        """Make the next step of ``task`` ready."""
        # SAFETY: push() takes a reference of its own.
        return self.ring.push(stepper, cython.cast(cython.pointer(PyObject), task))

    def _run(self, thread_id):
        # The futures of asyncio hand their callbacks to call_soon. Where a program has put its own in its place, a task
        # will not do for a callback: it cannot be called.
        own: dict = getattr(self, "__dict__", {})
        self.hands_tasks = type(self).call_soon is CALL_SOON and "call_soon" not in own
        Scheduler._run(self, thread_id)

    def enter(self, task):
        """Make ``task`` (or None) asyncio's current task."""
        if self.current is not task:
            self.current = task
            self.is_in_task = task is not None
            if CURRENT_TASKS is None:
                # No `try`, which would look at the state of exceptions before each of the many calls that go well.
                if weft_try_call2(SWAP_CURRENT_TASK, self, task) < 0:
                    if task is not None or not PyErr_ExceptionMatches(RuntimeError):
                        return -1
                    # In a forked child no loop runs, as asyncio has it, and a task that unwinds there is left by that.
                    PyErr_Clear()
            elif task is None:
                CURRENT_TASKS.pop(self, None)
            else:
                PyDict_SetItem(CURRENT_TASKS, self, task)
        return 0

    def before_callback(self):
        return self.enter(None)


# SAFETY: the module that defines the class holds it.
wakeup_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Wakeup))
task_type = cython.declare(cython.pointer(PyTypeObject), cython.NULL)
listener_type = cython.declare(cython.pointer(PyTypeObject), cython.NULL)


weft_share_state(StockTask, SteppedTask)


def register_listener_type(cls):
    """Learn of a runnable, of a module above, that is a done callback and takes the future as its argument."""
    global listener_type
    # SAFETY: the module that defines the class holds it.
    listener_type = cython.cast(cython.pointer(PyTypeObject), cls)
    return 0


def register_task_type(cls):
    """Learn of the class ``weft.Task``, which is defined above this module."""
    global task_type
    # SAFETY: the module that defines the class holds it.
    task_type = cython.cast(cython.pointer(PyTypeObject), cls)
    futures_register(cls)


@cython.cfunc
@cython.exceptval(-1, check=False)
def wake_awaiting(loop: object, task: object, future: object) -> cython.int:
    """``loop.call_soon(task, future)``: 1 when a future that is done has so woken the task which waited for it."""
    if Py_TYPE(task) != task_type:
        return 0
    # SAFETY: its type was looked at; pointers are only compared.
    state: cython.pointer(StepState) = weft_state_of(cython.cast(cython.pointer(PyObject), task))
    if state.held != cython.cast(cython.pointer(PyObject), future) or state.coroutine == cython.NULL:
        return 0
    if state.loop != cython.cast(cython.pointer(PyObject), loop):
        return 0
    # SAFETY: it is the loop in whose registry the task is.
    scheduler: TaskScheduler = cython.cast(TaskScheduler, loop)
    scheduler.check()
    scheduler.wake(task)
    return 1


@cython.cfunc
def schedule(loop: object, callback: object, args: tuple, context: object) -> object:
    # SAFETY: the door has looked at its class.
    return cython.cast(TaskScheduler, loop).schedule(callback, args, context)


CALL_SOON = cython.declare(object, TaskScheduler.call_soon)
weft_install_call_soon(CALL_SOON, TaskScheduler, wake_awaiting, schedule)
