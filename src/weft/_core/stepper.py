"""The stepper: what carries a task from one ``await`` to the next.

A ``weft.Task`` is an ``asyncio.Task`` whose steps are not asyncio's own. Its stepper lies in the ready ring by value,
without handle or bound method: with no argument it resumes the coroutine; with a future, that future is done; with an
exception, it throws that. ``TaskScheduler`` is the scheduler with what tasks need: the registry that keeps unfinished
tasks alive, the current task, and a ``call_soon`` that knows the two callbacks which never become a handle.

Invariants: a stepper is in its loop's registry from its start until its coroutine has ended; while it waits, exactly
one done callback (itself) stands in what it waits for; asyncio's current task is this task from its first instruction
to its last, and is set back before anything that is not a step runs.
"""

import asyncio
from asyncio.exceptions import CancelledError
from inspect import isgenerator

import cython
from cython.cimports.cpython.contextvars import PyContext_Enter, PyContext_Exit
from cython.cimports.cpython.dict import PyDict_SetItem
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
from cython.cimports.weft._core.handle import Runnable
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sys.python import (
    PYGEN_ERROR,
    PYGEN_NEXT,
    PYGEN_RETURN,
    Py_DECREF,
    Py_INCREF,
    Py_TYPE,
    Py_TYPE_OF,
    PyExceptionInstance_Check,
    PyObject,
    PyObject_GC_Track,
    PyObject_GC_UnTrack,
    PySendResult,
    PyTypeObject,
    traverseproc,
    visitproc,
    weft_get_traverse,
    weft_raise_again,
    weft_set_traverse,
    weft_step,
    weft_take_exception,
)
from cython.cimports.weft._core.waiter import GIVEN_UP, WAITING, Waiter

