cimport cython

cdef class Limited:
    cdef readonly double total
    cdef double patience
    cdef double silent_since
    cdef bint is_begun
    cdef bint has_moved
    cdef bint is_held
    cdef public bint is_sending

    cdef double limit(self) noexcept
    cdef int expire(self, bint is_total) except -1

@cython.final
cdef class Deadlines:
    cdef object loop
    cdef object read_clock
    cdef object timer
    cdef set limited
    cdef double due

    cdef int enter(self, Limited one, object timeout, double total) except -1
    cdef int begin(self, Limited one, object timeout) except -1
    cdef int restart(self, Limited one) except -1
    cdef int leave(self, Limited one) except -1
    cdef int arm(self, double when) except -1
    cpdef int close(self) except -1
