cimport cython
from weft._core.driver cimport Sink
from weft._core.scheduler cimport Scheduler

cdef class Listener(Sink):
    cdef Scheduler loop
    cdef object on_connection
    cdef object context
    cdef object retry
    cdef double last_report
    cdef int backlog
