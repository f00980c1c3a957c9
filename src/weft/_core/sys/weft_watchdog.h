/* The watchdog: one native thread per process that looks at the loops which run. Included by watchdog.py alone.
 *
 * Invariants. The watchdog's own thread never touches Python and never waits for the GIL: what needs it (the frames of
 * a thread that stalls) is done by a thread made for that stall. `lock` is held for moments, by threads with the GIL
 * and without; nobody who holds it waits for the GIL. Both kinds of threads are gone before a fork and before the
 * interpreter ends, or have been waited for.
 */
#ifndef WEFT_WATCHDOG_H
#define WEFT_WATCHDOG_H

#include "weft_watch.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WEFT_MS 1000000LL
#define WEFT_SHORTEST_TICK (2 * WEFT_MS)
#define WEFT_LONGEST_TICK (500 * WEFT_MS)
#define WEFT_QUIET_TICKS 2             /* how often all loops are seen idle before the watchdog parks */
#define WEFT_FIRST_WORD (5000 * WEFT_MS) /* a stall that lasts is reported after this, then after twice as long, ... */
#define WEFT_PATIENCE (1000 * WEFT_MS) /* how long a fork, or the end of the interpreter, waits for captures */
#define WEFT_STACK (512 * 1024)

enum { WEFT_NEW, WEFT_SUSPECT, WEFT_FOUND };

static struct weft_dog_state {
    pthread_mutex_t lock;
    weft_watched *first;
    weft_bell bell;
    int is_running, is_stopping, is_over;
    pthread_t thread;
    int64_t tick, planned;
    int tid;
    int64_t delay; /* for how long the watchdog itself has waited for a processor */
    uint64_t serial;
    int captures;
    int64_t first_word;
    /* The collector: written under the GIL. */
    int64_t gc_started, gc_total;
    /* Counters, for people. */
    uint64_t looks, parks, found, unseen;
} weft_dog = {.lock = PTHREAD_MUTEX_INITIALIZER, .first_word = WEFT_FIRST_WORD};

/* Takes the GIL, and stores what it finds by weft_dog_deliver(); defined in watchdog.py. */
static void (*weft_dog_capture_hook)(void);

static inline void weft_dog_set_capture(void (*hook)(void)) { weft_dog_capture_hook = hook; }

/* CPython's own, for faulthandler: the stack of a thread, without the GIL. Weak: where it is not there, it is not used. */
extern void _Py_DumpTraceback(int fd, PyThreadState *tstate) __attribute__((weak));

/* -- what the kernel knows ---------------------------------------------------------------------------------------- */

static void weft_read_task(int tid, const char *name, char *out, size_t size) {
    char path[64];
    out[0] = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t n = read(fd, out, size - 1);
    close(fd);
    if (n < 0) n = 0;
    while (n > 0 && out[n - 1] == '\n') n--;
    out[n] = 0;
}

/* 'R' runs or would like to, 'S' sleeps, 'D' waits for a disk, 'T' and 't' are stopped; 0 where nobody says. */
static char weft_thread_state(int tid) {
    char text[512];
    weft_read_task(tid, "stat", text, sizeof text);
    char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

/* For how long the thread was ready and had no processor; -1 where the kernel does not count that. */
static int64_t weft_thread_delay(int tid) {
    char text[128];
    long long ran, waited;
    weft_read_task(tid, "schedstat", text, sizeof text);
    return sscanf(text, "%lld %lld", &ran, &waited) == 2 ? waited : -1;
}

static int64_t weft_thread_cpu(pthread_t thread) {
    clockid_t clock;
    struct timespec ts;
    if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &ts) != 0) return 0;
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t weft_thread_cpu_here(void) { return weft_thread_cpu(pthread_self()); }

static int weft_here_tid(void) { return (int)syscall(SYS_gettid); }

/* CPython's state, in which the GIL's condition variable lies; its size stands in the symbol table. */
extern char _PyRuntime[] __attribute__((weak));

