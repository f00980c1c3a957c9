/* Makes system calls fail: loaded by LD_PRELOAD in front of libc, told what to do by faults_plan(), which a program under
 * test calls through ctypes. Compiled by tests/faults/kit.py.
 *
 * A plan is rules, separated by blanks: CALL:WHAT:ONE_IN[:AT_MOST]. WHAT is the number of an error, or "short" (move
 * fewer bytes than asked for). A rule strikes one call in ONE_IN, drawn with a fixed seed, and AT_MOST times in all.
 * Invariant: a call that is struck with an error has not moved a byte, accepted a connection, or changed a watch; and
 * only non-blocking sockets and pipes are struck, as nothing else can give these answers.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#define MOST_RULES 40
#define SHORT (-1)

struct rule {
    char call[16];
    int what;
    unsigned one_in;
    long at_most;
    long struck;
};

static struct rule rules[MOST_RULES];
static volatile int count;
static uint64_t state;

/* Take over a plan; the earlier one and its counts are forgotten. Returns the number of rules, or -1. */
int faults_plan(const char *plan, uint64_t seed) {
    char copy[2048], *rest = copy, *one;
    count = 0;
    int made = 0;
    state = (seed + 1) * 0x9E3779B97F4A7C15u; /* a small seed would begin with small draws */
    if (strlen(plan) >= sizeof copy) return -1;
    strcpy(copy, plan);
    while ((one = strtok_r(rest, " ", &rest)) != NULL) {
        char what[16] = "";
        struct rule *rule = &rules[made];
        memset(rule, 0, sizeof *rule);
        rule->at_most = -1;
        if (made == MOST_RULES || sscanf(one, "%15[^:]:%15[^:]:%u:%ld", rule->call, what, &rule->one_in, &rule->at_most) < 3)
            return -1;
        rule->what = strcmp(what, "short") == 0 ? SHORT : atoi(what);
        made++;
    }
    __sync_synchronize();
    count = made;
    return made;
}

/* How often the rule of that number has struck. */
long faults_struck(int number) { return rules[number].struck; }

static unsigned draw(unsigned below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % below;
}

/* What is to happen to this call: 0 nothing, SHORT, or an error. */
static int strike(const char *call) {
    for (int i = 0; i < count; i++) {
        struct rule *rule = &rules[i];
        if (strcmp(rule->call, call) != 0 || rule->at_most == 0 || draw(rule->one_in) != 0) continue;
        if (rule->at_most > 0) rule->at_most--;
        rule->struck++;
        return rule->what;
    }
    return 0;
}

static int can_fail(int fd) {
    struct stat status;
    if (count == 0 || fstat(fd, &status) != 0) return 0;
    if (!S_ISSOCK(status.st_mode) && !S_ISFIFO(status.st_mode)) return 0;
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

static int is_stream(int fd) {
    int type = SOCK_STREAM;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type == SOCK_STREAM; /* else no socket: a pipe */
}

/* The real function of this name, in the variable `real` of the type of `name`. */
#define REAL(name)                                             \
    static __typeof__(&name) real;                             \
    if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Fail, or cut `size`, as the plan says for `call` on `fd`. */
#define STRIKE(call, fd, size)                                             \
    do {                                                                   \
        int what_ = can_fail(fd) ? strike(call) : 0;                       \
        if (what_ > 0) return errno = what_, -1;                           \
        if (what_ == SHORT && (size) > 1 && is_stream(fd)) (size) = 1 + draw((unsigned)((size) > 4096 ? 4096 : (size) - 1)); \
    } while (0)

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    REAL(recv);
    STRIKE("recv", fd, size);
    return real(fd, buffer, size, flags);
}

ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address, socklen_t *length) {
    REAL(recvfrom);
    STRIKE("recvfrom", fd, size);
    return real(fd, buffer, size, flags, address, length);
}

ssize_t read(int fd, void *buffer, size_t size) {
    REAL(read);
    STRIKE("read", fd, size);
    return real(fd, buffer, size);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    REAL(send);
    STRIKE("send", fd, size);
    return real(fd, data, size, flags);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    REAL(sendto);
    STRIKE("sendto", fd, size);
    return real(fd, data, size, flags, address, length);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    STRIKE("write", fd, size);
    return real(fd, data, size);
}

/* A short write of several parts ends in the middle of one of them. */
static int cut(struct iovec *parts, int many, const struct iovec *from, size_t most) {
    int i;
    for (i = 0; i < many && most > 0; i++) {
        parts[i] = from[i];
        if (parts[i].iov_len > most) parts[i].iov_len = most;
        most -= parts[i].iov_len;
    }
    return i;
}

static size_t total(const struct iovec *parts, size_t many) {
    size_t size = 0;
    for (size_t i = 0; i < many; i++) size += parts[i].iov_len;
    return size;
}

ssize_t writev(int fd, const struct iovec *parts, int many) {
    REAL(writev);
    struct iovec less[1024];
    size_t size = total(parts, many), before = size;
    STRIKE("writev", fd, size);
    if (size == before || many > 1024) return real(fd, parts, many);
    return real(fd, less, cut(less, many, parts, size));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    struct iovec less[1024];
    struct msghdr shorter = *message;
    size_t size = total(message->msg_iov, message->msg_iovlen), before = size;
    STRIKE("sendmsg", fd, size);
    if (size == before || message->msg_iovlen > 1024) return real(fd, message, flags);
    shorter.msg_iov = less;
    shorter.msg_iovlen = cut(less, (int)message->msg_iovlen, message->msg_iov, size);
    return real(fd, &shorter, flags);
}

/* A batch that is struck ends before the datagram that is: how many went before is told, the error only where none did
 * (sendmmsg(2), under BUGS). */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned many, int flags) {
    REAL(sendmmsg);
    int what = can_fail(fd) ? strike("sendmmsg") : 0;
    if (what > 0) {
        unsigned before = draw(many);
        if (before == 0) return errno = what, -1;
        many = before;
    }
    return real(fd, messages, many, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned many, int flags, struct timespec *limit) {
    REAL(recvmmsg);
    size_t none = 0;
    STRIKE("recvmmsg", fd, none);
    return real(fd, messages, many, flags, limit);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    REAL(accept4);
    size_t none = 0;
    STRIKE("accept4", fd, none);
    return real(fd, address, length, flags);
}

/* Interrupted, a connection goes on being made (connect(2)); with any other error there is none. */
int connect(int fd, const struct sockaddr *address, socklen_t length) {
    REAL(connect);
    int what = can_fail(fd) ? strike("connect") : 0;
    if (what > 0 && what != EINTR) return errno = what, -1;
    int done = real(fd, address, length);
    if (what == EINTR && (done == 0 || errno == EINPROGRESS)) return errno = EINTR, -1;
    return done;
}

int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout) {
    REAL(epoll_wait);
    int what = strike("epoll_wait");
    if (what > 0) return errno = what, -1;
    return real(epfd, events, most, timeout);
}

/* Only ADD: the kernel needs memory for nothing else. */
int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
    REAL(epoll_ctl);
    int what = op == EPOLL_CTL_ADD ? strike("epoll_ctl") : 0;
    if (what > 0) return errno = what, -1;
    return real(epfd, op, fd, event);
}

/* weft asks for epoll_pwait2 by number. */
long syscall(long number, ...) {
    REAL(syscall);
    va_list rest;
    long a[6];
    va_start(rest, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
    va_end(rest);
    int what = number == SYS_epoll_pwait2 ? strike("epoll_wait") : 0;
    if (what == 0 && number == SYS_epoll_pwait2) what = strike("epoll_pwait2");
    if (what > 0) return errno = what, -1;
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
