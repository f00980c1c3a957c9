/* The functions of OpenSSL that the TLS engine calls, looked up at run time in the library that Python's _ssl uses.
 *
 * Included by tls_engine.pxd alone: what is static here exists once. No header of OpenSSL is needed; what stands here of
 * its interface is public and unchanged since 1.1.1 (SSL_read_ex(3), BIO_meth_new(3), CRYPTO_get_ex_new_index(3)).
 * Everything named *_bio is called by OpenSSL, during a handshake without the GIL, and so touches no Python object.
 */
#ifndef WEFT_TLS_H
#define WEFT_TLS_H

#include <Python.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef void weft_ssl;
typedef void weft_bio;

enum {
    WEFT_EX_INDEX_SSL = 0,            /* CRYPTO_EX_INDEX_SSL */
    WEFT_CTRL_MODE = 33,              /* SSL_CTRL_MODE */
    WEFT_MODE_RELEASE_BUFFERS = 0x10, /* SSL_MODE_RELEASE_BUFFERS */
    WEFT_ERROR_WANT_READ = 2,         /* SSL_ERROR_WANT_READ; with the next two, what SSL_get_error() says */
    WEFT_ERROR_WANT_WRITE = 3,
    WEFT_ERROR_ZERO_RETURN = 6,
    WEFT_BIO_SOURCE_SINK = 0x400, /* BIO_TYPE_SOURCE_SINK */
    WEFT_BIO_READ = 0x01,         /* BIO_FLAGS_READ */
    WEFT_BIO_RETRY_FLAGS = 0x0f,  /* BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY */
    WEFT_BIO_SHOULD_RETRY = 0x08, /* BIO_FLAGS_SHOULD_RETRY */
    WEFT_BIO_CTRL_FLUSH = 11,     /* BIO_CTRL_FLUSH */
    WEFT_FIRST_ROOM = 2048,       /* bytes for ciphertext that leaves: a small answer, or a handshake's flight */
};

typedef void weft_ex_function(void *parent, void *ptr, void *ad, int index, long argl, void *argp);

static struct {
    unsigned long (*OpenSSL_version_num)(void);
    int (*CRYPTO_get_ex_new_index)(int, long, void *, weft_ex_function *, void *, weft_ex_function *);
    unsigned long (*ERR_peek_error)(void);
    void (*ERR_clear_error)(void);
    int (*BIO_get_new_index)(void);
    void *(*BIO_meth_new)(int, const char *);
    int (*BIO_meth_set_read)(void *, int (*)(weft_bio *, char *, int));
    int (*BIO_meth_set_write)(void *, int (*)(weft_bio *, const char *, int));
    int (*BIO_meth_set_ctrl)(void *, long (*)(weft_bio *, int, long, void *));
    int (*BIO_meth_set_destroy)(void *, int (*)(weft_bio *));
    weft_bio *(*BIO_new)(const void *);
    int (*BIO_free)(weft_bio *);
    int (*BIO_up_ref)(weft_bio *);
    void (*BIO_set_data)(weft_bio *, void *);
    void *(*BIO_get_data)(weft_bio *);
    void (*BIO_set_init)(weft_bio *, int);
    void (*BIO_set_flags)(weft_bio *, int);
    void (*BIO_clear_flags)(weft_bio *, int);
    int (*SSL_read_ex)(weft_ssl *, void *, size_t, size_t *);
    int (*SSL_write_ex)(weft_ssl *, const void *, size_t, size_t *);
    int (*SSL_get_error)(const weft_ssl *, int);
    int (*SSL_has_pending)(const weft_ssl *);
    void *(*SSL_get_ex_data)(const weft_ssl *, int);
    long (*SSL_ctrl)(weft_ssl *, int, long, void *);
    void (*SSL_set_bio)(weft_ssl *, weft_bio *, weft_bio *);
} weft_openssl;

/* -- what flows through a connection's BIO */

typedef struct {
    const char *window; /* borrowed while bytes are being delivered: what has come and was not read */
    Py_ssize_t window_size;
    char *kept; /* ours: what had come earlier and was not read; it goes before the window */
    Py_ssize_t kept_start, kept_size;
    char *out; /* ours: what is to be sent */
    Py_ssize_t out_size, out_room;
} weft_pipe;

static inline Py_ssize_t weft_pipe_unread(const weft_pipe *pipe) { return pipe->kept_size + pipe->window_size; }

/* Take over what is left of the window; -1 without memory. */
static inline int weft_pipe_keep(weft_pipe *pipe) {
    Py_ssize_t size = pipe->kept_size + pipe->window_size;
    if (pipe->window_size > 0) {
        char *block = malloc((size_t)size);
        if (block == NULL) return -1;
        if (pipe->kept_size > 0) memcpy(block, pipe->kept + pipe->kept_start, (size_t)pipe->kept_size);
        memcpy(block + pipe->kept_size, pipe->window, (size_t)pipe->window_size);
        free(pipe->kept);
        pipe->kept = block;
        pipe->kept_start = 0;
        pipe->kept_size = size;
    } else if (size == 0 && pipe->kept != NULL) {
        free(pipe->kept);
        pipe->kept = NULL;
    }
    pipe->window = NULL;
    pipe->window_size = 0;
    return 0;
}

