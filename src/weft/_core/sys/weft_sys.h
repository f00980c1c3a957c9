/* What Cython's pure-Python mode cannot say well: a few system calls and CPython calls, each a static inline function.
 *
 * Included by the .pxd files beside it and by nothing else. Functions that can fail set no Python error: they return
 * -errno, and their callers decide whether that is an error at all (EAGAIN mostly is not).
 */
#ifndef WEFT_SYS_H
#define WEFT_SYS_H

#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same number on every architecture since Linux 5.11 */
#endif

/* CLOCK_MONOTONIC in nanoseconds: the clock of time.monotonic(). */
static inline int64_t weft_monotonic_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A counter that the processor keeps, in ticks of its own: reading it takes a third of reading the clock. Ticks say only
 * whether it is time to look at the clock again: they may jump, also backwards, when a thread changes its processor. */
static inline uint64_t weft_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return (uint64_t)weft_monotonic_ns();
#endif
}

/* About so many ticks are `ns` nanoseconds. The counter of an x86-64 has between 1 and 5 ticks in a nanosecond and does
 * not say how many: it is taken for the mean of these, in the sense of both errors being equal. */
static inline uint64_t weft_ticks_in(int64_t ns) {
#if defined(__x86_64__)
    return (uint64_t)ns * 9 / 4;
#elif defined(__aarch64__)
    uint64_t in_a_second;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(in_a_second));
    return (uint64_t)ns * in_a_second / 1000000000;
#else
    return (uint64_t)ns;
#endif
}

/* Have malloc keep what is freed, up to a few MiB, instead of giving it back and asking again. glibc gives back free
 * memory at the heap's end from twice M_MMAP_THRESHOLD on (256 KiB at first), and raises that bound when a larger block
 * is freed (mallopt(3)). A turn of a loop that receives or answers 256 KiB is over the first bound, and then each page
 * of it is a fault per turn. Where the bound was set by hand, or malloc is another, this changes nothing. */
static inline void weft_keep_freed_memory(void) {
    static int done = 0;
    if (done) return;
    done = 1;
    void *volatile block = malloc(4 << 20);
    free(block);
}

/* epoll_wait(2) with a timeout in nanoseconds; below Linux 5.11 (ENOSYS), or where a sandbox forbids the call (EPERM),
 * in milliseconds rounded up, so that a timer is never early. A negative timeout waits for ever. */
static inline int weft_epoll_wait(int epfd, struct epoll_event *events, int capacity, int64_t timeout_ns) {
    static int coarse = 0;
    int count;
    if (timeout_ns > 0 && !coarse) {
        struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        count = (int)syscall(SYS_epoll_pwait2, epfd, events, capacity, &ts, NULL, 0);
        if (count >= 0) return count;
        if (errno != ENOSYS && errno != EPERM) return -errno;
        coarse = 1;
    }
    int64_t timeout_ms = timeout_ns <= 0 ? timeout_ns : (timeout_ns + 999999) / 1000000;
    if (timeout_ms > INT32_MAX) timeout_ms = INT32_MAX;
    count = epoll_wait(epfd, events, capacity, timeout_ms < 0 ? -1 : (int)timeout_ms);
    return count >= 0 ? count : -errno;
}

static inline int weft_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event;
    event.events = events;
    event.data.u64 = data;
    return epoll_ctl(epfd, op, fd, &event) == 0 ? 0 : -errno;
}