from weft import versions

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
    def __init__(self):
        raise TypeError("a stepper is made by its weft.Task")

    @property
    def __self__(self):
        return self.task

    def __getattr__(self, name):
        if name == "__qualname__":
            # How asyncio shows the callback of a waiting task in the repr of a future.
            return "Task.task_wakeup"
        raise AttributeError(name)

    def __repr__(self):
        return f"<Stepper of {self.task!r}>"

    def __call__(self, future):
        """For futures of foreign make that call their callbacks themselves."""
        self.run(cython.cast(cython.pointer(PyObject), future))  # SAFETY: the caller holds its argument

    def describe(self):
        return self.task

    def report(self, loop, error):
        """A step raises only where a future of foreign make, or a method that somebody overrode, does."""
        loop.call_exception_handler(
            {"message": f"Exception in a step of {self.task or 'a task that has ended'!s}", "exception": error}
        )
        return 0

    # -- from start to end ---------------------------------------------------------------------------------------------

    def start(self, loop, task, coroutine, context):
        """Make the first step ready."""
        self.task = task
        self.coroutine = coroutine
        self.context = context
        loop.link(self)
        loop.ring.push(self, cython.NULL)
        return 0

    def start_eagerly(self, loop, task, coroutine, context):
        """Take the first step at once, inside whatever is running now."""
        self.task = task
        outer: object = loop.current
        self.coroutine = coroutine
        self.context = context
        loop.link(self)
        try:
            self.step(None)
            self.ended_eagerly = self.coroutine is None
        finally:
            loop.enter(outer)
        return 0

    def run(self, argument):
        if argument == cython.NULL:
            return self.step(None)
        if Py_TYPE_OF(argument) == waiter_type:
            # SAFETY: the ring's entry holds the argument until run() returns; its type was looked at.
            waiter: Waiter = cython.cast(Waiter, argument)
            return self.step(waiter.error() if waiter.state == GIVEN_UP else None)
        # SAFETY: as above.
        given: object = cython.cast(object, argument)
        if PyExceptionInstance_Check(argument):
            return self.step(given)
        if DISCARD_AWAITED_BY is not None:
            DISCARD_AWAITED_BY(given, self.task)
        return self.step(outcome(given))

    def step(self, error):
        """Resume the coroutine, by ``error`` where there is one, and act on what it does."""
        coroutine: object = self.coroutine
        if coroutine is None or not is_pending(self.task):
            raise asyncio.InvalidStateError(f"step(): already done: {self.task!r}, {error!r}")
        if self.must_cancel:
            if not isinstance(error, CancelledError):
                error = self.task._make_cancelled_error()
            self.must_cancel = False
        self.held = None
        # SAFETY: this stepper is in the registry of that loop, so the loop is alive.
        cython.cast(TaskScheduler, self.loop).enter(self.task)
        context: object = self.context
        produced: cython.pointer(PyObject) = cython.NULL
        status: PySendResult
        PyContext_Enter(context)
        self.is_running = True
        # SAFETY: the locals `coroutine` and `error` outlive the call.
        status = weft_step(
            coroutine,
            cython.NULL if error is None else cython.cast(cython.pointer(PyObject), error),
            THROW,
            cython.address(produced),
        )
        self.is_running = False
        if status == PYGEN_ERROR:
            produced = weft_take_exception()
        # SAFETY: either call gave a new reference; the object takes one of its own.
        what: object = cython.cast(object, produced)
        Py_DECREF(produced)
        if error is not None and status != PYGEN_ERROR and self.cancel_requests > 0:
            self.survived(error)
        try:
            if status == PYGEN_NEXT:
                self.wait_for(what)
            elif status == PYGEN_RETURN:
                self.finish(what)
            else:
                self.fail(what)
        finally:
            PyContext_Exit(context)
        return 0

    # -- what a step can lead to ---------------------------------------------------------------------------------------

    def wait_for(self, awaited):
        """The coroutine has yielded ``awaited``: a future to wait for, or None to give way for one turn."""
        if awaited is None:
            # SAFETY: this stepper is in the registry of that loop, so the loop is alive.
            return cython.cast(TaskScheduler, self.loop).ring.push(self, cython.NULL)
        if Py_TYPE(awaited) == waiter_type and self.park(awaited):
            return self.subscribe(awaited)
        if awaited is self.task or not begin_waiting(awaited, self.loop):
            return self.wait_for_other(awaited)
        if ADD_AWAITED_BY is not None:
            ADD_AWAITED_BY(awaited, self.task)
        add_callback(awaited, self, self.context)
        return self.subscribe(awaited)

    def park(self, waiter):
        """The fast way to wait for a waiter: True when it was just awaited and is this loop's."""
        # SAFETY: only compared.
        if cython.cast(cython.pointer(PyObject), waiter.loop) != self.loop or not waiter.is_blocking:
            return False
        if waiter.state != WAITING or waiter.waker is not None:
            return False
        waiter.is_blocking = False
        waiter.waker = self
        return True

    def wait_for_other(self, awaited):
        """Subclasses, futures of foreign make, and everything that cannot be awaited."""
        blocking = getattr(awaited, "_asyncio_future_blocking", None)
        if blocking is None:
            if isgenerator(awaited):
                return self.refuse(
                    f"yield was used instead of yield from for generator in task {self.task!r} with {awaited!r}"
                )
            return self.refuse(f"Task got bad yield: {awaited!r}")
        # SAFETY: only compared.
        if asyncio.futures._get_loop(awaited) is not cython.cast(object, self.loop):
            return self.refuse(f"Task {self.task!r} got Future {awaited!r} attached to a different loop")
        if not blocking:
            return self.refuse(f"yield was used instead of yield from in task {self.task!r} with {awaited!r}")
        if awaited is self.task:
            return self.refuse(f"Task cannot await on itself: {self.task!r}")
        if ADD_AWAITED_BY is not None:
            ADD_AWAITED_BY(awaited, self.task)
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(self, context=self.context)
        return self.subscribe(awaited)

    def subscribe(self, future):
        self.held = future
        if self.must_cancel and future.cancel(msg=self.task._cancel_message):
            self.must_cancel = False
        return 0

    def refuse(self, message):
        """Throw RuntimeError into the coroutine in the next turn."""
        error: object = RuntimeError(message)
        # SAFETY: push() takes a reference of its own.
        return cython.cast(TaskScheduler, self.loop).ring.push(self, cython.cast(cython.pointer(PyObject), error))

    def finish(self, result):
        task: object = self.task
        must_cancel: cython.bint = self.must_cancel
        if self.cancel_requests > 0 and not must_cancel:
            # SAFETY: this stepper is in the registry of that loop, so the loop is alive.
            cython.cast(TaskScheduler, self.loop).tell(ENDED, task, None)
        self.end()
        if must_cancel:
            # cancel() came during the last step, in which the coroutine returned.
            cancel(task, task._cancel_message)
        else:
            set_result(task, result)
        return 0

    def fail(self, error):
        task: object = self.task
        # SAFETY: this stepper is in the registry of that loop, so the loop is alive; the local keeps it so.
        loop: TaskScheduler = cython.cast(TaskScheduler, self.loop)
        self.end()
        if isinstance(error, CancelledError):
            self.held = error
            # Its traceback may lead back to the task, and the loop answers for this stepper no more.
            PyObject_GC_Track(cython.cast(cython.p_void, self))  # SAFETY: untracked since new_stepper()
            cancel(task, None)  # the message is in the error, for the first who asks
            return 0
        callbacks: object = None if loop._task_observer is None else task._callbacks
        set_exception(task, error)
        loop.tell(FAILED, task, callbacks)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            weft_raise_again(error)
        return 0

    def survived(self, error):
        """The coroutine went on, or returned, although ``error`` was thrown into it and a cancellation stands."""
        if isinstance(error, CancelledError):
            # SAFETY: this stepper is in the registry of that loop, so the loop is alive.
            return cython.cast(TaskScheduler, self.loop).tell(SURVIVED, self.task, error)
        return 0

    def end(self):
        """The coroutine has ended: let go of all that it held."""
        # SAFETY: unlink() is what ends the membership that keeps the loop alive for this stepper.
        cython.cast(TaskScheduler, self.loop).unlink(self)
        return 0


