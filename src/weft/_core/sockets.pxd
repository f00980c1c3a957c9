cimport cython
from weft._core.scheduler cimport Scheduler

cdef Scheduler checked(object loop, object sock)