/* Whether a thread that sleeps on the futex at `address` waits for the GIL, and not for a lock of the program. */
static int weft_is_gil(uint64_t address) {
    static uint64_t size = 0;
    uint64_t start = (uint64_t)(uintptr_t)_PyRuntime;
    if (start == 0) return 0;
    if (size == 0) {
        Dl_info info;
        ElfW(Sym) *symbol = NULL;
        size = 1;
        if (dladdr1(_PyRuntime, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol != NULL) size = symbol->st_size;
    }
    return address >= start && address - start < size;
}

static void weft_ask_kernel(int tid, weft_stall *stall) {
    weft_read_task(tid, "syscall", stall->call, sizeof stall->call);
    weft_read_task(tid, "wchan", stall->channel, sizeof stall->channel);
    stall->target[0] = 0;
    long number;
    unsigned long long first;
    if (sscanf(stall->call, "%ld %llx", &number, &first) != 2) return;
    if (number == SYS_futex && weft_is_gil(first)) strcpy(stall->channel, "the GIL");
    if (first < INT_MAX) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", (int)first);
        ssize_t n = readlink(path, stall->target, sizeof stall->target - 1);
        stall->target[n > 0 ? n : 0] = 0;
    }
}

/* The name of a system call in which threads stand; NULL for others. */
static const char *weft_call_name(long number) {
    static const struct { long number; const char *name; } names[] = {
        {SYS_read, "read"}, {SYS_write, "write"}, {SYS_readv, "readv"}, {SYS_writev, "writev"},
        {SYS_pread64, "pread"}, {SYS_pwrite64, "pwrite"}, {SYS_fsync, "fsync"}, {SYS_fdatasync, "fdatasync"},
        {SYS_openat, "openat"}, {SYS_flock, "flock"}, {SYS_fcntl, "fcntl"}, {SYS_sendfile, "sendfile"},
        {SYS_ppoll, "ppoll"}, {SYS_pselect6, "pselect6"}, {SYS_epoll_pwait, "epoll_wait"},
        {SYS_futex, "futex"}, {SYS_clock_nanosleep, "clock_nanosleep"}, {SYS_nanosleep, "nanosleep"},
        {SYS_wait4, "wait4"}, {SYS_waitid, "waitid"}, {SYS_rt_sigtimedwait, "sigtimedwait"},
        {SYS_rt_sigsuspend, "sigsuspend"}, {SYS_connect, "connect"}, {SYS_accept, "accept"},
        {SYS_accept4, "accept4"}, {SYS_recvfrom, "recvfrom"}, {SYS_recvmsg, "recvmsg"}, {SYS_sendto, "sendto"},
        {SYS_sendmsg, "sendmsg"}, {SYS_recvmmsg, "recvmmsg"}, {SYS_semtimedop, "semtimedop"}, {SYS_semop, "semop"},
        {SYS_msgrcv, "msgrcv"}, {SYS_msync, "msync"}, {SYS_madvise, "madvise"}, {SYS_munmap, "munmap"},
        {SYS_ioctl, "ioctl"}, {SYS_newfstatat, "newfstatat"}, {SYS_getdents64, "getdents64"},
        {SYS_unlinkat, "unlinkat"}, {SYS_ftruncate, "ftruncate"}, {SYS_sync, "sync"}, {SYS_syncfs, "syncfs"},
#ifdef SYS_epoll_pwait2
        {SYS_epoll_pwait2, "epoll_wait"},
#endif
#ifdef SYS_poll
        {SYS_poll, "poll"}, {SYS_select, "select"}, {SYS_epoll_wait, "epoll_wait"}, {SYS_open, "open"},
        {SYS_pause, "pause"}, {SYS_stat, "stat"}, {SYS_unlink, "unlink"},
#endif
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].number == number) return names[i].name;
    }
    return NULL;
}

/* -- threads ------------------------------------------------------------------------------------------------------- */

/* A thread without signals: those are for the threads that know what to do with them. 0, or an errno. */
static int weft_spawn(pthread_t *thread, void *(*body)(void *), int is_detached) {
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WEFT_STACK);
    if (is_detached) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, &attributes, body, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

