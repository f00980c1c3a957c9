cimport cython
from libc.stdint cimport int64_t, uint64_t
from weft.http._wire.incoming cimport Incoming

cpdef enum Step:
    STATUS_LINE, FIELDS, SIZE, EXTENSION, SIZE_END, DATA, DATA_CR, DATA_LF, TRAILER, LENGTH, UNTIL_CLOSE, DONE, SWITCHED

@cython.final
cdef class ResponseParser:
    cdef readonly Step step
    cdef Incoming incoming
    cdef bytearray kept
    cdef Py_ssize_t line_start
    cdef Py_ssize_t searched
    cdef int64_t left
    cdef int digits
    cdef Py_ssize_t extension
    cdef int fields
    cdef int interim
    cdef int status
    cdef int version
    cdef int notes
    cdef int64_t length
    cdef Py_ssize_t length_digits
    cdef bint is_chunked
    cdef readonly bint is_reusable
    cdef bint has_no_body
    cdef bint may_switch
    cdef bint may_tunnel

    cdef int start(self, Incoming incoming, bint has_no_body, bint may_switch, bint may_tunnel) except -1
    cdef int reset_head(self) except -1
    cdef int lines_done(self, bytes block) except -1
    cdef Py_ssize_t feed(self, bytes data) except -1
    cdef bint end(self) except -1
    cdef Py_ssize_t take_lines(self, bytes data, Py_ssize_t at) except -1
    cdef Py_ssize_t lines(self, const unsigned char* text, Py_ssize_t size) except -2
    cdef int line(self, const unsigned char* text, Py_ssize_t size) except -1
    cdef int status_line(self, const unsigned char* text, Py_ssize_t size) except -1
    cdef int field_line(self, const unsigned char* text, Py_ssize_t size) except -1
    cdef int note_field(
        self, const unsigned char* name, Py_ssize_t name_size, const unsigned char* value, Py_ssize_t size
    ) except -1
    cdef int note_length(self, const unsigned char* value, Py_ssize_t size) except -1
    cdef int note_connection(self, const unsigned char* value, Py_ssize_t size) except -1
    cdef int head_done(self, bytes head) except -1
    cdef int choose_framing(self) except -1
    cdef Py_ssize_t chunk_framing(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t size) except -1
    cdef int size_byte(self, unsigned char byte) except -1
    cdef Py_ssize_t body(self, bytes data, Py_ssize_t at) except -1
    cdef int refuse(self, str reason) except -1
