"""OpenSSL's functions for the TLS engine; see weft_tls.h for what each does."""

from weft._core.sys.python cimport PyObject

cdef extern from "weft_tls.h":
    ctypedef void weft_ssl
    ctypedef void weft_bio
    ctypedef struct weft_pipe:
        const char* window
        Py_ssize_t window_size
        char* out
        Py_ssize_t out_size
    int WEFT_ERROR_WANT_READ, WEFT_ERROR_WANT_WRITE, WEFT_ERROR_ZERO_RETURN

    const char* weft_tls_load(const char* path, unsigned long version)
    void weft_tls_forget_newest()
    weft_ssl* weft_tls_ssl_of(PyObject* owner)
    weft_bio* weft_tls_attach(weft_ssl* ssl, weft_pipe** pipe)
    void weft_tls_detach(weft_bio* bio)
    void weft_tls_begin()
    Py_ssize_t weft_tls_read(weft_ssl* ssl, char* to, Py_ssize_t room)
    Py_ssize_t weft_tls_write(weft_ssl* ssl, const char* data, Py_ssize_t size)
    bint weft_tls_has_pending(weft_ssl* ssl)
    Py_ssize_t weft_pipe_unread(weft_pipe* pipe)
    int weft_pipe_keep(weft_pipe* pipe)
    void weft_pipe_drop_out(weft_pipe* pipe)