class TaskScheduler(Scheduler):
    def __cinit__(self, *args, **kwargs):
        self.current = None
        self.spawn_context = None
        self.loop_keyword = {"loop": self}
        self.task_keywords = {"loop": self, "name": UNNAMED} if LAZY_NAMES else self.loop_keyword
        # SAFETY: the module holds the class.
        self.step_type = cython.cast(cython.pointer(PyTypeObject), Stepper)

    def __dealloc__(self):
        self.unlink_all()

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
        self.check()
        if Py_TYPE(callback) == self.step_type and len(args) == 1:
            # A future that is done wakes its task. asyncio ignores what this returns.
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

    def tell(self, event, task, what):
        """Tell whoever watches of something that may be a sign of lost work; never of a task that ends well."""
        if self._task_observer is not None:
            try:
                self._task_observer(self, event, task, what)
            except Exception as error:
                self.call_exception_handler({"message": "Exception in what observes tasks", "exception": error})
        return 0

    def enter(self, task):
        """Make ``task`` (or None) asyncio's current task."""
        if self.current is not task:
            self.current = task
            self.is_in_task = task is not None
            if CURRENT_TASKS is None:
                try:
                    SWAP_CURRENT_TASK(self, task)
                except RuntimeError:
                    if task is not None:
                        raise
                    # In a forked child no loop runs, as asyncio has it, and a task that unwinds there is left by that.
            elif task is None:
                CURRENT_TASKS.pop(self, None)
            else:
                PyDict_SetItem(CURRENT_TASKS, self, task)
        return 0

    def before_callback(self):
        return self.enter(None)

    def link(self, stepper):
        """Take ``stepper`` into the registry, which keeps it, and so its task, alive."""
        # SAFETY: the registry owns one reference to each stepper in it, taken here and dropped in unlink(); the
        # pointers between them, and from them to the loop, are borrowed and never outlive the membership.
        node: cython.pointer(PyObject) = cython.cast(cython.pointer(PyObject), stepper)
        Py_INCREF(node)
        stepper.loop = cython.cast(cython.pointer(PyObject), self)
        stepper.previous = cython.NULL
        stepper.next = self.first
        if self.first != cython.NULL:
            cython.cast(Stepper, self.first).previous = node
        self.first = node
        return 0

    def unlink(self, stepper):
        """The task has ended, or the loop closes: let go of the stepper, and let it go of all that it holds."""
        if stepper.loop == cython.NULL:
            return 0
        # SAFETY: neighbours are members, whom the registry keeps alive.
        if stepper.previous != cython.NULL:
            cython.cast(Stepper, stepper.previous).next = stepper.next
        else:
            self.first = stepper.next
        if stepper.next != cython.NULL:
            cython.cast(Stepper, stepper.next).previous = stepper.previous
        stepper.next = stepper.previous = stepper.loop = cython.NULL
        stepper.must_cancel = False
        stepper.coroutine = stepper.task = stepper.held = stepper.context = None
        # SAFETY: the registry's reference; the caller holds one of its own.
        Py_DECREF(cython.cast(cython.pointer(PyObject), stepper))
        return 0

    def _drop_scheduled(self) -> None:
        Scheduler._drop_scheduled(self)
        self.unlink_all()

    def unlink_all(self):
        while self.first != cython.NULL:
            # SAFETY: the registry owns a reference to what it points to.
            self.unlink(cython.cast(Stepper, self.first))
        return 0

    def traverse_members(self, visit, data):
        """Show the garbage collector what the steppers refer to."""
        seen: cython.int = 0
        node: cython.pointer(PyObject) = self.first
        while seen == 0 and node != cython.NULL:
            # SAFETY: the registry owns the stepper, and each visit only looks at a pointer that the stepper owns.
            stepper: Stepper = cython.cast(Stepper, node)
            seen = visit(cython.cast(cython.pointer(PyObject), stepper.task), data)
            seen = seen or visit(cython.cast(cython.pointer(PyObject), stepper.coroutine), data)
            seen = seen or visit(cython.cast(cython.pointer(PyObject), stepper.context), data)
            seen = seen or visit(cython.cast(cython.pointer(PyObject), stepper.held), data)
            node = stepper.next
        return seen


@cython.cfunc
@cython.exceptval(check=False)
def traverse(self: cython.pointer(PyObject), visit: visitproc, data: cython.p_void) -> cython.int:
    """What the garbage collector sees of a loop: ring, timers, driver and steppers hold references in C.

    Steppers are not tracked themselves, which halves what the collector has to look at for a task: the loop that they
    belong to answers for them. A loop that is dropped without ``close()``, tasks and all, is so found and finalised.
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


def new_stepper():
    stepper: Stepper = Stepper.__new__(Stepper)
    PyObject_GC_UnTrack(cython.cast(cython.p_void, stepper))  # SAFETY: see traverse(); deallocation may untrack twice
    return stepper
