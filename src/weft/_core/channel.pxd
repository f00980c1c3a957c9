cimport cython
from weft._core.driver cimport Driver, Sink
from weft._core.scheduler cimport Scheduler

cpdef enum Phase:
    OPEN, CLOSING, LOST, CLOSED

cdef class Channel(Sink):
    cdef Scheduler loop
    cdef Driver driver
    cdef object protocol
    cdef object context
    cdef object owner
    cdef object server
    cdef dict extra
    cdef Phase phase
    cdef bint is_entered
    cdef bint is_paused
    cdef bint is_started
    cdef bint is_made
    cdef object __weakref__
    cdef dict __dict__

    cdef int attach(self, Scheduler loop, object owner, object protocol, object extra, object server) except -1
    cdef int give_up(self) except -1
    cdef int begin_at_once(self) except -1
    cdef int begin(self, object waiter) except -1
    cdef int adopt(self, object protocol) except -1
    cdef object take_received(self, char* data, Py_ssize_t size)
    cdef object context_of_life(self)
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef bint enter_if_driven(self) except -1
    cdef Py_ssize_t unsent(self) noexcept
    cdef int lose(self, object error) except -1
    cdef int let_go(self) except -1
    cdef object phase_name(self)
    cdef int report(self, object error, str message) except -1
    cdef int fatal(self, object error, str message) except -1
    cdef int check_thread(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef object os_error(self, int code)

cdef class FlowChannel(Channel):
    cdef Py_ssize_t high
    cdef Py_ssize_t low
    cdef bint is_protocol_paused
    cdef int writes_after_loss

    cdef int start_sending(self) except -1
    cdef int after_write(self) except -1
    cdef int after_sent(self) except -1
    cdef int warn_lost(self) except -1
