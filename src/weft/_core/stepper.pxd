cimport cython
from libc.stdint cimport uint64_t
from weft._core.handle cimport Runnable
from weft._core.scheduler cimport Scheduler
from weft._core.sys.python cimport PyObject, visitproc
from weft._core.waiter cimport Waiter

cdef class TaskScheduler(Scheduler)

# A C bool: a bint takes four times the room.
ctypedef unsigned char Flag

@cython.final
cdef class Stepper(Runnable):
    cdef PyObject* loop
    cdef object task
    cdef object coroutine
    cdef object context
    cdef object held  # what it waits for; after the end, the CancelledError that ended it
    cdef PyObject* next
    cdef PyObject* previous
    cdef uint64_t number  # of the name that nobody has asked for yet; 0 where the task has its name
    cdef int cancel_requests
    cdef Flag must_cancel
    cdef Flag is_running
    cdef Flag ended_eagerly

    cdef int start(self, TaskScheduler loop, object task, object coroutine, object context) except -1
    cdef int start_eagerly(self, TaskScheduler loop, object task, object coroutine, object context) except -1
    cdef int step(self, object error) except -1
    cdef int wait_for(self, object awaited) except -1
    cdef bint park(self, Waiter waiter) except -1
    cdef int wait_for_other(self, object awaited) except -1
    cdef int subscribe(self, object future) except -1
    cdef int refuse(self, str message) except -1
    cdef int finish(self, object result) except -1
    cdef int fail(self, object error) except -1
    cdef int survived(self, object error) except -1
    cdef int end(self) except -1

cdef class TaskScheduler(Scheduler):
    cdef PyObject* first
    cdef object current
    cdef bint is_spawning
    cdef object spawn_context
    cdef dict loop_keyword
    cdef dict task_keywords
    cdef public object _task_observer  # None, or observer(loop, event, task, what): see FAILED and its like

    cdef int tell(self, str event, object task, object what) except -1
    cdef int enter(self, object task) except -1
    cdef int link(self, Stepper stepper) except -1
    cdef int unlink_all(self) except -1
    cdef int traverse_members(self, visitproc visit, void* data) noexcept
    cdef int unlink(self, Stepper stepper) except -1

cdef Stepper new_stepper()