static void *weft_dog_capture(void *Py_UNUSED(nothing)) {
    pthread_setname_np(pthread_self(), "weft-capture");
    weft_dog_capture_hook();
    pthread_mutex_lock(&weft_dog.lock);
    weft_dog.captures--;
    pthread_mutex_unlock(&weft_dog.lock);
    return NULL;
}

/* Under the lock. One is enough: it looks at every loop once it has the GIL. */
static void weft_dog_start_capture(void) {
    pthread_t thread;
    if (weft_dog.captures > 0) return;
    weft_dog.captures++;
    if (weft_spawn(&thread, weft_dog_capture, 1) != 0) weft_dog.captures--;
}

/* -- looking ------------------------------------------------------------------------------------------------------- */

/* When Python cannot run, since C code keeps the GIL: the one report that is made without it. */
static void weft_dog_cry(weft_watched *watched, int64_t now) {
    struct pollfd out = {.fd = 2, .events = POLLOUT};
    char text[320];
    if (poll(&out, 1, 0) <= 0) return;
    int size = snprintf(text, sizeof text,
        "weft.watch: the loop in thread %d has been blocked for %.1f s so far, and C code keeps the GIL, so that no "
        "Python can run (kernel: %.40s):\n", watched->tid, (now - watched->stall.started) / 1e9, watched->stall.channel);
    if (write(2, text, (size_t)size) < 0) return;
    /* The thread has not given the GIL up for seconds, so it stands in one call, or waits for it: its frames stand still. */
    if (_Py_DumpTraceback) _Py_DumpTraceback(2, watched->thread);
}

static void weft_dog_notice(weft_watched *watched, int64_t now) {
    weft_stall *stall = &watched->stall;
    watched->phase = WEFT_FOUND;
    if (__atomic_load_n(&watched->wanted, __ATOMIC_RELAXED)) return; /* the loop has not told of the one before yet */
    *stall = watched->suspect;
    stall->epoch = watched->seen_epoch;
    stall->noticed = now;
    stall->started = watched->turn_started;
    if (stall->started < watched->seen_before || stall->started > watched->seen_first) {
        stall->started = watched->seen_first; /* a long turn, or another clock */
    }
    if (stall->delay >= 0) {
        int64_t unseen = stall->measured - stall->started;
        stall->delay -= stall->gil_wait < unseen ? stall->gil_wait : unseen;
    }
    stall->gil_wait = -1;
    weft_ask_kernel(watched->tid, stall);
    watched->next_word = stall->started + weft_dog.first_word;
    watched->wants_word = 0;
    weft_dog.found++;
    __atomic_store_n(&watched->wanted, 1, __ATOMIC_RELEASE);
    weft_dog_start_capture();
}

/* Another callback runs than at the last look: what is counted from here on is its own. */
static void weft_dog_suspect(weft_watched *watched, int64_t now) {
    weft_stall *suspect = &watched->suspect;
    memset(suspect, 0, sizeof *suspect);
    suspect->cpu = weft_thread_cpu(watched->pthread);
    suspect->measured = now;
    suspect->collected = weft_dog.gc_total;
    suspect->delay = weft_thread_delay(watched->tid);
    /* What it waited since the look before, part of which may be this callback's: weft_dog_notice() sees to it. */
    suspect->gil_wait = watched->delay >= 0 && suspect->delay > watched->delay ? suspect->delay - watched->delay : 0;
    watched->delay = suspect->delay;
}

