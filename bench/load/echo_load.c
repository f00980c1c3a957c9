/* The load generator of the echo benchmarks: N connections, each of which sends a message, waits for all of it to
 * come back, and sends the next (closed loop), on one thread with epoll.
 *
 * Its one invariant: only messages that were wholly answered between the end of the warm-up and the end of the
 * window are counted, and the processor time of the server is read at exactly these two moments.
 * The first answer of each connection is compared byte by byte, so a server that does not echo is found out.
 * Called by bench/cases/tcp.py; prints one JSON object, or a message on standard error and exit status 1.
 *
 * Usage: echo_load --port P | --unix PATH  [--connections N] [--size BYTES] [--warmup-ms T] [--duration-ms T]
 *                  [--messages N] [--pid SERVER] [--core K] [--anew]
 * The window ends after --duration-ms, or after --messages when that is given and comes first. With --anew each message
 * has a connection of its own. Compiled with WITH_TLS all of it goes over TLS 1.3, by libssl, without verification.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <fcntl.h>
#include <openssl/ssl.h>
#endif

enum { DONE, ROOM_WANTED, ANSWER_WANTED }; /* of sending: what it waits for */

#define PROGRAM "echo_load"
#include "measure.h"

enum {
    EVENTS = 1024,
    STALL_MS = 5000, /* no answer for so long: the server hangs, and says so */
};

struct options {
    const char *unix_path;
    int port, connections, core, anew;
    size_t size;
    uint64_t warmup_ns, duration_ns, messages;
    pid_t pid;
};

struct connection {
    int fd;
    int checked;
    uint32_t watched;
#ifdef WITH_TLS
    SSL *ssl;
#endif
    size_t sent, received;
    uint64_t started_ns;
};

static char *message, *incoming;

static int connect_once(const struct options *options)
{
    int fd, one = 1;
    if (options->unix_path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, options->unix_path, sizeof address.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
            fail("connect");
        return fd;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void watch(int epoll, struct connection *connection, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll, operation, connection->fd, &event) != 0)
        fail("epoll_ctl");
    connection->watched = events;
}

#ifdef WITH_TLS
static SSL_CTX *context;

static void start_tls(struct connection *connection)
{
    if (context == NULL && (context = SSL_CTX_new(TLS_client_method())) == NULL)
        fail("SSL_CTX_new");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->ssl = SSL_new(context);
    if (connection->ssl == NULL || SSL_set_fd(connection->ssl, connection->fd) != 1)
        fail("SSL_new");
    SSL_set_connect_state(connection->ssl);
}

static void end_tls(struct connection *connection)
{
    SSL_shutdown(connection->ssl);
    SSL_free(connection->ssl);
}

/* The first call makes the handshake as well. */
static int send_rest(const struct options *options, struct connection *connection)
{
    while (connection->sent < options->size) {
        int n = SSL_write(connection->ssl, message + connection->sent, (int)(options->size - connection->sent));
        int why = SSL_get_error(connection->ssl, n);
        if (n <= 0 && why == SSL_ERROR_WANT_READ)
            return ANSWER_WANTED;
        if (n <= 0 && why == SSL_ERROR_WANT_WRITE)
            return ROOM_WANTED;
        if (n <= 0)
            fail("SSL_write");
        connection->sent += (size_t)n;
    }
    return DONE;
}

