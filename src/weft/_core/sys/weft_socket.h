/* What is done to each socket of a connection: included by socket.pxd beside it. */
#ifndef WEFT_SOCKET_H
#define WEFT_SOCKET_H

#include "weft_datagram.h"
#include <netinet/tcp.h>

/* A new descriptor that does not block and is closed by exec(), and its peer's address; or -errno. */
static inline int weft_accept(int fd, weft_address *peer, socklen_t *length) {
    int found;
    *length = sizeof *peer;
    Py_BEGIN_ALLOW_THREADS
    found = accept4(fd, &peer->any, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (found < 0) found = -errno;
    Py_END_ALLOW_THREADS
    return found;
}

/* The socket's own address; or -errno. */
static inline int weft_own_address(int fd, weft_address *own, socklen_t *length) {
    *length = sizeof *own;
    return getsockname(fd, &own->any, length) == 0 ? 0 : -errno;
}

/* Without Nagle's algorithm: 0 or -errno. */
static inline int weft_set_no_delay(int fd) {
    int on = 1;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 ? 0 : -errno;
}

static inline int weft_family_of(const weft_address *address) { return address->any.sa_family; }

#endif
