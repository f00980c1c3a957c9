from libc.stdint cimport int64_t

cdef int64_t FOREVER

cdef int64_t to_ns(double seconds) except? -1
cdef double to_seconds(int64_t ns) noexcept
