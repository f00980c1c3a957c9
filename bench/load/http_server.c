/* The server of the HTTP benchmarks: HTTP/1.1 with keep-alive on one thread with epoll, as little work as possible.
 *
 *   GET /            200, 1 KiB of text           GET /bytes/N     200, N bytes, made as they are sent
 *   GET /delay/MS    as /, after MS milliseconds  POST (any path)  200, {"received": LENGTH}, the body is counted
 *
 * Its one invariant: a connection answers one request after another, in the order in which they came, and reads
 * nothing while it has an answer to wait for or to send; so requests may be pipelined and cut anywhere, and what a
 * connection holds is bounded by BUFFER. A request that it does not understand is answered with 400 (501 for another
 * method or a transfer coding) and ends the connection.
 * Called by bench/cases/http.py; prints the port as JSON when it listens, ends by a signal or with its parent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 1024,
    BUFFER = 8192,       /* the longest request head, as nginx's large_client_header_buffers */
    HEAD = 512,          /* the longest answer that is made for one request */
    PAGE = 1024,
    BLOCK = 1024 * 1024, /* what one sendfile of a large body offers the kernel */
};

enum state { READING, DELAYED, SENDING };

struct connection {
    int fd;
    enum state state;
    int last;                     /* close after this answer */
    int watched_for;              /* the epoll events that are asked for */
    uint64_t serial;              /* tells a connection from a later one in the same place */
    size_t in_start, in_end;      /* what has been read and not taken */
    uint64_t body_left;           /* of a POST: what has not come yet */
    uint64_t body_length;
    int in_body;
    const char *out;              /* what is left of the answer: a piece, then `stream` bytes of filling */
    size_t out_left;
    uint64_t stream;
    char head[HEAD];
    char in[BUFFER];
};

struct timer {
    uint64_t due_ns, serial;
    int fd;
};

struct request {
    uint64_t number;              /* of /bytes/N and /delay/MS */
    uint64_t length;              /* Content-Length */
    int is_post, wants_bytes, wants_delay, last;
    int refused;                  /* the status to refuse with */
};

static struct connection **connections;
static int connections_room;
static struct timer *timers;
static size_t timer_count, timer_room;
static int epoll;
static uint64_t serials;
static char page[HEAD + PAGE];
static int filling; /* a file of BLOCK bytes in memory: sent without a copy, so that the client is what limits */
static size_t page_length;

static const char HEADERS[] = "Server: weft-bench\r\n"
                              "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                              "Cache-Control: max-age=60\r\n"
                              "Connection: keep-alive\r\n";

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *grown(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (memory == NULL)
        fail("realloc");
    return memory;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -- timers: a binary heap of what is delayed */

static void timer_add(uint64_t due_ns, const struct connection *connection)
{
    size_t at = timer_count++;
    if (timer_count > timer_room) {
        timer_room = timer_room ? 2 * timer_room : 1024;
        timers = grown(timers, timer_room * sizeof *timers);
    }
    for (; at > 0 && timers[(at - 1) / 2].due_ns > due_ns; at = (at - 1) / 2)
        timers[at] = timers[(at - 1) / 2];
    timers[at] = (struct timer){due_ns, connection->serial, connection->fd};
}

static struct timer timer_pop(void)
{
    struct timer first = timers[0], last = timers[--timer_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < timer_count) {
        if (child + 1 < timer_count && timers[child + 1].due_ns < timers[child].due_ns)
            child++;
        if (timers[child].due_ns >= last.due_ns)
            break;
        timers[at] = timers[child];
        at = child;
    }
    timers[at] = last;
    return first;
}

static int wait_ms(void)
{
    uint64_t now;
    if (timer_count == 0)
        return -1;
    now = now_ns();
    return timers[0].due_ns <= now ? 0 : (int)((timers[0].due_ns - now + 999999) / 1000000);
}

/* -- requests */

static int starts(const char *text, const char *word)
{
    return strncasecmp(text, word, strlen(word)) == 0;
}

static uint64_t digits(const char *text, int *refused)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *text == '-' || errno || (*end != '\r' && *end != ' '))
        *refused = 400;
    return value;
}

