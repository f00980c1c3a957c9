/* Bulk over one TCP connection on loopback: the client of the bulk benchmarks, and the C server they are compared with.
 *
 * Its one invariant: the client's time runs from its connect to the end of the stream that the server closes when it has
 * sent or received TOTAL bytes, and the processor time of the server is read at both ends. Called by
 * bench/cases/wire.py; the client prints one JSON object, or a message on standard error and exit status 1.
 *
 * Usage: bulk --port P --way receive|send --total BYTES [--pid SERVER] [--core K]     the way is the server's
 *        bulk --serve receive|send|sendfile --total BYTES [--file PATH]   prints its port, serves until it is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM "bulk"
#include "measure.h"

enum { CHUNK = 256 * 1024 };

static char chunk[CHUNK];

static uint64_t receive_all(int fd)
{
    uint64_t total = 0;
    for (;;) {
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("recv");
        if (n == 0)
            return total;
        total += (uint64_t)n;
    }
}

static void send_all(int fd, uint64_t total)
{
    while (total > 0) {
        ssize_t n = send(fd, chunk, total < CHUNK ? (size_t)total : CHUNK, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            fail("send");
        total -= n > 0 ? (uint64_t)n : 0;
    }
}

/* The file again and again, from its beginning. */
static void send_file(int fd, const char *path, uint64_t total)
{
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0 || status.st_size == 0)
        fail(path);
    while (total > 0) {
        off_t at = 0;
        while (at < status.st_size && total > 0) {
            ssize_t n = sendfile(fd, file, &at, (size_t)(status.st_size - at));
            if (n <= 0)
                fail("sendfile");
            total -= (uint64_t)n < total ? (uint64_t)n : total;
        }
    }
    close(file);
}

static void serve(const char *way, uint64_t total, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int fd, listener = socket(AF_INET, SOCK_STREAM, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        fail("listen");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        if (strcmp(way, "receive") == 0)
            receive_all(fd);
        else if (strcmp(way, "send") == 0)
            send_all(fd, total);
        else
            send_file(fd, path, total);
        close(fd);
    }
    fail("accept");
}

static void run_client(int port, const char *way, uint64_t total, pid_t pid)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct server_cpu before = server_cpu(pid), after;
    uint64_t start = clock_ns(CLOCK_MONOTONIC), moved = total, own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    double seconds;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    if (strcmp(way, "receive") == 0) {
        send_all(fd, total);
        shutdown(fd, SHUT_WR);
        receive_all(fd); /* nothing comes but the end */
    } else {
        moved = receive_all(fd);
    }
    seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
    after = server_cpu(pid);
    if (moved != total) {
        errno = 0;
        fail("the server has not sent what it was to send");
    }
    printf("{\"seconds\": %.6f, \"mib_per_second\": %.3f, \"cpu_ms\": %.4f, \"server_busy\": %.3f, \"load_busy\": %.3f}\n",
           seconds, (double)moved / seconds / (1 << 20),
           (double)(after.total_ns - before.total_ns) / 1e6 / ((double)moved / (1 << 30)),
           (double)(after.total_ns - before.total_ns) / 1e9 / seconds,
           (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own) / 1e9 / seconds);
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"way", 1, 0, 'w'},  {"total", 1, 0, 't'}, {"pid", 1, 0, 'i'},
        {"core", 1, 0, 'k'}, {"serve", 1, 0, 's'}, {"file", 1, 0, 'f'},  {0, 0, 0, 0},
    };
    const char *way = NULL, *served = NULL, *path = "";
    int which, port = 0, core = -1;
    uint64_t total = 0;
    pid_t pid = 0;
    while ((which = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (which) {
        case 'p': port = atoi(optarg); break;
        case 'w': way = optarg; break;
        case 't': total = strtoull(optarg, NULL, 10); break;
        case 'i': pid = (pid_t)atoi(optarg); break;
        case 'k': core = atoi(optarg); break;
        case 's': served = optarg; break;
        case 'f': path = optarg; break;
        default: exit(2);
        }
    }
    if (total == 0 || (served == NULL && (port == 0 || way == NULL))) {
        fprintf(stderr, PROGRAM ": --total, and --serve or --port and --way, are needed\n");
        exit(2);
    }
    take_core(core);
    if (served)
        serve(served, total, path);
    run_client(port, way, total, pid);
    return 0;
}