static inline int weft_wake_new(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

static inline int weft_epoll_new(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

/* Async-signal-safe and thread-safe. A full counter (EAGAIN) has woken the reader already. */
static inline void weft_wake_write(int fd) {
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

static inline void weft_wake_drain(int fd) {
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {}
}

/* For sockets that users own: MSG_DONTWAIT, since nobody has checked that theirs does not block. */
static inline Py_ssize_t weft_recv_now(int fd, char *buffer, size_t size) {
    ssize_t n;
    do { n = recv(fd, buffer, size, MSG_DONTWAIT); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

static inline Py_ssize_t weft_send_now(int fd, const char *data, size_t size) {
    ssize_t n;
    do { n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

/* The four calls that move bytes. EINTR is retried here and only here. */
static inline Py_ssize_t weft_recv(int fd, char *buffer, size_t size) {
    ssize_t n;
    do { n = recv(fd, buffer, size, 0); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

static inline Py_ssize_t weft_read(int fd, char *buffer, size_t size) {
    ssize_t n;
    do { n = read(fd, buffer, size); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

/* MSG_NOSIGNAL: a peer that went away is an error of this connection, never a SIGPIPE to the process. */
static inline Py_ssize_t weft_sendv(int fd, struct iovec *parts, int count) {
    ssize_t n;
    if (count == 1) {
        do { n = send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL); } while (n < 0 && errno == EINTR);
    } else {
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = parts;
        message.msg_iovlen = (size_t)count;
        do { n = sendmsg(fd, &message, MSG_NOSIGNAL); } while (n < 0 && errno == EINTR);
    }
    return n >= 0 ? n : -errno;
}

static inline Py_ssize_t weft_writev(int fd, struct iovec *parts, int count) {
    ssize_t n;
    do { n = writev(fd, parts, count); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

static inline int weft_shutdown_write(int fd) {
    return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

static inline int weft_check_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0 ? 0 : -errno;
}

/* The C functions behind `obj.attribute` for a built-in getset descriptor: PyGetSetDescrObject and PyGetSetDef are
 * CPython's documented structures. The descriptor must outlive the pointer; ours live as long as the interpreter. */
static inline getter weft_getter(PyObject *descriptor) {
    return Py_IS_TYPE(descriptor, &PyGetSetDescr_Type) ? ((PyGetSetDescrObject *)descriptor)->d_getset->get : NULL;
}

static inline setter weft_setter(PyObject *descriptor) {
    return Py_IS_TYPE(descriptor, &PyGetSetDescr_Type) ? ((PyGetSetDescrObject *)descriptor)->d_getset->set : NULL;
}

/* The raised exception, normalised, with its traceback; nothing is raised any more. Catching in C keeps our own frames
 * out of the tracebacks of user code. */
static inline PyObject *weft_take_exception(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* The first `size` bytes of `block`, a bytes object that nobody else has seen; takes the reference to it. */
static inline PyObject *weft_cut_bytes(PyObject *block, Py_ssize_t size) {
    if (PyBytes_GET_SIZE(block) != size) _PyBytes_Resize(&block, size); /* on failure it is NULL, and MemoryError set */
    return block;
}

/* Raise `exception` again with the traceback it has. Always -1. */
static inline int weft_raise_again(PyObject *exception) {
    Py_INCREF(exception);
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    Py_INCREF(Py_TYPE(exception));
    PyErr_Restore((PyObject *)Py_TYPE(exception), exception, PyException_GetTraceback(exception));
#endif
    return -1;
}

/* method(self), where method is an unbound built-in method: NULL with an exception set, or a new reference. */
static inline PyObject *weft_call0(PyObject *method, PyObject *self) {
    PyObject *stack[1] = {self};
    return PyObject_Vectorcall(method, stack, 1, NULL);
}

/* callable(*args): NULL with an exception set, or a new reference. */
static inline PyObject *weft_call(PyObject *callable, PyObject *args) {
    return PyObject_Vectorcall(callable, ((PyTupleObject *)args)->ob_item, (size_t)PyTuple_GET_SIZE(args), NULL);
}

/* function(a, b), whose result says nothing; straight to the C function where it is a built-in one of the common kind,
 * which is what the hooks of asyncio's C module are. */
static inline int weft_call2(PyObject *function, PyObject *a, PyObject *b) {
    typedef PyObject *(*fast_function)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    PyObject *stack[2] = {a, b}, *result;
    if (PyCFunction_CheckExact(function) && PyCFunction_GET_FLAGS(function) == (METH_FASTCALL | METH_KEYWORDS)) {
        fast_function direct = (fast_function)(void (*)(void))PyCFunction_GET_FUNCTION(function);
        result = direct(PyCFunction_GET_SELF(function), stack, 2, NULL);
    } else {
        result = PyObject_Vectorcall(function, stack, 2, NULL);
    }
    if (result == NULL) return -1;
    Py_DECREF(result);
    return 0;
}

/* PyFloat_AsDouble(), which makes a float of an int first. -1 may be an error. */
static inline double weft_as_double(PyObject *number) {
    return PyLong_CheckExact(number) ? PyLong_AsDouble(number) : PyFloat_AsDouble(number);
}

/* type(*args, **keywords) in its two halves, without the detour over type.__call__: the slots are public. */
static inline PyObject *weft_new(PyObject *type, PyObject *no_args) {
    return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, no_args, NULL);
}

static inline int weft_init(PyObject *type, PyObject *self, PyObject *args, PyObject *keywords) {
    return ((PyTypeObject *)type)->tp_init(self, args, keywords);
}

/* Where in an instance a name of __slots__ is kept: PyMemberDescrObject and PyMemberDef are documented structures. */
static inline Py_ssize_t weft_slot_offset(PyObject *descriptor) {
    return ((PyMemberDescrObject *)descriptor)->d_member->offset;
}

static inline PyObject **weft_slot(PyObject *self, Py_ssize_t offset) {
    return (PyObject **)((char *)self + offset);
}

/* What the garbage collector calls to see what an instance refers to; set once, at import, before instances exist. */
static inline traverseproc weft_get_traverse(PyObject *type) {
    return ((PyTypeObject *)type)->tp_traverse;
}

static inline void weft_set_traverse(PyObject *type, traverseproc function) {
    ((PyTypeObject *)type)->tp_traverse = function;
}

/* What a class that has no __new__ of its own makes its objects by. */
static inline void weft_inherit_new(PyObject *type) {
    ((PyTypeObject *)type)->tp_new = PyBaseObject_Type.tp_new;
    PyType_Modified((PyTypeObject *)type);
}

static inline PyObject *weft_call_method0(PyObject *self, PyObject *name) {
    return PyObject_CallMethodNoArgs(self, name);
}

/* future.add_done_callback(callback, context=context) through the unbound method; kwnames is ("context",). */
static inline int weft_add_done_callback(
    PyObject *method, PyObject *future, PyObject *callback, PyObject *context, PyObject *kwnames
) {
    PyObject *stack[3] = {future, callback, context};
    PyObject *result = PyObject_Vectorcall(method, stack, 2, kwnames);
    if (result == NULL) return -1;
    Py_DECREF(result);
    return 0;
}

/* One step of a coroutine: send(None), or throw(exception) when there is one. */
static inline PySendResult weft_step(PyObject *coroutine, PyObject *exception, PyObject *throw_name, PyObject **result) {
    if (exception == NULL) return PyIter_Send(coroutine, Py_None, result);
    *result = PyObject_CallMethodOneArg(coroutine, throw_name, exception);
    if (*result != NULL) return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return PYGEN_ERROR;
    PyObject *stop = weft_take_exception();
    *result = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
}

#endif
