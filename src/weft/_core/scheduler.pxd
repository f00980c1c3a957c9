cimport cython
from libc.stdint cimport int64_t, uint64_t
from weft._core.driver cimport Driver
from weft._core.handle cimport Handle, Runnable
from weft._core.ring cimport Entry, Ring
from weft._core.sys.python cimport PyObject, PyTypeObject
from weft._core.sys.watch cimport weft_watched
from weft._core.timers cimport TimerHeap, TimerHandle

cdef class Scheduler:
    cdef Ring ring
    cdef Ring due
    cdef TimerHeap timers
    cdef readonly Driver _driver
    cdef unsigned long thread_id
    cdef uint64_t looked  # the ticks when the kernel was asked last
    cdef bint is_stopping
    cdef bint closed
    cdef bint debug
    cdef bint is_in_task
    cdef weft_watched watched
    cdef object verdict  # what is to end the run, after a stall in strict mode
    cdef PyTypeObject* step_type
    cdef Runnable stepper  # the runnable of a step, whose argument is the task
    cdef public double slow_callback_duration
    cdef object __weakref__

    cdef Handle soon(self, object callback, tuple args, object context)
    cdef int check(self) except -1
    cdef int check_thread(self) except -1
    cdef int wrong_thread(self) except -1
    cdef int turn(self) except -1
    cdef bint is_time_to_look(self) noexcept
    cdef int look(self) except -1
    cdef int collect_due(self, int64_t now) except -1
    cdef int64_t time_to_sleep(self, int64_t now) noexcept
    cdef int run_due_timers(self) except -1
    cdef int run_now(self, Runnable runnable) except -1
    cdef int warn_if_slow(self, object what, int64_t started) except -1
    cdef int run_ready(self) except -1
    cdef Py_ssize_t run_some(self, Py_ssize_t count) except -1
    cdef Py_ssize_t run_some_slowly(self, Py_ssize_t count) except -1
    cdef int on_raised(self, Entry entry, object error) except -1
    cdef int stalled(self) except -1
    cdef int before_callback(self) except -1
