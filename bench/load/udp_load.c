/* The load generator of the datagram benchmarks: N sockets, each with W datagrams on their way to an echo server.
 *
 * Its one invariant: only datagrams that came back between the end of the warm-up and the end of the window are counted,
 * and the processor time of the server is read at exactly these two moments. Every answer is followed by a datagram, so
 * W stay on their way; when nothing has come back for LOST_MS, all that were are taken for lost and sent again. Each
 * carries its socket's number, which has to come back on that socket. Called by bench/cases/udp.py; prints one JSON
 * object (no latencies), or a message on standard error and exit status 1.
 *
 * Usage: udp_load --port P  [--connections N] [--flight W] [--size BYTES] [--warmup-ms T] [--duration-ms T]
 *                 [--messages N] [--pid SERVER] [--core K]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROGRAM "udp_load"
#include "measure.h"

enum {
    EVENTS = 256,
    MOST_FLIGHT = 64,
    LARGEST = 65507,
    LOST_MS = 50,
    STALL_ROUNDS = 100, /* so often nothing at all comes back: the server hangs */
};

struct options {
    int port, sockets, flight, core;
    size_t size;
    uint64_t warmup_ns, duration_ns, messages;
    pid_t pid;
};

struct peer {
    int fd;
    int on_their_way;
    uint32_t number;
};

static struct mmsghdr headers[MOST_FLIGHT];
static struct iovec parts[MOST_FLIGHT];
static char *message, *incoming;

static struct options parse(int argc, char **argv)
{
    struct options options = {.sockets = 1, .flight = 1, .core = -1, .size = 64, .messages = UINT64_MAX};
    static const struct option names[] = {
        {"port", 1, 0, 'p'},      {"connections", 1, 0, 'c'}, {"flight", 1, 0, 'f'},   {"size", 1, 0, 's'},
        {"warmup-ms", 1, 0, 'w'}, {"duration-ms", 1, 0, 'd'}, {"messages", 1, 0, 'm'}, {"pid", 1, 0, 'i'},
        {"core", 1, 0, 'k'},      {0, 0, 0, 0},
    };
    int which;
    options.warmup_ns = 200 * 1000000ull;
    options.duration_ns = 1000 * 1000000ull;
    while ((which = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (which) {
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.sockets = atoi(optarg); break;
        case 'f': options.flight = atoi(optarg); break;
        case 's': options.size = (size_t)atol(optarg); break;
        case 'w': options.warmup_ns = strtoull(optarg, NULL, 10) * 1000000ull; break;
        case 'd': options.duration_ns = strtoull(optarg, NULL, 10) * 1000000ull; break;
        case 'm': options.messages = strtoull(optarg, NULL, 10); break;
        case 'i': options.pid = (pid_t)atoi(optarg); break;
        case 'k': options.core = atoi(optarg); break;
        default: exit(2);
        }
    }
    if (options.port == 0 || options.sockets < 1 || options.flight < 1 || options.flight > MOST_FLIGHT ||
        options.size < sizeof(uint32_t) || options.size > LARGEST) {
        fprintf(stderr, PROGRAM ": --port, and a size of 4 to 65507 bytes with a flight of 1 to 64, are needed\n");
        exit(2);
    }
    return options;
}

static int connect_once(const struct options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    return fd;
}

/* Send until as many are on their way as there should be. */
static void fill_up(const struct options *options, struct peer *peer)
{
    int wanted = options->flight - peer->on_their_way, sent;
    if (wanted <= 0)
        return;
    memcpy(message, &peer->number, sizeof peer->number);
    for (int i = 0; i < wanted; i++) {
        parts[i].iov_base = message;
        parts[i].iov_len = options->size;
    }
    sent = sendmmsg(peer->fd, headers, (unsigned)wanted, MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
        fail("sendmmsg");
    peer->on_their_way += sent > 0 ? sent : 0;
}

/* Receive what has come back; returns how many datagrams. */
static int take_in(const struct options *options, struct peer *peer)
{
    int got;
    for (int i = 0; i < options->flight; i++) {
        parts[i].iov_base = incoming + (size_t)i * options->size;
        parts[i].iov_len = options->size;
    }
    got = recvmmsg(peer->fd, headers, (unsigned)options->flight, MSG_DONTWAIT, NULL);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got < 0)
        fail("recvmmsg");
    for (int i = 0; i < got; i++) {
        if (headers[i].msg_len != options->size || memcmp(parts[i].iov_base, &peer->number, sizeof peer->number) != 0) {
            errno = 0;
            fail("the answer is not what was sent");
        }
    }
    peer->on_their_way -= got < peer->on_their_way ? got : peer->on_their_way;
    return got;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    struct epoll_event events[EVENTS];
    struct peer *peers = calloc((size_t)options.sockets, sizeof *peers);
    struct server_cpu before = {0, 0, 0}, after;
    uint64_t now, end, window_start = 0, own_start = 0, counted = 0;
    int epoll = epoll_create1(0), silent = 0;
    take_core(options.core);
    take_files();
    message = calloc(1, options.size);
    incoming = calloc((size_t)options.flight, options.size);
    if (epoll < 0 || peers == NULL || message == NULL || incoming == NULL)
        fail("malloc");
    for (int i = 0; i < MOST_FLIGHT; i++) {
        headers[i].msg_hdr.msg_iov = &parts[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < options.sockets; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        peers[i].fd = connect_once(&options);
        peers[i].number = (uint32_t)i;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event) != 0)
            fail("epoll_ctl");
        fill_up(&options, &peers[i]);
    }
    now = clock_ns(CLOCK_MONOTONIC);
    end = now + options.warmup_ns;
    for (;;) {
        if (window_start == 0 && now >= end) { /* warm: the window opens */
            before = server_cpu(options.pid);
            own_start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            window_start = now = clock_ns(CLOCK_MONOTONIC);
            end = window_start + options.duration_ns;
        } else if (window_start != 0 && (now >= end || counted >= options.messages)) {
            break;
        }
        int ready = epoll_wait(epoll, events, EVENTS, LOST_MS);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        silent = ready == 0 ? silent + 1 : 0;
        if (silent == STALL_ROUNDS) {
            errno = ETIMEDOUT;
            fail("waiting for answers");
        }
        for (int i = 0; ready == 0 && i < options.sockets; i++) { /* nothing moves: all that were on their way are lost */
            peers[i].on_their_way = 0;
            fill_up(&options, &peers[i]);
        }
        for (int i = 0; i < ready; i++) {
            int got = take_in(&options, events[i].data.ptr);
            counted += window_start != 0 ? (uint64_t)got : 0;
            fill_up(&options, events[i].data.ptr);
        }
        now = clock_ns(CLOCK_MONOTONIC);
    }
    after = server_cpu(options.pid);
    report(options.pid, counted, now - window_start, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_start, before, after);
    return 0;
}