/* What a head asks for; it is complete, so each line ends with CRLF and the last is empty. */
static struct request parse(const char *head, size_t length)
{
    struct request request = {.is_post = starts(head, "POST ")};
    const char *path = strchr(head, ' ');
    if (memchr(head, 0, length))
        return (struct request){.refused = 400}; /* what follows takes the head for one string */
    if (!request.is_post && !starts(head, "GET "))
        request.refused = 501;
    else if (path[1] != '/' || strstr(path + 1, " HTTP/1.") == NULL)
        request.refused = 400;
    else if ((request.wants_bytes = starts(path, " /bytes/")) || (request.wants_delay = starts(path, " /delay/")))
        request.number = digits(path + 8, &request.refused);
    for (const char *line = strstr(head, "\r\n") + 2; *line != '\r'; line = strstr(line, "\r\n") + 2) {
        if (starts(line, "Content-Length:"))
            request.length = digits(line + 15 + strspn(line + 15, " \t"), &request.refused);
        else if (starts(line, "Transfer-Encoding:"))
            request.refused = 501;
        else if (starts(line, "Connection:"))
            request.last = starts(line + 11 + strspn(line + 11, " \t"), "close");
    }
    return request;
}

/* -- answers */

static void answer_with(struct connection *connection, const char *status, uint64_t length, const char *body)
{
    int written = snprintf(connection->head, HEAD, "HTTP/1.1 %s\r\n%sContent-Length: %llu\r\n\r\n%s", status, HEADERS,
                           (unsigned long long)length, body);
    connection->out = connection->head;
    connection->out_left = (size_t)written;
    connection->state = SENDING;
}

static void answer_page(struct connection *connection)
{
    connection->out = page;
    connection->out_left = page_length;
    connection->state = SENDING;
}

static void answer_post(struct connection *connection)
{
    char body[64];
    int length = snprintf(body, sizeof body, "{\"received\": %llu}", (unsigned long long)connection->body_length);
    connection->in_body = 0;
    answer_with(connection, "200 OK\r\nContent-Type: application/json", (uint64_t)length, body);
}

static void answer(struct connection *connection, const struct request *request)
{
    connection->last = request->last || request->refused;
    if (request->refused) {
        answer_with(connection, request->refused == 400 ? "400 Bad Request" : "501 Not Implemented", 0, "");
    } else if (request->is_post || request->length) { /* the body of a GET is taken and thrown away alike */
        connection->body_left = connection->body_length = request->length;
        connection->in_body = 1;
    } else if (request->wants_bytes) {
        answer_with(connection, "200 OK\r\nContent-Type: application/octet-stream", request->number, "");
        connection->stream = request->number;
    } else if (request->wants_delay) {
        connection->state = DELAYED;
        timer_add(now_ns() + request->number * 1000000u, connection);
    } else {
        answer_page(connection);
    }
}

/* Take the next request, or the next piece of a body, from what has been read; false when more must come. */
static int take(struct connection *connection)
{
    size_t available = connection->in_end - connection->in_start;
    char *start = connection->in + connection->in_start, *end;
    if (connection->in_body) {
        size_t taken = available < connection->body_left ? available : (size_t)connection->body_left;
        connection->in_start += taken;
        connection->body_left -= taken;
        if (connection->body_left > 0)
            return 0;
        answer_post(connection);
        return 1;
    }
    if (available == 0 || (end = memmem(start, available, "\r\n\r\n", 4)) == NULL)
        return 0;
    connection->in_start += (size_t)(end + 4 - start);
    end[3] = 0; /* the head is a string now, whose last line is an empty one */
    struct request request = parse(start, (size_t)(end + 3 - start));
    answer(connection, &request);
    return 1;
}

/* -- connections */

static void watch(struct connection *connection, int events)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.fd = connection->fd};
    if (connection->watched_for == events)
        return;
    connection->watched_for = events;
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event) != 0)
        fail("epoll_ctl");
}

