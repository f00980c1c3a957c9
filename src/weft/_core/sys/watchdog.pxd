"""The watchdog's thread and its store of loops; see weft_watchdog.h. For watchdog.py alone: the store is in its module."""

from libc.stdint cimport int64_t, uint64_t
from weft._core.sys.python cimport PyObject
from weft._core.sys.watch cimport weft_watched

cdef extern from "weft_watchdog.h" nogil:
    ctypedef struct PyThreadState:
        pass
    ctypedef struct weft_stall:
        uint64_t epoch
        int64_t started, noticed, stolen, cpu, delay, measured, collected, gil_wait
        int samples, running
        char* call
        char* channel
        char* target
    ctypedef struct weft_seen "weft_watched":
        uint64_t epoch, serial
        int tid
        PyThreadState* thread
        PyObject* loop
        PyObject* capture
        int wants_word
        weft_stall stall
    struct weft_dog_state:
        int64_t first_word
        int is_running
        int captures
        uint64_t looks, parks, found, unseen
    weft_dog_state weft_dog
    void weft_dog_set_capture(void (*hook)() noexcept nogil)
    int64_t weft_monotonic_ns()
    int64_t weft_thread_cpu_here()
    int64_t weft_thread_delay(int tid)
    const char* weft_call_name(long number)
    void weft_dog_enter(weft_watched* watched, PyObject* loop)
    void weft_dog_leave(weft_watched* watched)
    bint weft_dog_next_wish(weft_watched** watched, weft_seen* copy)
    bint weft_dog_deliver(weft_watched* watched, uint64_t serial, uint64_t epoch, PyObject* capture, int64_t gil_wait)
    bint weft_dog_is_capturing(weft_watched* watched)
    PyObject* weft_dog_finish(weft_watched* watched, int64_t now, weft_stall* stall)
    void weft_dog_stop(bint for_good)
    void weft_dog_resume()
    void weft_dog_forget()
    object weft_dog_collection_callback()
    int weft_here_tid()

cdef extern from "Python.h":
    ctypedef struct PyFrameObject:
        pass
    PyFrameObject* PyThreadState_GetFrame(PyThreadState*)
    PyFrameObject* PyFrame_GetBack(PyFrameObject*)
    ctypedef struct PyCodeObject:
        pass
    PyCodeObject* PyFrame_GetCode(PyFrameObject*)
    PyObject* PyFrame_GetGlobals(PyFrameObject*)
    int PyFrame_GetLineNumber(PyFrameObject*)
    int PyFrame_GetLasti(PyFrameObject*)
    void drop_frame "Py_DECREF"(PyFrameObject*)
    bint PyGC_Disable()
    bint PyGC_Enable()