static ssize_t receive_some(struct connection *connection, size_t most)
{
    int n = SSL_read(connection->ssl, incoming, (int)most);
    if (n > 0)
        return n;
    n = SSL_get_error(connection->ssl, n);
    if (n == SSL_ERROR_WANT_READ || n == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    return n == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}
#else
static void start_tls(struct connection *connection) { (void)connection; }
static void end_tls(struct connection *connection) { (void)connection; }

/* Send what is left of the message. A full socket buffer is waited for by the caller. */
static int send_rest(const struct options *options, struct connection *connection)
{
    while (connection->sent < options->size) {
        ssize_t n = send(connection->fd, message + connection->sent, options->size - connection->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return ROOM_WANTED;
        if (n < 0)
            fail("send");
        connection->sent += (size_t)n;
    }
    return DONE;
}

static ssize_t receive_some(struct connection *connection, size_t most)
{
    return recv(connection->fd, incoming, most, MSG_DONTWAIT);
}
#endif

static void send_message(const struct options *options, int epoll, struct connection *connection)
{
    uint32_t events = send_rest(options, connection) == ROOM_WANTED ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (events != connection->watched)
        watch(epoll, connection, events, EPOLL_CTL_MOD);
}

static void open_connection(const struct options *options, int epoll, struct connection *connection)
{
    connection->fd = connect_once(options);
    start_tls(connection);
    watch(epoll, connection, EPOLLIN, EPOLL_CTL_ADD);
}

static void start_message(const struct options *options, int epoll, struct connection *connection, uint64_t now)
{
    connection->sent = connection->received = 0;
    connection->started_ns = now;
    send_message(options, epoll, connection);
}

/* Receive; true when the whole message has come back. */
static int receive(const struct options *options, struct connection *connection)
{
    while (connection->received < options->size) {
        ssize_t n = receive_some(connection, options->size - connection->received);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0) {
            if (n == 0)
                errno = ECONNRESET;
            fail("recv");
        }
        if (!connection->checked && memcmp(incoming, message + connection->received, (size_t)n) != 0) {
            errno = 0;
            fail("the answer is not what was sent");
        }
        connection->received += (size_t)n;
    }
    connection->checked = 1;
    return 1;
}

static struct options parse(int argc, char **argv)
{
    struct options options = {.connections = 1, .core = -1, .size = 64, .messages = UINT64_MAX};
    static const struct option names[] = {
        {"port", 1, 0, 'p'},      {"unix", 1, 0, 'u'},        {"connections", 1, 0, 'c'}, {"size", 1, 0, 's'},
        {"warmup-ms", 1, 0, 'w'}, {"duration-ms", 1, 0, 'd'}, {"messages", 1, 0, 'm'},    {"pid", 1, 0, 'i'},
        {"core", 1, 0, 'k'},      {"anew", 0, 0, 'a'},        {0, 0, 0, 0},
    };
    int which;
    options.warmup_ns = 200 * 1000000ull;
    options.duration_ns = 1000 * 1000000ull;
    while ((which = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (which) {
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.unix_path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 's': options.size = (size_t)atol(optarg); break;
        case 'w': options.warmup_ns = strtoull(optarg, NULL, 10) * 1000000ull; break;
        case 'd': options.duration_ns = strtoull(optarg, NULL, 10) * 1000000ull; break;
        case 'm': options.messages = strtoull(optarg, NULL, 10); break;
        case 'i': options.pid = (pid_t)atoi(optarg); break;
        case 'k': options.core = atoi(optarg); break;
        case 'a': options.anew = 1; break;
        default: exit(2);
        }
    }
    if ((options.port == 0 && options.unix_path == NULL) || options.connections < 1 || options.size < 1) {
        fprintf(stderr, "echo_load: --port or --unix, and at least one connection and one byte, are needed\n");
        exit(2);
    }
    return options;
}

static void settle_in(const struct options *options)
{
    take_core(options->core);
    take_files();
    message = malloc(options->size);
    incoming = malloc(options->size);
    if (message == NULL || incoming == NULL)
        fail("malloc");
    for (size_t i = 0; i < options->size; i++)
        message[i] = (char)('!' + i % 89);
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    struct epoll_event events[EVENTS];
    struct connection *connections = calloc((size_t)options.connections, sizeof *connections);
    struct server_cpu before, after;
    uint64_t start, now, end, window_start = 0, own_start = 0, counted = 0;
    int epoll = epoll_create1(0);
    settle_in(&options);
    if (epoll < 0 || connections == NULL)
        fail("epoll_create1");
    for (int i = 0; i < options.connections; i++) {
        open_connection(&options, epoll, &connections[i]);
    }
    start = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < options.connections; i++)
        start_message(&options, epoll, &connections[i], start);
    now = start;
    end = start + options.warmup_ns;
    before = server_cpu(0);
    for (;;) {
        if (window_start == 0 && now >= end) { /* warm: the window opens */
            before = server_cpu(options.pid);
            own_start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            window_start = now = clock_ns(CLOCK_MONOTONIC);
            end = window_start + options.duration_ns;
        } else if (window_start != 0 && (now >= end || counted >= options.messages)) {
            break;
        }
        int ready = epoll_wait(epoll, events, EVENTS, STALL_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0) {
            errno = ready == 0 ? ETIMEDOUT : errno;
            fail("waiting for answers");
        }
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->sent < options.size)
                send_message(&options, epoll, connection);
            if ((events[i].events & ~(uint32_t)EPOLLOUT) == 0 || !receive(&options, connection))
                continue;
            now = clock_ns(CLOCK_MONOTONIC);
            if (window_start != 0 && connection->started_ns >= window_start) {
                note_latency(now - connection->started_ns);
                counted++;
            }
            if (options.anew) {
                end_tls(connection);
                close(connection->fd);
                open_connection(&options, epoll, connection);
            }
            start_message(&options, epoll, connection, now);
        }
        now = clock_ns(CLOCK_MONOTONIC);
    }
    after = server_cpu(options.pid);
    report(options.pid, counted, now - window_start, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_start, before, after);
    return 0;
}
