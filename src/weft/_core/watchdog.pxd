from libc.stdint cimport int64_t
from weft._core.sys.watch cimport weft_watched
from weft._core.sys.watchdog cimport weft_seen, weft_stall

cdef int enter(weft_watched* watched, object loop) except -1
cdef int leave(weft_watched* watched) except -1
cdef object ended(weft_watched* watched, object loop)
cdef void capture() noexcept nogil
cdef void capture_all(int64_t asked) noexcept
cdef int capture_one(weft_watched* watched, weft_seen* seen, int64_t waited) except -1
cdef list frames_of(weft_seen* seen)
cdef dict facts_of(weft_stall* stall, tuple found, int tid)
