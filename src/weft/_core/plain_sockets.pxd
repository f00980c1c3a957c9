cdef object accept_from(object sock)
cdef object accept_by_method(object sock)
cdef object own_address(object sock)
cdef int set_no_delay(object sock) except -1
cdef int close_owner(object owner) except -1
