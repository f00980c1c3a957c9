cimport cython

ctypedef object (*take_function)(object)

cdef extern from "weft_task.h":
    int weft_install_outcome(object type, object stock, take_function take_kept) except -1
