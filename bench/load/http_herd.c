/* The floor of the herd: the least that so many requests at once cost a client, without Python.
 *
 * Each request has a connection of its own: socket, connect, send; then, on one epoll, recv until the body is complete,
 * and close. With WORK it computes for so many microseconds between connect and send, as a client in another language
 * does: what the kernel takes then is more, as the server has fallen asleep in between and must be woken. Its one
 * invariant: an answer of another length than expected, or none for STALL_MS, ends the program with status 1. It ends
 * with its parent.
 * Called by bench/clients/floor.py; prints one JSON object with seconds of the clock and of the processor.
 *
 * Usage: http_herd PORT PATH REQUESTS LENGTH [WORK]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROGRAM "http_herd"
#include "measure.h"

enum { EVENTS = 256, BUFFER = 65536, HEAD = 512, STALL_MS = 10000 };

struct request {
    int fd;
    size_t got, expected; /* bytes; expected is 0 until the end of the head has come */
};

static char buffer[BUFFER];

static uint64_t work; /* ns */

static void compute(void)
{
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + work;
    while (work > 0 && clock_ns(CLOCK_MONOTONIC) < end)
        ;
}

static int begin(int epoll, struct request *request, const struct sockaddr_in *address, const char *text)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = request};
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        return -1;
    /* On loopback the handshake is over when connect() returns, whatever it says. */
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno != EINPROGRESS)
        return -1;
    request->fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return -1;
    compute();
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text) ? 0 : -1;
}

/* 1 when the answer is complete. */
static int go_on(struct request *request, size_t length)
{
    ssize_t n = recv(request->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    errno = n < 0 ? errno : 0;
    if (n <= 0)
        fail("recv");
    if (request->expected == 0) {
        const char *end = memmem(buffer, (size_t)n, "\r\n\r\n", 4);
        if (end == NULL || memcmp(buffer, "HTTP/1.1 200", 12) != 0)
            fail("the head of an answer");
        request->expected = (size_t)(end - buffer) + 4 + length;
    }
    request->got += (size_t)n;
    if (request->got > request->expected)
        fail("the length of an answer");
    return request->got == request->expected;
}

int main(int count, char **given)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[EVENTS];
    struct rlimit files;
    struct rusage usage;
    char text[HEAD];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (count != 5 && count != 6)
        fail("usage: http_herd PORT PATH REQUESTS LENGTH [WORK]");
    work = count == 6 ? strtoul(given[5], NULL, 10) * 1000 : 0;
    size_t requests = strtoul(given[3], NULL, 10), length = strtoul(given[4], NULL, 10), left = requests;
    struct request *all = calloc(requests, sizeof *all);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    address.sin_port = htons((uint16_t)atoi(given[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nAccept: */*\r\n\r\n", given[2], given[1]);
    if (all == NULL || epoll < 0)
        fail("start");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    uint64_t started = clock_ns(CLOCK_MONOTONIC);
    for (size_t i = 0; i < requests; i++)
        if (begin(epoll, &all[i], &address, text) != 0)
            fail("connect");
    while (left > 0) {
        int ready = epoll_wait(epoll, events, EVENTS, STALL_MS);
        if (ready == 0)
            fail("no answer for 10 s");
        for (int i = 0; i < ready; i++) {
            struct request *request = events[i].data.ptr;
            if (go_on(request, length)) {
                close(request->fd);
                left--;
            }
        }
    }
    uint64_t ended = clock_ns(CLOCK_MONOTONIC);
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"user\": %.6f, \"system\": %.6f}\n", requests,
           (double)(ended - started) / 1e9,
           (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
           (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
    return 0;
}
