"""The registry of tasks: what keeps an unfinished task alive, and what a loop keeps of each.

Owns the C type that ``weft.Task`` derives from, and the list of a loop's unfinished tasks, which are linked through
their own state. The invariant: a task is in the list of its loop from ``link`` to ``unlink``, and the list holds a
reference to it as long. ``tell`` is how the steps of tasks reach whoever observes them.

The stepper links and unlinks.
"""

from _asyncio import Task as StockTask

import cython
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, PyObject

#: What ``weft.Task`` derives from: an ``asyncio.Task`` with room for our state.
SteppedTask = weft_make_task_base(StockTask)


class TaskRegistry(Scheduler):
    def __dealloc__(self):
        self.unlink_all()

    def tell(self, event, task, what):
        """Tell whoever watches of something that may be a sign of lost work; never of a task that ends well."""
        if self._task_observer is not None:
            try:
                self._task_observer(self, event, task, what)
            except Exception as error:
                self.call_exception_handler({"message": "Exception in what observes tasks", "exception": error})
        return 0

    def link(self, task, state):
        """Take ``task`` into the registry, which keeps it alive."""
        # SAFETY: the registry owns one reference to each task in it, taken here and dropped in unlink(); the pointers
        # between them, and from them to the loop, are borrowed and never outlive the membership.
        node: cython.pointer(PyObject) = cython.cast(cython.pointer(PyObject), task)
        Py_INCREF(node)
        state.loop = cython.cast(cython.pointer(PyObject), self)
        state.previous = cython.NULL
        state.next = self.first
        if self.first != cython.NULL:
            weft_state_of(self.first).previous = node
        self.first = node
        return 0

    def unlink(self, task):
        """The coroutine has ended, or the loop closes: let go of the task, and let it go of all that it holds."""
        # SAFETY: the caller holds the task; neighbours are members, whom the registry keeps alive.
        node: cython.pointer(PyObject) = cython.cast(cython.pointer(PyObject), task)
        state: cython.pointer(StepState) = weft_state_of(node)
        if state.loop == cython.NULL:
            return 0
        if state.previous != cython.NULL:
            weft_state_of(state.previous).next = state.next
        else:
            self.first = state.next
        if state.next != cython.NULL:
            weft_state_of(state.next).previous = state.previous
        state.next = state.previous = state.loop = cython.NULL
        state.must_cancel = False
        weft_hold(cython.address(state.coroutine), cython.NULL)
        weft_hold(cython.address(state.held), cython.NULL)
        weft_hold(cython.address(state.context), cython.NULL)
        Py_DECREF(node)  # SAFETY: the registry's reference
        return 0

    def _drop_scheduled(self) -> None:
        Scheduler._drop_scheduled(self)
        self.unlink_all()

    def unlink_all(self):
        while self.first != cython.NULL:
            self.unlink(cython.cast(object, self.first))  # SAFETY: the registry owns a reference to it
        return 0

    def traverse_members(self, visit, data):
        """Show the garbage collector the tasks of the registry."""
        seen: cython.int = 0
        node: cython.pointer(PyObject) = self.first
        while seen == 0 and node != cython.NULL:
            seen = visit(node, data)
            node = weft_state_of(node).next
        return seen
