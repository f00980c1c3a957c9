/* Datagrams by the batch, and addresses between the kernel's form and Python's: included by datagram.pxd beside it.
 *
 * Functions that can fail set no Python error but return -errno, save those that return a Python object. Addresses are
 * those of socket.recvfrom() and socket.sendto(); what cannot be told apart from text here (names, paths, scopes) is
 * left to the socket module, by returning 0.
 */
#ifndef WEFT_DATAGRAM_H
#define WEFT_DATAGRAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WEFT_BATCH 64 /* datagrams per sendmmsg(2): past that, the call is no longer what costs */

/* One that waits to be sent. */
typedef struct {
    PyObject *owner; /* owned: a bytes object */
    PyObject *odd;   /* owned: an address for the socket module to understand, or NULL */
    socklen_t length; /* of the address below; 0: the socket is connected */
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } address;
} weft_packet;

/* What recvmmsg(2) fills. */
typedef union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
} weft_address;

/* An address that was unpacked before, and the object that was made of it. */
typedef struct {
    PyObject *object; /* owned, or NULL */
    socklen_t length;
    uint32_t words[sizeof(struct sockaddr_in6) / 4];
} weft_peer;

#define WEFT_PEERS 256 /* a power of two */

/* Receive up to `most` datagrams, the i-th into `slot` bytes at `memory + i * stride`; sizes and names say what came. */
static inline int weft_receive_batch(
    int fd, char *memory, size_t stride, size_t slot, int most, struct mmsghdr *headers, struct iovec *parts,
    weft_address *names
) {
    int i, n;
    for (i = 0; i < most; i++) {
        parts[i].iov_base = memory + (size_t)i * stride;
        parts[i].iov_len = slot;
        memset(&headers[i].msg_hdr, 0, sizeof headers[i].msg_hdr);
        headers[i].msg_hdr.msg_name = &names[i];
        headers[i].msg_hdr.msg_namelen = sizeof names[i];
        headers[i].msg_hdr.msg_iov = &parts[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    do { n = recvmmsg(fd, headers, (unsigned)most, MSG_DONTWAIT, NULL); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

/* Send up to WEFT_BATCH datagrams, none of them odd; returns how many went, or why the first did not. */
static inline int weft_send_batch(int fd, weft_packet *packets, int count) {
    struct mmsghdr headers[WEFT_BATCH];
    struct iovec parts[WEFT_BATCH];
    int i, n;
    if (count == 1) {
        weft_packet *one = packets;
        const struct sockaddr *to = one->length ? &one->address.any : NULL;
        ssize_t sent;
        do {
            sent = sendto(fd, PyBytes_AS_STRING(one->owner), (size_t)PyBytes_GET_SIZE(one->owner),
                          MSG_DONTWAIT | MSG_NOSIGNAL, to, one->length);
        } while (sent < 0 && errno == EINTR);
        return sent >= 0 ? 1 : -errno;
    }
    if (count > WEFT_BATCH) count = WEFT_BATCH;
    memset(headers, 0, (size_t)count * sizeof *headers);
    for (i = 0; i < count; i++) {
        parts[i].iov_base = PyBytes_AS_STRING(packets[i].owner);
        parts[i].iov_len = (size_t)PyBytes_GET_SIZE(packets[i].owner);
        headers[i].msg_hdr.msg_iov = &parts[i];
        headers[i].msg_hdr.msg_iovlen = 1;
        if (packets[i].length) {
            headers[i].msg_hdr.msg_name = &packets[i].address;
            headers[i].msg_hdr.msg_namelen = packets[i].length;
        }
    }
    do { n = sendmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL); } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

/* A number of a tuple, as the socket module takes it; -1 for what it has to judge by itself. */
static inline int64_t weft_number(PyObject *item, long most) {
    int overflow = 0;
    long value;
    if (!PyLong_CheckExact(item)) return -1;
    value = PyLong_AsLongAndOverflow(item, &overflow);
    return overflow || value < 0 || value > most ? -1 : value;
}

/* The kernel's form of a numeric address; returns its length, or 0 for what is left to the socket module. */
static inline socklen_t weft_pack_address(PyObject *given, int family, weft_packet *packet) {
    Py_ssize_t size, length;
    const char *host;
    int64_t port, flow = 0, scope = 0;
    if (!PyTuple_CheckExact(given)) return 0;
    size = PyTuple_GET_SIZE(given);
    if (size < 2 || size > (family == AF_INET6 ? 4 : 2)) return 0;
    if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(given, 0)) || !PyUnicode_IS_COMPACT_ASCII(PyTuple_GET_ITEM(given, 0)))
        return 0;
    host = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(given, 0), &length); /* of ASCII: no copy, cannot fail */
    port = weft_number(PyTuple_GET_ITEM(given, 1), 0xFFFF);
    if (host == NULL || (size_t)length != strlen(host) || port < 0) return 0;
    if (family == AF_INET) {
        memset(&packet->address.in, 0, sizeof packet->address.in);
        packet->address.in.sin_family = AF_INET;
        packet->address.in.sin_port = htons((uint16_t)port);
        return inet_pton(AF_INET, host, &packet->address.in.sin_addr) == 1 ? sizeof packet->address.in : 0;
    }
    if (family != AF_INET6) return 0;
    if (size > 2) flow = weft_number(PyTuple_GET_ITEM(given, 2), 0xFFFFF);
    if (size > 3) scope = weft_number(PyTuple_GET_ITEM(given, 3), INT32_MAX);
    if (flow < 0 || scope < 0) return 0;
    memset(&packet->address.in6, 0, sizeof packet->address.in6);
    packet->address.in6.sin6_family = AF_INET6;
    packet->address.in6.sin6_port = htons((uint16_t)port);
    packet->address.in6.sin6_flowinfo = htonl((uint32_t)flow);
    packet->address.in6.sin6_scope_id = (uint32_t)scope;
    return inet_pton(AF_INET6, host, &packet->address.in6.sin6_addr) == 1 ? sizeof packet->address.in6 : 0;
}

/* The text of an IPv4 address: inet_ntop(3) does it by printf, which takes ten times as long. */
static inline PyObject *weft_ipv4_text(const struct in_addr *address) {
    const unsigned char *part = (const unsigned char *)address;
    char text[INET_ADDRSTRLEN], *end = text;
    for (int i = 0; i < 4; i++) {
        unsigned int number = part[i];
        if (i > 0) *end++ = '.';
        if (number >= 100) *end++ = (char)('0' + number / 100);
        if (number >= 10) *end++ = (char)('0' + number / 10 % 10);
        *end++ = (char)('0' + number % 10);
    }
    return PyUnicode_FromStringAndSize(text, end - text);
}

/* What socket.recvfrom() would return for an address; a new reference. */
static inline PyObject *weft_unpack_address(const weft_address *name, socklen_t length) {
    char host[INET6_ADDRSTRLEN];
    if (length == 0) Py_RETURN_NONE;
    if (name->any.sa_family == AF_INET && length >= sizeof name->in) {
        return Py_BuildValue("(NN)", weft_ipv4_text(&name->in.sin_addr), PyLong_FromLong(ntohs(name->in.sin_port)));
    }
    if (name->any.sa_family == AF_INET6 && length >= sizeof name->in6) {
        inet_ntop(AF_INET6, &name->in6.sin6_addr, host, sizeof host);
        return Py_BuildValue("(siII)", host, (int)ntohs(name->in6.sin6_port),
                             (unsigned int)ntohl(name->in6.sin6_flowinfo), (unsigned int)name->in6.sin6_scope_id);
    }
    if (name->any.sa_family == AF_UNIX) {
        Py_ssize_t size = (Py_ssize_t)length - (Py_ssize_t)offsetof(struct sockaddr_un, sun_path);
        if (size > 0 && name->un.sun_path[0] == 0) return PyBytes_FromStringAndSize(name->un.sun_path, size);
        if (size < 0) size = 0;
        return PyUnicode_DecodeFSDefaultAndSize(name->un.sun_path, (Py_ssize_t)strnlen(name->un.sun_path, (size_t)size));
    }
    Py_RETURN_NONE; /* a family that only the socket module knows */
}

/* The same, as one object for as long as the peer's place in the table is not another's. */
static inline PyObject *weft_peer_address(weft_peer *peers, const weft_address *name, socklen_t length) {
    uint32_t hash = 0, words[sizeof(struct sockaddr_in6) / 4];
    weft_peer *peer;
    PyObject *made;
    if (length == 0 || length > sizeof words || name->any.sa_family == AF_UNIX) return weft_unpack_address(name, length);
    memset(words, 0, sizeof words);
    memcpy(words, name, length);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) hash = (hash ^ words[i]) * 0x9E3779B1u;
    peer = &peers[(hash >> 16) % WEFT_PEERS];
    if (peer->object != NULL && peer->length == length && memcmp(peer->words, words, sizeof words) == 0)
        return Py_NewRef(peer->object);
    made = weft_unpack_address(name, length);
    if (made == NULL) return NULL;
    memcpy(peer->words, words, sizeof words);
    peer->length = length;
    Py_XSETREF(peer->object, Py_NewRef(made));
    return made;
}

#endif
