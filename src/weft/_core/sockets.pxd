cimport cython
from weft._core.operation cimport Operation
from weft._core.scheduler cimport Scheduler
from weft._core.watcher cimport Watcher

cdef class SocketCall(Operation):
    cdef object given_loop
    cdef object sock
    cdef Scheduler loop
    cdef Watcher watcher
    cdef int number
    cdef bint is_plain

    cdef object attempt(self)
    cdef int prepare(self) except -1
    cdef int look(self) except -1
    cdef int descriptor(self) except -2
    cdef object wait_readable(self)
    cdef object wait_writable(self)

cdef class Reading(SocketCall):
    cdef object try_or_wait(self)

@cython.final
cdef class Receive(Reading):
    cdef object size

@cython.final
cdef class ReadBy(Reading):
    cdef str called
    cdef tuple args

@cython.final
cdef class Accept(Reading):
    pass

@cython.final
cdef class SendAll(SocketCall):
    cdef object data
    cdef Py_buffer view
    cdef Py_ssize_t sent
    cdef bint is_held

    cdef object try_or_wait(self)
    cdef int hold(self) except -1
    cdef int let_go(self) except -1

@cython.final
cdef class SendTo(SocketCall):
    cdef object data
    cdef object address
