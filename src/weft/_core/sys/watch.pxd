"""What a loop shows to the watchdog; see weft_watch.h."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "weft_watch.h" nogil:
    ctypedef struct weft_watched:
        uint64_t epoch
        int64_t turn_started
        int64_t threshold
        int wanted
    bint weft_watch_begin(weft_watched* watched)
    void weft_watch_advance(weft_watched* watched)
    void weft_watch_rest(weft_watched* watched)
    void weft_watch_rouse(weft_watched* watched)