/* Under the lock. `late`: by how much the watchdog itself came late, since the process did not run. */
static int weft_dog_look(weft_watched *watched, int64_t now, int64_t late, int64_t tick) {
    uint64_t epoch = __atomic_load_n(&watched->epoch, __ATOMIC_RELAXED);
    int idle = __atomic_load_n(&watched->idle, __ATOMIC_RELAXED);
    if (idle || epoch != watched->seen_epoch) {
        watched->seen_epoch = epoch;
        watched->seen_before = watched->looked;
        watched->seen_first = watched->looked = now;
        watched->stolen = 0;
        watched->phase = WEFT_NEW;
        if (!idle) weft_dog_suspect(watched, now);
        return !idle;
    }
    watched->looked = now;
    watched->stolen += late;
    if (watched->phase == WEFT_NEW) watched->phase = WEFT_SUSPECT;
    weft_stall *stall = watched->phase == WEFT_FOUND ? &watched->stall : &watched->suspect;
    stall->samples++;
    stall->running += weft_thread_state(watched->tid) == 'R';
    stall->stolen = watched->stolen;
    if (watched->phase == WEFT_SUSPECT) {
        if (now - watched->seen_first - watched->stolen >= watched->threshold - tick / 4) weft_dog_notice(watched, now);
    } else if (now >= watched->next_word && watched->stall.epoch == epoch) {
        weft_ask_kernel(watched->tid, &watched->stall);
        watched->next_word = now + (now - watched->stall.started);
        watched->wants_word = 1;
        if (weft_dog.captures > 0) weft_dog_cry(watched, now); /* the one that was asked before has no GIL yet */
        else weft_dog_start_capture();
    }
    return 1;
}

static int64_t weft_dog_tick(void) {
    int64_t tick = WEFT_LONGEST_TICK;
    for (weft_watched *watched = weft_dog.first; watched != NULL; watched = watched->next) {
        if (watched->threshold / 2 < tick) tick = watched->threshold / 2;
    }
    return tick > WEFT_SHORTEST_TICK ? tick : WEFT_SHORTEST_TICK;
}

/* By how much the watchdog is late because the process did not run: it was stopped, or the machine was. What the watchdog
 * waited for a processor is its own affair, and no excuse for a loop that slept meanwhile. */
static int64_t weft_dog_lateness(int64_t now) {
    int64_t late = weft_dog.planned != 0 ? now - weft_dog.planned : 0;
    if (late < weft_dog.tick / 2) return 0;
    int64_t delay = weft_thread_delay(weft_dog.tid);
    if (delay > weft_dog.delay && weft_dog.delay >= 0) late -= delay - weft_dog.delay;
    return late < weft_dog.tick / 2 ? 0 : late;
}

/* Under the lock: look at all loops; whether one of them is busy. */
static int weft_dog_look_at_all(void) {
    int busy = 0;
    int64_t now = weft_monotonic_ns();
    int64_t late = weft_dog_lateness(now);
    weft_dog.delay = weft_thread_delay(weft_dog.tid);
    weft_dog.tick = weft_dog_tick();
    for (weft_watched *watched = weft_dog.first; watched != NULL; watched = watched->next) {
        busy |= weft_dog_look(watched, now, late, weft_dog.tick);
    }
    weft_dog.planned = now + weft_dog.tick;
    weft_dog.looks++;
    return busy;
}

static int weft_dog_all_idle(void) {
    for (weft_watched *watched = weft_dog.first; watched != NULL; watched = watched->next) {
        if (!__atomic_load_n(&watched->idle, __ATOMIC_RELAXED)) return 0;
    }
    return 1;
}

static void weft_dog_sleep(uint32_t rings, int64_t ns) {
    struct timespec ts = {ns / 1000000000, ns % 1000000000};
    syscall(SYS_futex, &weft_dog.bell.rings, FUTEX_WAIT_PRIVATE, rings, ns < 0 ? NULL : &ts, NULL, 0);
}

