/* Two threads on one CPU that wake each other through futexes; prints nanoseconds of the switch, the
 * median of blocks, and the CPU seconds of the program. Usage: switches SECONDS */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 20000, MOST = 100000 };
static _Atomic int turn;
static _Atomic int stopping;

static void pass(int own) {
    while (atomic_load(&turn) != own && !stopping) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !own, 0, 0, 0);
    atomic_store(&turn, !own);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void *other(void *unused) { while (!stopping) pass(1); return unused; }

static int ascending(const void *a, const void *b) { double d = *(double *)a - *(double *)b; return (d > 0) - (d < 0); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    static double blocks[MOST];
    int done = 0;
    double end = now() + (count > 1 ? atof(arguments[1]) : 3);
    pthread_t thread;
    pthread_create(&thread, 0, other, 0);
    while (now() < end && done < MOST) {
        double began = now();
        for (int i = 0; i < BLOCK; i++) pass(0);
        blocks[done++] = (now() - began) / BLOCK / 2 * 1e9;
    }
    stopping = 1;
    atomic_store(&turn, 1);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 2, 0, 0, 0);
    pthread_join(thread, 0);
    qsort(blocks, done, sizeof *blocks, ascending);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%.1f %.3f\n", done ? blocks[done / 2] : 0,
           usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    return 0;
}