static inline void weft_pipe_drop_out(weft_pipe *pipe) {
    free(pipe->out);
    pipe->out = NULL;
    pipe->out_size = pipe->out_room = 0;
}

static int weft_read_bio(weft_bio *bio, char *to, int size) {
    weft_pipe *pipe = weft_openssl.BIO_get_data(bio);
    Py_ssize_t wanted = size, done = 0;
    weft_openssl.BIO_clear_flags(bio, WEFT_BIO_RETRY_FLAGS);
    if (pipe->kept_size > 0) {
        done = pipe->kept_size < wanted ? pipe->kept_size : wanted;
        memcpy(to, pipe->kept + pipe->kept_start, (size_t)done);
        pipe->kept_start += done;
        pipe->kept_size -= done;
    }
    if (done < wanted && pipe->window_size > 0) {
        Py_ssize_t more = pipe->window_size < wanted - done ? pipe->window_size : wanted - done;
        memcpy(to + done, pipe->window, (size_t)more);
        pipe->window += more;
        pipe->window_size -= more;
        done += more;
    }
    if (done == 0 && wanted > 0) {
        weft_openssl.BIO_set_flags(bio, WEFT_BIO_READ | WEFT_BIO_SHOULD_RETRY);
        return -1;
    }
    return (int)done;
}

static int weft_write_bio(weft_bio *bio, const char *from, int size) {
    weft_pipe *pipe = weft_openssl.BIO_get_data(bio);
    weft_openssl.BIO_clear_flags(bio, WEFT_BIO_RETRY_FLAGS);
    if (size <= 0) return 0;
    if (pipe->out_size + size > pipe->out_room) {
        Py_ssize_t room = pipe->out_room ? 2 * pipe->out_room : WEFT_FIRST_ROOM;
        if (room < pipe->out_size + size) room = pipe->out_size + size;
        char *block = realloc(pipe->out, (size_t)room);
        if (block == NULL) return -1;
        pipe->out = block;
        pipe->out_room = room;
    }
    memcpy(pipe->out + pipe->out_size, from, (size_t)size);
    pipe->out_size += size;
    return size;
}

static long weft_ctrl_bio(weft_bio *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == WEFT_BIO_CTRL_FLUSH; /* nothing else is known here, kernel TLS above all */
}

static int weft_destroy_bio(weft_bio *bio) {
    weft_pipe *pipe = weft_openssl.BIO_get_data(bio);
    if (pipe != NULL) {
        free(pipe->kept);
        free(pipe->out);
        free(pipe);
        weft_openssl.BIO_set_data(bio, NULL);
    }
    return 1;
}

/* -- finding the library, and the SSL of an ssl.SSLObject */

static void *weft_bio_methods;
static __thread weft_ssl *weft_newest_ssl; /* what this thread has made last, unless it is gone again */

static void weft_note_new(void *parent, void *ptr, void *ad, int index, long argl, void *argp) {
    (void)ptr, (void)ad, (void)index, (void)argl, (void)argp;
    weft_newest_ssl = parent;
}

static void weft_note_free(void *parent, void *ptr, void *ad, int index, long argl, void *argp) {
    (void)ptr, (void)ad, (void)index, (void)argl, (void)argp;
    if (weft_newest_ssl == parent) weft_newest_ssl = NULL;
}

/* Find the functions where `path` (the file of _ssl; NULL for the program itself) finds its own; NULL, or what failed.
 * `version` is ssl.OPENSSL_VERSION_NUMBER. Called once. */
