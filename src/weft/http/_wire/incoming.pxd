cimport cython
from weft.http._wire.deadlines cimport Deadlines, Limited

cpdef enum Progress:
    WAITING, RECEIVING, COMPLETE, FAILED, DISCARDED

cpdef enum Note:
    SAYS_CLOSE = 1
    SAYS_KEEP_ALIVE = 2
    HAS_CODING = 4
    HAS_COOKIES = 8
    HAS_LOCATION = 16
    HAS_CHALLENGE = 32
    SAYS_UPGRADE = 64

@cython.final
cdef class Incoming(Limited):
    cdef readonly object request
    cdef readonly object loop
    cdef Deadlines deadlines
    cdef public object source
    cdef readonly bytes head
    cdef readonly object headers
    cdef readonly bytes trailer
    cdef readonly int status
    cdef readonly int version
    cdef public int notes
    cdef Progress progress
    cdef readonly object error
    cdef object waiter
    cdef list pieces
    cdef Py_ssize_t size
    cdef bint takes_all
    cdef readonly bint was_answered
    cdef readonly object tunnel
    cdef public object observer  # called with "first_byte" and "end", when a client traces

    cdef int answer_head(self, bytes head, int status, int version, int notes) except -1
    cpdef int feed(self, bytes data) except -1
    cpdef int finish(self) except -1
    cpdef int fail(self, object error) except -1
    cdef int wake(self) except -1
    cdef object reason(self)
    cdef int begin(self) except -1
    cdef int end(self) except -1
    cpdef int release(self) except -1
