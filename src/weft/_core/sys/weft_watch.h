/* What a loop shows to the watchdog: a few words in the loop, which cost it one store per callback.
 *
 * The loop's thread writes `epoch`, `turn_started` and `idle`, and the watchdog's threads only read them; `wanted` is set
 * by the watchdog and cleared by the loop. Everything below `next` is the watchdog's, under its lock (weft_watchdog.h).
 */
#ifndef WEFT_WATCH_H
#define WEFT_WATCH_H

#include "weft_sys.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How the watchdog is woken: `rings` is the futex that it sleeps on, `parked` says that it sleeps without a limit. */
typedef struct weft_bell {
    uint32_t rings;
    uint32_t parked;
} weft_bell;

/* What is known of a callback that takes too long; written when that is noticed. Times are of CLOCK_MONOTONIC, in ns. */
typedef struct weft_stall {
    uint64_t epoch;
    int64_t started;    /* not later than it really was */
    int64_t noticed;
    int64_t stolen;     /* for how long nothing in the process ran, so far */
    int64_t cpu;        /* the thread's processor time at `measured`, which is not before `started` */
    int64_t measured;
    int64_t delay;      /* its wait for a processor, before `started`; -1: unknown */
    int64_t collected;  /* by the collector in all, when it began; weft_dog_finish() makes it the time since */
    int64_t gil_wait;   /* how long it took to get the GIL, for the frames */
    int samples, running; /* how often the kernel was asked for the thread's state, and how often that was R */
    char call[160];     /* /proc/self/task/TID/syscall */
    char channel[64];   /* /proc/self/task/TID/wchan */
    char target[256];   /* what the system call's first argument refers to, where that is a descriptor */
} weft_stall;

typedef struct weft_watched {
    uint64_t epoch; /* how many callbacks have begun */
    int64_t turn_started;
    int idle;
    int wanted;      /* a stall was noticed: whoever begins the next callback is to say so */
    weft_bell *bell; /* NULL while nobody watches */
    int64_t threshold;

    struct weft_watched *next, *previous;
    int is_known;
    uint64_t serial;
    int tid;
    pthread_t pthread;
    PyThreadState *thread;
    PyObject *loop; /* borrowed: a loop that runs is alive */
    uint64_t seen_epoch;
    int64_t seen_first, seen_before, looked, stolen;
    int64_t delay; /* at the last look at a loop that was busy */
    int64_t next_word;
    int phase;
    int wants_word;
    int captures; /* how many captures are under way that this loop may wait for */
    PyObject *capture; /* owned */
    weft_stall suspect, stall;
} weft_watched;

/* The next callback begins: the store. Whether a stall has just ended; then nothing is stored, so that it still shows. */
static inline int weft_watch_begin(weft_watched *watched) {
    if (__builtin_expect(__atomic_load_n(&watched->wanted, __ATOMIC_RELAXED), 0)) return 1;
    __atomic_store_n(&watched->epoch, watched->epoch + 1, __ATOMIC_RELAXED);
    return 0;
}

/* The same from where nobody could report it. */
static inline void weft_watch_advance(weft_watched *watched) {
    __atomic_store_n(&watched->epoch, watched->epoch + 1, __ATOMIC_RELAXED);
}

/* The loop is about to wait for the kernel. */
static inline void weft_watch_rest(weft_watched *watched) {
    __atomic_store_n(&watched->idle, 1, __ATOMIC_RELAXED);
}

static inline void weft_bell_ring(weft_bell *bell) {
    __atomic_add_fetch(&bell->rings, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &bell->rings, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* It is awake. A parked watchdog has said so before it looked at `idle` for the last time, hence the fence. */
static inline void weft_watch_rouse(weft_watched *watched) {
    if (!watched->idle) return;
    weft_watch_advance(watched);
    __atomic_store_n(&watched->idle, 0, __ATOMIC_RELAXED);
    if (watched->bell == NULL) return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&watched->bell->parked, __ATOMIC_RELAXED)
        && __atomic_exchange_n(&watched->bell->parked, 0, __ATOMIC_SEQ_CST)) {
        weft_bell_ring(watched->bell);
    }
}

#endif
