from weft._core.sys.python cimport PyObject
from weft._core.sys.tls cimport weft_bio, weft_pipe, weft_ssl

cdef enum:
    WANTS_MORE = -1  # read() and write(): nothing before the peer has sent more
    CLOSED_BY_PEER = 0  # read(): its close_notify has come
    PLAIN_SIZE = 65536

cdef class Engine:
    cdef object ssl_object

    cdef int put(self, const char* data, Py_ssize_t size) except -1
    cdef int settle(self) except -1
    cdef Py_ssize_t unread(self) except -1
    cdef bint may_read(self) except -1
    cdef Py_ssize_t read(self, char* where, Py_ssize_t room) except -2
    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t unsent(self) except -1
    cdef bytes take(self)
    cdef int drop(self) except -1
    cdef bint handshake(self) except -1
    cdef bint unwrap(self) except -1

cdef class BioEngine(Engine):
    cdef object incoming
    cdef object outgoing
    cdef object pending

cdef class DirectEngine(Engine):
    cdef object socket  # the _ssl._SSLSocket, which owns the next
    cdef weft_ssl* ssl
    cdef weft_bio* bio  # owned: one reference
    cdef weft_pipe* pipe  # the BIO's

    cdef int refuse(self, bint writing) except -1

cdef Engine new_engine(object context, bint server_side, object server_hostname)
cdef char* take_plain() except NULL
cdef void give_plain(char* block) noexcept