static inline const char *weft_tls_load(const char *path, unsigned long version) {
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) return "the library of _ssl is not loaded";
#define WEFT_FIND(name) \
    if ((*(void **)&weft_openssl.name = dlsym(library, #name)) == NULL) return "not found: " #name
    WEFT_FIND(OpenSSL_version_num);
    WEFT_FIND(CRYPTO_get_ex_new_index);
    WEFT_FIND(ERR_peek_error);
    WEFT_FIND(ERR_clear_error);
    WEFT_FIND(BIO_get_new_index);
    WEFT_FIND(BIO_meth_new);
    WEFT_FIND(BIO_meth_set_read);
    WEFT_FIND(BIO_meth_set_write);
    WEFT_FIND(BIO_meth_set_ctrl);
    WEFT_FIND(BIO_meth_set_destroy);
    WEFT_FIND(BIO_new);
    WEFT_FIND(BIO_free);
    WEFT_FIND(BIO_up_ref);
    WEFT_FIND(BIO_set_data);
    WEFT_FIND(BIO_get_data);
    WEFT_FIND(BIO_set_init);
    WEFT_FIND(BIO_set_flags);
    WEFT_FIND(BIO_clear_flags);
    WEFT_FIND(SSL_read_ex);
    WEFT_FIND(SSL_write_ex);
    WEFT_FIND(SSL_get_error);
    WEFT_FIND(SSL_has_pending);
    WEFT_FIND(SSL_get_ex_data);
    WEFT_FIND(SSL_ctrl);
    WEFT_FIND(SSL_set_bio);
#undef WEFT_FIND
    if (weft_openssl.OpenSSL_version_num() != version) return "the library is not the one that _ssl uses";
    int kind = weft_openssl.BIO_get_new_index();
    if (kind < 0) return "no number is left for a BIO";
    weft_bio_methods = weft_openssl.BIO_meth_new(kind | WEFT_BIO_SOURCE_SINK, "weft");
    if (weft_bio_methods == NULL) return "no memory";
    weft_openssl.BIO_meth_set_read(weft_bio_methods, weft_read_bio);
    weft_openssl.BIO_meth_set_write(weft_bio_methods, weft_write_bio);
    weft_openssl.BIO_meth_set_ctrl(weft_bio_methods, weft_ctrl_bio);
    weft_openssl.BIO_meth_set_destroy(weft_bio_methods, weft_destroy_bio);
    if (weft_openssl.CRYPTO_get_ex_new_index(WEFT_EX_INDEX_SSL, 0, NULL, weft_note_new, NULL, weft_note_free) < 0)
        return "OpenSSL does not tell of what it makes";
    return NULL;
}

static inline void weft_tls_forget_newest(void) { weft_newest_ssl = NULL; }

/* The SSL that was made last, if it is the one of `owner`, a _ssl._SSLSocket; else NULL. Nothing is dereferenced before
 * it is known to be alive: an object holds its own SSL until it dies. */
static inline weft_ssl *weft_tls_ssl_of(PyObject *owner) {
    weft_ssl *found = weft_newest_ssl;
    Py_ssize_t place = (Py_ssize_t)sizeof(PyObject), size = Py_TYPE(owner)->tp_basicsize;
    weft_newest_ssl = NULL;
    for (; found != NULL && place + (Py_ssize_t)sizeof(void *) <= size; place += (Py_ssize_t)sizeof(void *)) {
        void *word;
        memcpy(&word, (const char *)owner + place, sizeof word);
        if (word == found) return weft_openssl.SSL_get_ex_data(found, 0) == (void *)owner ? found : NULL;
    }
    return NULL;
}

/* Put our BIO in place of those of `ssl`; NULL without memory. The caller gets one reference, `ssl` two. */
static inline weft_bio *weft_tls_attach(weft_ssl *ssl, weft_pipe **pipe) {
    weft_bio *bio = weft_openssl.BIO_new(weft_bio_methods);
    if (bio == NULL) return NULL;
    *pipe = calloc(1, sizeof **pipe);
    if (*pipe == NULL) {
        weft_openssl.BIO_free(bio);
        return NULL;
    }
    weft_openssl.BIO_set_data(bio, *pipe);
    weft_openssl.BIO_set_init(bio, 1);
    weft_openssl.BIO_up_ref(bio);
    weft_openssl.SSL_set_bio(ssl, bio, bio); /* one reference for both, as they are the same (SSL_set_bio(3)) */
    weft_openssl.SSL_ctrl(ssl, WEFT_CTRL_MODE, WEFT_MODE_RELEASE_BUFFERS, NULL);
    return bio;
}

static inline void weft_tls_detach(weft_bio *bio) { weft_openssl.BIO_free(bio); }

/* An error that someone else has left would be taken for ours by SSL_get_error(3). */
static inline void weft_tls_begin(void) {
    if (weft_openssl.ERR_peek_error() != 0) weft_openssl.ERR_clear_error();
}

/* Bytes read, or minus what SSL_get_error() says. */
static inline Py_ssize_t weft_tls_read(weft_ssl *ssl, char *to, Py_ssize_t room) {
    size_t count = 0;
    if (weft_openssl.SSL_read_ex(ssl, to, (size_t)room, &count) == 1) return (Py_ssize_t)count;
    return -weft_openssl.SSL_get_error(ssl, 0);
}

static inline Py_ssize_t weft_tls_write(weft_ssl *ssl, const char *from, Py_ssize_t size) {
    size_t count = 0;
    if (weft_openssl.SSL_write_ex(ssl, from, (size_t)size, &count) == 1) return (Py_ssize_t)count;
    return -weft_openssl.SSL_get_error(ssl, 0);
}

static inline int weft_tls_has_pending(const weft_ssl *ssl) { return weft_openssl.SSL_has_pending(ssl); }

#endif
