cimport cython

ctypedef object (*take_function)(object)
ctypedef object (*create_function)(object, object)

from weft._core.stepper cimport TaskScheduler

cdef TaskScheduler spawner_of(object loop)
cdef object spawn(TaskScheduler loop, object coro)

cdef extern from "weft_task.h":
    int weft_install_outcome(object type, object stock, take_function take_kept) except -1

cdef extern from "weft_create_task.h":
    int weft_install_create_task(object method, object base, create_function create) except -1
