"""The system calls of the driver; see weft_sys.h for what each promises."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT, EPOLLONESHOT

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "weft_sys.h" nogil:
    int64_t weft_monotonic_ns()
    uint64_t weft_ticks()
    uint64_t weft_ticks_in(int64_t ns)
    void weft_keep_freed_memory()
    int weft_epoll_new()
    int weft_epoll_wait(int epfd, epoll_event* events, int capacity, int64_t timeout_ns)
    int weft_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data)
    int weft_wake_new()
    void weft_wake_write(int fd)
    void weft_wake_drain(int fd)
    Py_ssize_t weft_recv(int fd, char* buffer, size_t size)
    Py_ssize_t weft_recv_now(int fd, char* buffer, size_t size)
    Py_ssize_t weft_send_now(int fd, const char* data, size_t size)
    Py_ssize_t weft_read(int fd, char* buffer, size_t size)
    Py_ssize_t weft_sendv(int fd, iovec* parts, int count)
    Py_ssize_t weft_writev(int fd, iovec* parts, int count)
    int weft_shutdown_write(int fd)
    int weft_check_open(int fd)

cdef extern from "<string.h>" nogil:
    void* memmem(const void* where, size_t size, const void* what, size_t length)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<errno.h>" nogil:
    int EAGAIN, EWOULDBLOCK, EINTR, ENOENT, EEXIST, EBADF, EPERM, EMFILE, ENFILE, ENOBUFS, ENOMEM
    int ECONNABORTED, ECONNRESET, EPIPE, EPROTO, ENOTCONN, ESHUTDOWN
