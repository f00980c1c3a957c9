from weft._core.channel cimport Channel

cdef class Receiver:
    cdef object __weakref__

    cdef int feed(self, Channel source, char* data, Py_ssize_t size) except -1