static void weft_dog_park(uint32_t rings) {
    __atomic_store_n(&weft_dog.bell.parked, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    pthread_mutex_lock(&weft_dog.lock);
    int idle = weft_dog_all_idle();
    weft_dog.parks += idle;
    weft_dog.planned = 0;
    pthread_mutex_unlock(&weft_dog.lock);
    if (idle) weft_dog_sleep(rings, -1);
    __atomic_store_n(&weft_dog.bell.parked, 0, __ATOMIC_SEQ_CST);
}

static void *weft_dog_body(void *Py_UNUSED(nothing)) {
    int quiet = 0;
    weft_dog.tid = weft_here_tid();
    pthread_setname_np(pthread_self(), "weft-watch");
    for (;;) {
        uint32_t rings = __atomic_load_n(&weft_dog.bell.rings, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&weft_dog.lock);
        int stop = weft_dog.is_stopping;
        int busy = stop ? 0 : weft_dog_look_at_all();
        int64_t tick = weft_dog.tick;
        pthread_mutex_unlock(&weft_dog.lock);
        if (stop) return NULL;
        quiet = busy ? 0 : quiet + 1;
        if (quiet >= WEFT_QUIET_TICKS) {
            weft_dog_park(rings);
            quiet = 0;
        } else {
            weft_dog_sleep(rings, tick);
        }
    }
}

/* -- from the threads of loops ------------------------------------------------------------------------------------- */

/* Under the lock. */
static void weft_dog_start(void) {
    if (weft_dog.is_running || weft_dog.is_over || weft_dog.first == NULL) return;
    weft_dog.planned = 0;
    weft_dog.is_stopping = 0;
    weft_dog.is_running = weft_spawn(&weft_dog.thread, weft_dog_body, 0) == 0;
}

/* A loop begins to run in this thread. */
static void weft_dog_enter(weft_watched *watched, PyObject *loop) {
    if (watched->threshold <= 0 || watched->is_known) return;
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) return; /* PyGILState knows the main one only */
    pthread_mutex_lock(&weft_dog.lock);
    watched->tid = (int)syscall(SYS_gettid);
    watched->pthread = pthread_self();
    watched->thread = PyThreadState_Get();
    watched->loop = loop;
    watched->serial = ++weft_dog.serial;
    watched->is_known = 1;
    watched->bell = &weft_dog.bell;
    watched->idle = watched->wanted = watched->phase = watched->wants_word = 0;
    watched->seen_epoch = ++watched->epoch;
    watched->seen_first = watched->seen_before = watched->looked = watched->turn_started = weft_monotonic_ns();
    watched->stolen = 0;
    watched->delay = -1; /* to ask costs as much as all of this: the watchdog does, at its first look */
    memset(&watched->suspect, 0, sizeof watched->suspect);
    watched->suspect.cpu = weft_thread_cpu(watched->pthread);
    watched->suspect.measured = watched->looked;
    watched->suspect.collected = weft_dog.gc_total;
    watched->suspect.delay = -1;
    watched->previous = NULL;
    watched->next = weft_dog.first;
    if (weft_dog.first != NULL) weft_dog.first->previous = watched;
    weft_dog.first = watched;
    weft_dog_start();
    int is_impatient = weft_dog.is_running && watched->threshold / 2 < weft_dog.tick;
    pthread_mutex_unlock(&weft_dog.lock);
    if (is_impatient || __atomic_exchange_n(&weft_dog.bell.parked, 0, __ATOMIC_SEQ_CST)) weft_bell_ring(&weft_dog.bell);
}

/* It does not run any more. The capture that nobody has asked for is dropped. */
static void weft_dog_leave(weft_watched *watched) {
    if (!watched->is_known) return;
    pthread_mutex_lock(&weft_dog.lock);
    if (watched->previous != NULL) watched->previous->next = watched->next;
    else weft_dog.first = watched->next;
    if (watched->next != NULL) watched->next->previous = watched->previous;
    PyObject *capture = watched->capture;
    watched->is_known = watched->wanted = 0;
    watched->bell = NULL;
    watched->capture = NULL;
    pthread_mutex_unlock(&weft_dog.lock);
    Py_XDECREF(capture);
}

/* For a capture, which holds the GIL: a loop that wants one (`*watched`, with a copy of what it says), or 0. */
static int weft_dog_next_wish(weft_watched **watched, weft_watched *copy) {
    int found = 0;
    pthread_mutex_lock(&weft_dog.lock);
    for (weft_watched *one = weft_dog.first; one != NULL && !found; one = one->next) {
        if (one->wanted && (one->capture == NULL || one->wants_word)) {
            *watched = one;
            *copy = *one;
            one->wants_word = 0;
            found = 1;
        }
    }
    pthread_mutex_unlock(&weft_dog.lock);
    return found;
}

