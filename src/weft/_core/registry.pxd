from libc.stdint cimport uint32_t, uint64_t
from weft._core.scheduler cimport Scheduler
from weft._core.sys.python cimport PyObject, visitproc

cdef extern from "weft_state.h":
    ctypedef struct StepState "weft_state":
        PyObject* loop
        PyObject* next
        PyObject* previous
        PyObject* coroutine
        PyObject* context
        PyObject* held  # what it waits for; after the end, the CancelledError that ended it
        uint32_t cancel_requests
        unsigned char must_cancel
        unsigned char is_running
        unsigned char ended_eagerly
        unsigned char is_made
    uint64_t weft_get_number(StepState* state)
    void weft_set_number(StepState* state, uint64_t number)
    StepState* weft_state_of(PyObject* task)
    StepState* weft_find_state(object task) except NULL
    void weft_hold(PyObject** place, PyObject* value)
    object weft_make_task_base(object stock)
    void weft_share_state(object stock, object base)

cdef class TaskRegistry(Scheduler):
    cdef PyObject* first
    cdef public object _task_observer  # None, or observer(loop, event, task, what): see the words in _core/stepper.py

    cdef int tell(self, str event, object task, object what) except -1
    cdef int link(self, object task, StepState* state) except -1
    cdef int unlink(self, object task) except -1
    cdef int unlink_all(self) except -1
    cdef int traverse_members(self, visitproc visit, void* data) noexcept
