cimport cython
from weft.http._wire.incoming cimport Incoming
from weft.http._wire.parser cimport ResponseParser

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* entries, unsigned long count, int timeout)
    const short POLLRDHUP

@cython.final
cdef class H1Connection:
    cdef readonly object loop
    cdef readonly object transport
    cdef object transport_write
    cdef ResponseParser parser
    cdef Incoming incoming
    cdef public object on_change
    cdef public object on_lost
    cdef public object bucket
    cdef readonly bint is_open
    cdef readonly int uses
    cdef readonly bint is_lost
    cdef public bint has_waited
    cdef bint has_answered
    cdef bint is_reading_paused
    cdef object upload
    cdef object drain_waiter
    cdef object drain_timer
    cdef int fd  # below 0: none is known, and poll() looks at none
    cdef object __weakref__

    cdef int complete(self, bint has_surplus) except -1
    cdef int switch(self, bytes rest) except -1
    cdef int broken(self, object error) except -1
    cdef int stop_upload(self) except -1
    cdef int shut(self) except -1
    cdef object loss(self, object error, Incoming incoming)
    cdef int gone(self) except -1
