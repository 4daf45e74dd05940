/* Threads that wait in several ways and measure how long they did: for each function the time that passed
 * in it, less the time that its thread ran or was ready to run meanwhile, as the scheduler counts it.
 * Writes "name nanoseconds" for each, and how long all threads were there. Usage: waits SECONDS FILE */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NAP_SHORT, NAP_LONG, POLL, READ_PIPE, LOCK, DEEP, KINDS };
static const char *names[KINDS] = {"nap_short", "nap_long", "poll_it", "read_pipe", "lock_it", "deep"};
static _Atomic long long waited[KINDS];
static _Atomic long long lived;
static _Atomic int stopping;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int ends[2];

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* What the calling thread has run and been ready, in nanoseconds. */
static long long busy(int schedstat) {
    char text[96];
    ssize_t length = pread(schedstat, text, sizeof text - 1, 0);
    if (length <= 0) exit(2);
    text[length] = 0;
    long long run, ready;
    if (sscanf(text, "%lld %lld", &run, &ready) != 2) exit(2);
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return cpu.tv_sec * 1000000000LL + cpu.tv_nsec + ready;
}

static int own_schedstat(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/schedstat", syscall(SYS_gettid));
    int file = open(path, O_RDONLY);
    if (file < 0) exit(2);
    return file;
}

static void nap(long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&time, 0);
}

#define OUT __attribute__((noinline, noclone))
OUT void nap_short(void) { nap(4000); __asm__ volatile(""); }
OUT void nap_long(void) { nap(40000); __asm__ volatile(""); }
OUT void poll_it(void) { poll(0, 0, 7); __asm__ volatile(""); }
OUT void read_pipe(void) { char c; if (read(ends[0], &c, 1) != 1) exit(3); }
OUT void lock_it(void) { pthread_mutex_lock(&mutex); pthread_mutex_unlock(&mutex); }
OUT void deep(int more) { if (more) deep(more - 1); else nap(10000); __asm__ volatile(""); }

#define MEASURED(kind, call) do { \
    long long began = now(), had = busy(schedstat); \
    call; \
    waited[kind] += now() - began - (busy(schedstat) - had); \
} while (0)

#define THREAD(name, ...) static void *name(void *unused) { \
    (void)unused; \
    int schedstat = own_schedstat(); \
    long long born = now(); \
    while (!stopping) { __VA_ARGS__ } \
    (void)schedstat; \
    lived += now() - born; \
    return 0; \
}

THREAD(naps, MEASURED(NAP_SHORT, nap_short()); MEASURED(NAP_LONG, nap_long());)
THREAD(polls, MEASURED(POLL, poll_it());)
THREAD(reads, MEASURED(READ_PIPE, read_pipe());)
THREAD(locks, MEASURED(LOCK, lock_it()); nap(1000);)
THREAD(recursion, MEASURED(DEEP, deep(20));)
THREAD(holds, pthread_mutex_lock(&mutex); nap(8000); pthread_mutex_unlock(&mutex); nap(2000);)
THREAD(writes, nap(10000); if (write(ends[1], "x", 1) != 1) exit(3);)

int main(int count, char **arguments) {
    if (count < 3 || pipe(ends)) return 2;
    long long born = now();
    void *(*functions[])(void *) = {naps, polls, reads, locks, recursion, holds, writes};
    enum { THREADS = sizeof functions / sizeof *functions };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) if (pthread_create(&threads[i], 0, functions[i], 0)) return 2;
    sleep(atoi(arguments[1]));
    stopping = 1;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
    lived += now() - born;
    FILE *out = fopen(arguments[2], "w");
    if (!out) return 2;
    for (int i = 0; i < KINDS; i++) fprintf(out, "%s %lld\n", names[i], (long long)waited[i]);
    fprintf(out, "lived %lld\n", (long long)lived);
    return fclose(out) != 0;
}
