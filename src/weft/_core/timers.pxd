cimport cython
from libc.stdint cimport int64_t, uint64_t
from weft._core.handle cimport Handle, Runnable
from weft._core.sys.python cimport PyObject, visitproc

cdef extern from "weft_pool.h":
    void weft_pool_type(object type)

ctypedef struct Slot:
    int64_t when
    uint64_t sequence
    PyObject* handle

cdef class TimerHeap

@cython.final
cdef class TimerHandle(Handle):
    cdef TimerHeap heap
    cdef double scheduled

@cython.final
cdef class TimerHeap:
    cdef Slot* slots
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t cancelled
    cdef uint64_t sequence
    cdef bint has_news  # a timer was set since this was cleared

    cdef int grow(self) except -1
    cdef void shrink(self) noexcept
    cdef int push(self, int64_t when, Runnable handle) except -1
    cdef Runnable pop(self)
    cdef int64_t next_when(self) noexcept
    cdef void on_cancel(self, Runnable handle) noexcept
    cdef void compact(self) noexcept
    cdef void sift_up(self, Py_ssize_t place) noexcept
    cdef void sift_down(self, Py_ssize_t place) noexcept
    cdef void clear(self) noexcept
    cdef int traverse(self, visitproc visit, void* data) noexcept

cdef TimerHandle new_timer(
    TimerHeap heap, int64_t when, double scheduled, object loop, object callback, tuple args, object context, bint debug
)
