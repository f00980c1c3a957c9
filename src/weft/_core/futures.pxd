cimport cython
from weft._core.sys.python cimport PyObject

cdef object register_task_type(object cls)
cdef bint is_pending(object future) noexcept
cdef bint is_step_wrapper(object callback) noexcept
cdef bint is_known(object future) noexcept
cdef bint was_cancelled(object future) except -1
cdef object error_of(object future)
cdef object result_of(object future)
cdef object outcome(object future)
cdef bint begin_waiting(object future, PyObject* loop) except -1
cdef int add_callback(object future, object callback, object context) except -1
cdef int set_result(object task, object result) except -1
cdef int set_exception(object task, object error) except -1
cdef int cancel(object task, object message) except -1
