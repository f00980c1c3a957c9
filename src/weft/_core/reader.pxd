cimport cython
from weft._core.channel cimport Channel
from weft._core.operation cimport Operation
from weft._core.unread cimport Unread
from weft._core.waiter cimport Waiter

cdef class StreamReader:
    cdef readonly object _loop
    cdef readonly object _transport
    cdef object error
    cdef Unread unread
    cdef Waiter waiter  # whoever waits for more
    cdef Py_ssize_t wanted  # how much must be unread before that is woken
    cdef Py_ssize_t limit
    cdef unsigned long taken  # how often something was taken: what was found out before is worth nothing after
    cdef bint is_eof
    cdef bint is_paused
    cdef object __weakref__

    cdef int feed(self, Channel source, char* data, Py_ssize_t size) except -1
    cdef int arrived(self) except -1
    cdef int end(self) except -1
    cdef int fail(self, object error) except -1
    cdef int wake(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef bytes take(self, Py_ssize_t size)
    cdef bytes take_over(self)

cdef class Reading(Operation):
    cdef StreamReader reader
    cdef object given
    cdef Py_ssize_t wanted

    cdef int prepare(self) except -1
    cdef object attempt(self)
    cdef str method(self)

@cython.final
cdef class Read(Reading):
    cdef Py_ssize_t most

@cython.final
cdef class ReadExactly(Reading):
    pass

cdef class ReadUntil(Reading):
    cdef list separators
    cdef Py_ssize_t longest
    cdef Py_ssize_t searched
    cdef unsigned long taken

    cdef object found(self, Py_ssize_t start, Py_ssize_t end)
    cdef object ended(self)
    cdef object overrun(self, str message, Py_ssize_t consumed)

cdef class ReadLine(ReadUntil):
    pass

@cython.final
cdef class NextLine(ReadLine):
    pass