/* Hand a capture over; the reference to it goes along. 0 when the loop has gone meanwhile, and the reference is left. */
static int weft_dog_deliver(weft_watched *watched, uint64_t serial, uint64_t epoch, PyObject *capture, int64_t gil_wait) {
    int taken = 0;
    pthread_mutex_lock(&weft_dog.lock);
    for (weft_watched *one = weft_dog.first; one != NULL; one = one->next) {
        if (one == watched && one->serial == serial && one->wanted && one->stall.epoch == epoch && one->capture == NULL) {
            one->capture = capture;
            one->stall.gil_wait = gil_wait;
            taken = 1;
        }
    }
    pthread_mutex_unlock(&weft_dog.lock);
    return taken;
}

static int weft_dog_is_capturing(weft_watched *watched) {
    pthread_mutex_lock(&weft_dog.lock);
    int is_capturing = weft_dog.captures > 0 && watched->capture == NULL;
    pthread_mutex_unlock(&weft_dog.lock);
    return is_capturing;
}

/* The loop's thread, when the callback has ended: what was found of it. The reference to the capture is the caller's. */
static PyObject *weft_dog_finish(weft_watched *watched, int64_t now, weft_stall *stall) {
    pthread_mutex_lock(&weft_dog.lock);
    PyObject *capture = watched->capture;
    *stall = watched->stall;
    stall->collected = weft_dog.gc_total - stall->collected;
    /* The process may have been stopped, and gone on just now: then the watchdog is overdue as well. */
    if (weft_dog.is_running) stall->stolen += weft_dog_lateness(now);
    watched->capture = NULL;
    watched->wants_word = 0;
    weft_dog.unseen += capture == NULL;
    __atomic_store_n(&watched->wanted, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&weft_dog.lock);
    return capture;
}

/* End the thread; without the GIL. `for_good`: it is never started again. */
static void weft_dog_stop(int for_good) {
    int64_t until = weft_monotonic_ns() + WEFT_PATIENCE;
    pthread_mutex_lock(&weft_dog.lock);
    int was_running = weft_dog.is_running;
    weft_dog.is_running = 0;
    weft_dog.is_stopping = 1;
    weft_dog.is_over |= for_good;
    pthread_mutex_unlock(&weft_dog.lock);
    if (was_running) {
        weft_bell_ring(&weft_dog.bell);
        pthread_join(weft_dog.thread, NULL);
    }
    for (int waiting = 1; waiting && weft_monotonic_ns() < until;) {
        pthread_mutex_lock(&weft_dog.lock);
        waiting = weft_dog.captures > 0;
        pthread_mutex_unlock(&weft_dog.lock);
        if (waiting) usleep(200);
    }
}

static void weft_dog_resume(void) {
    pthread_mutex_lock(&weft_dog.lock);
    weft_dog_start();
    pthread_mutex_unlock(&weft_dog.lock);
}

/* In a forked child there is one thread, and what ran before are the parent's loops. */
static void weft_dog_forget(void) {
    pthread_mutex_init(&weft_dog.lock, NULL);
    for (weft_watched *watched = weft_dog.first; watched != NULL; watched = watched->next) {
        watched->is_known = watched->wanted = 0;
        watched->bell = NULL;
    }
    weft_dog.first = NULL;
    weft_dog.is_running = weft_dog.captures = 0;
    weft_dog.bell.parked = 0;
}

/* -- the garbage collector ----------------------------------------------------------------------------------------- */

/* For gc.callbacks; called with the GIL held, "start" and "stop" in turn. */
static PyObject *weft_dog_on_collection(PyObject *Py_UNUSED(self), PyObject *const *arguments, Py_ssize_t count) {
    if (count > 0 && PyUnicode_Check(arguments[0])) {
        int64_t now = weft_monotonic_ns();
        if (PyUnicode_READ_CHAR(arguments[0], 2) == 'a') {
            weft_dog.gc_started = now;
        } else if (weft_dog.gc_started != 0) {
            weft_dog.gc_total += now - weft_dog.gc_started;
            weft_dog.gc_started = 0;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef weft_dog_collection = {
    "weft_watch_collection", (PyCFunction)(void (*)(void))weft_dog_on_collection, METH_FASTCALL,
    "Notes how long collections take, for weft.watch.",
};

static inline PyObject *weft_dog_collection_callback(void) { return PyCFunction_New(&weft_dog_collection, NULL); }

#endif
