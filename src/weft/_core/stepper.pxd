cimport cython
from libc.stdint cimport uint32_t, uint64_t
from weft._core.handle cimport Runnable
from weft._core.registry cimport StepState, TaskRegistry
from weft._core.sys.python cimport PyObject, visitproc
from weft._core.waiter cimport Waiter

ctypedef int (*wake_function)(object, object, object) except -1
ctypedef object (*schedule_function)(object, object, tuple, object)

cdef extern from "weft_call_soon.h":
    int weft_install_call_soon(object method, object base, wake_function wake, schedule_function schedule) except -1

cdef class TaskScheduler(TaskRegistry)

@cython.final
cdef class Stepper(Runnable):
    pass

@cython.final
cdef class Refusal(Runnable):
    cdef object task
    cdef object error

@cython.final
cdef class Wakeup:
    cdef object task

    cdef int resume_by(self, object future) except -1

cdef class TaskScheduler(TaskRegistry):
    cdef object current
    cdef bint is_spawning
    cdef bint hands_tasks
    cdef public object _task_factory
    cdef object spawn_context
    cdef dict loop_keyword
    cdef dict task_keywords

    cdef object schedule(self, object callback, tuple args, object context)
    cdef int wake(self, object task) except -1
    cdef int enter(self, object task) except -1

cdef object register_task_type(object cls)
cdef int report_step(object loop, object task, object error) except -1
cdef StepState* state_of(object task) except NULL
cdef StepState* state_to_fill(object task) except NULL
cdef StepState* begin(TaskScheduler loop, object task, object coroutine, object context) except NULL
cdef int start(TaskScheduler loop, object task, object coroutine, object context) except -1
cdef int start_eagerly(TaskScheduler loop, object task, object coroutine, object context) except -1
cdef int step(object task, StepState* state, object error) except -1
cdef int wait_for(object task, StepState* state, object awaited) except -1
cdef bint park(object task, StepState* state, Waiter waiter) except -1
cdef int wait_for_other(object task, StepState* state, object awaited) except -1
cdef int subscribe(object task, StepState* state, object future) except -1
cdef int refuse(object task, StepState* state, str message) except -1
cdef int finish(object task, StepState* state, object result) except -1
cdef int fail(object task, StepState* state, object error) except -1
cdef int survived(object task, StepState* state, object error) except -1
cdef int register_listener_type(object cls) except -1
