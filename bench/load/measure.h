/* What the load generators share: the clocks, the latencies, the processor time of the server, and the report.
 *
 * Included once by each of them, which defines PROGRAM, its name, before. The invariant: what is counted is counted
 * between two moments, and the processor times are read at exactly these.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

enum {
    SUB_BITS = 6, /* latency buckets per power of two: 2^6, hence 1.6 % wide */
    BUCKETS = 64 << SUB_BITS,
};

struct server_cpu {
    uint64_t total_ns; /* exact, from the CPU clock of the process */
    uint64_t user_ticks, system_ticks;
};

static uint64_t histogram[BUCKETS];

static inline void fail(const char *what)
{
    fprintf(stderr, PROGRAM ": %s: %s\n", what, errno ? strerror(errno) : "protocol error");
    exit(1);
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Log-linear buckets, as in HdrHistogram: exact below 64 ns, then 64 per power of two. */
static inline unsigned bucket_of(uint64_t ns)
{
    unsigned shift;
    if (ns < (1u << SUB_BITS))
        return (unsigned)ns;
    shift = 63 - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (unsigned)((ns >> shift) & ((1u << SUB_BITS) - 1));
}

static inline double bucket_middle(unsigned bucket)
{
    unsigned shift = bucket >> SUB_BITS;
    if (shift == 0)
        return bucket;
    return ((double)((1u << SUB_BITS) + (bucket & ((1u << SUB_BITS) - 1))) + 0.5) * (double)(1ull << (shift - 1));
}

static inline double quantile_us(double share, uint64_t count)
{
    uint64_t seen = 0, wanted = (uint64_t)(share * (double)count);
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen > wanted)
            return bucket_middle(bucket) / 1e3;
    }
    return 0;
}

/* The process clock is exact but one number; /proc/PID/stat says how it splits (proc_pid_stat(5), fields 14, 15). */
static inline struct server_cpu server_cpu(pid_t pid)
{
    struct server_cpu cpu = {0, 0, 0};
    char path[64], text[1024], *rest;
    clockid_t clock;
    unsigned long user, system;
    FILE *file;
    size_t length;
    if (pid == 0)
        return cpu;
    if (clock_getcpuclockid(pid, &clock) == 0)
        cpu.total_ns = clock_ns(clock);
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "r");
    if (file == NULL)
        return cpu;
    length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    rest = strrchr(text, ')'); /* the name may hold spaces */
    if (rest && sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2) {
        cpu.user_ticks = user;
        cpu.system_ticks = system;
    }
    return cpu;
}

static inline void note_latency(uint64_t ns)
{
    histogram[bucket_of(ns)]++;
}

/* Run on one processor core; on any for -1. */
static inline void take_core(int core)
{
    cpu_set_t cores;
    if (core < 0)
        return;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    sched_setaffinity(0, sizeof cores, &cores);
}

/* As many descriptors as are allowed. */
static inline void take_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static inline void report(pid_t pid, uint64_t messages, uint64_t elapsed, uint64_t own_ns,
                   struct server_cpu before, struct server_cpu after)
{
    double count = messages ? (double)messages : 1;
    double total = (double)(after.total_ns - before.total_ns) / 1e3;
    double user = (double)(after.user_ticks - before.user_ticks);
    double system = (double)(after.system_ticks - before.system_ticks);
    double share = user + system > 0 ? user / (user + system) : 0;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"load_busy\": %.3f",
           (unsigned long long)messages, (double)elapsed / 1e9, quantile_us(0.50, messages),
           quantile_us(0.99, messages), (double)own_ns / (double)elapsed);
    if (pid)
        printf(", \"cpu_us\": %.4f, \"user_us\": %.4f, \"system_us\": %.4f, \"server_busy\": %.3f", total / count,
               total * share / count, total * (1 - share) / count, total * 1e3 / (double)elapsed);
    printf("}\n");
}

#endif
