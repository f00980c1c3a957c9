cimport cython
from weft._core.lines cimport LoopBound, Wait
from weft._core.locks cimport EventCore

cdef enum Kind:
    FIRST_IN, LAST_IN, LOWEST
    SUBCLASS  # may override anything: asyncio's own methods run

cdef enum:
    ASK = -1  # a limit that is no int

cdef class QueueCore(LoopBound):
    cdef object store
    cdef object getters
    cdef object putters
    cdef EventCore finished  # None until somebody asks for it
    cdef object size_limit
    cdef Py_ssize_t limit
    cdef Py_ssize_t unfinished
    cdef Kind kind
    cdef bint is_shut_down

    cdef bint is_full(self) except -1
    cdef int add(self, object item) except -1
    cdef object take(self)
    cdef EventCore when_finished(self)

@cython.final
cdef class Get(Wait):
    cdef QueueCore queue

@cython.final
cdef class Put(Wait):
    cdef QueueCore queue
    cdef object item

@cython.final
cdef class Join(Wait):
    cdef QueueCore queue
    cdef EventCore event