static void drop(struct connection *connection)
{
    connections[connection->fd] = NULL;
    close(connection->fd);
    free(connection);
}

/* Send what there is; 1 when all is sent, 0 when the socket is full, -1 when the peer is gone. */
static int send_answer(struct connection *connection)
{
    while (connection->out_left > 0 || connection->stream > 0) {
        ssize_t n;
        if (connection->out_left > 0) {
            n = send(connection->fd, connection->out, connection->out_left, MSG_NOSIGNAL);
        } else {
            off_t from = 0;
            n = sendfile(connection->fd, filling, &from, connection->stream < BLOCK ? connection->stream : BLOCK);
        }
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        if (connection->out_left > 0) {
            connection->out += n;
            connection->out_left -= (size_t)n;
        } else {
            connection->stream -= (uint64_t)n;
        }
    }
    connection->state = READING;
    return 1;
}

/* Answer all that can be answered now, and ask for the event that the connection waits for then. */
static void advance(struct connection *connection)
{
    static const int wanted[] = {[READING] = EPOLLIN, [DELAYED] = 0, [SENDING] = EPOLLOUT};
    do {
        int sent = connection->state == SENDING ? send_answer(connection) : 0;
        if (sent < 0 || (sent > 0 && connection->last)) {
            drop(connection);
            return;
        }
    } while (connection->state == READING && take(connection));
    connection->in_end -= connection->in_start;
    memmove(connection->in, connection->in + connection->in_start, connection->in_end);
    connection->in_start = 0;
    watch(connection, wanted[connection->state]);
}

static void readable(struct connection *connection)
{
    size_t room = BUFFER - 1 - connection->in_end;
    ssize_t n = recv(connection->fd, connection->in + connection->in_end, room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* the end, an error, or (room is 0) a head that does not fit */
        drop(connection);
        return;
    }
    connection->in_end += (size_t)n;
    advance(connection);
}

static void accept_all(int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        struct connection *connection = grown(NULL, sizeof *connection);
        memset(connection, 0, offsetof(struct connection, in)); /* 10,000 connections touch what they use */
        if (fd >= connections_room) {
            connections_room = 2 * fd + 1024;
            connections = grown(connections, (size_t)connections_room * sizeof *connections);
        }
        connection->fd = fd;
        connection->serial = ++serials;
        connection->watched_for = EPOLLIN;
        connections[fd] = connection;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            fail("epoll_ctl");
    }
}

static void fire_timers(void)
{
    uint64_t now = now_ns();
    while (timer_count > 0 && timers[0].due_ns <= now) {
        struct timer timer = timer_pop();
        struct connection *connection = connections[timer.fd];
        if (connection != NULL && connection->serial == timer.serial) {
            answer_page(connection);
            advance(connection);
        }
    }
}

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 65535) != 0)
        fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        fail("getsockname");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void fill(void)
{
    char *block = grown(NULL, BLOCK);
    memset(block, 'x', BLOCK);
    filling = memfd_create("filling", MFD_CLOEXEC);
    if (filling < 0 || write(filling, block, BLOCK) != BLOCK)
        fail("memfd_create");
    free(block);
}

static void settle_in(void)
{
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN); /* sendfile(2) has no MSG_NOSIGNAL */
    fill();
    page_length = (size_t)snprintf(page, HEAD, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\n\r\n",
                                   HEADERS, PAGE);
    for (size_t i = 0; i < PAGE; i++)
        page[page_length++] = (char)('!' + i % 89);
}

int main(void)
{
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    int listener;
    settle_in();
    epoll = epoll_create1(0);
    event.data.fd = listener = listen_on_loopback();
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        fail("epoll");
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, wait_ms());
        for (int i = 0; i < ready; i++) {
            struct connection *connection;
            if (events[i].data.fd == listener) {
                accept_all(listener);
                continue;
            }
            connection = connections[events[i].data.fd];
            if (events[i].events & (EPOLLERR | EPOLLHUP))
                drop(connection);
            else if (connection->state == SENDING)
                advance(connection);
            else
                readable(connection);
        }
        fire_timers();
    }
}
