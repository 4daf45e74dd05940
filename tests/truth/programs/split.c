/* A C program that knows where its CPU time goes: 60 % burn_major, 30 % burn_minor, 10 % burn_rare.
 *
 * It takes long turns (600, 300 and 100 ms of its own thread's CPU clock), so that a sampler with a
 * steady period can miss at most one sample a turn. burn_rare sits below 22 frames of about 1 KB:
 * a sampler that copies 16 KiB of stack does not see main from there.
 * Usage: split TRUTH.json CPU_SECONDS */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#if defined(__clang__)
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noipa))
#endif

static uint64_t thread_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Inlined into its callers: profiles show it as an inlined frame with lines of this block. */
static inline __attribute__((always_inline)) uint64_t scramble(uint64_t x) {
    x ^= x >> 33; /* inline:begin */
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 29;
    x *= 0xc4ceb9fe1a85ec53u;
    x ^= x >> 32;
    return x; /* inline:end */
}

APART uint64_t burn_major(uint64_t seed, uint64_t until) {
    do {
        for (int i = 0; i < 400000; i++) seed = scramble(seed + 1);
    } while (thread_ns() < until);
    return seed;
}

APART uint64_t burn_minor(uint64_t seed, uint64_t until) {
    uint64_t table[64] = {0};
    do {
        for (int i = 0; i < 400000; i++) {
            table[seed & 63] += seed;
            seed = seed * 6364136223846793005u + table[(seed >> 58) & 63] + 1;
        }
    } while (thread_ns() < until);
    return seed;
}

APART uint64_t burn_rare(uint64_t seed, uint64_t until) {
    do {
        for (int i = 0; i < 160000; i++) seed = (seed / 7) * 0x9e3779b97f4a7c15u + (uint64_t)i;
    } while (thread_ns() < until);
    return seed;
}

APART uint64_t descend(int level, uint64_t seed, uint64_t until) {
    volatile unsigned char frame[1000];
    frame[level] = (unsigned char)seed;
    uint64_t result = level == 0 ? burn_rare(seed, until) : descend(level - 1, seed, until);
    return result + frame[level];
}

static uint64_t spent_major, spent_minor, spent_rare;

APART uint64_t run_turns(uint64_t end) {
    uint64_t seed = 42, now = thread_ns();
    while (now < end) {
        uint64_t begin = now;
        seed = burn_major(seed, begin + 600000000u);
        now = thread_ns(), spent_major += now - begin, begin = now;
        seed = burn_minor(seed, begin + 300000000u);
        now = thread_ns(), spent_minor += now - begin, begin = now;
        seed = descend(22, seed, begin + 100000000u);
        now = thread_ns(), spent_rare += now - begin;
    }
    return seed;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    volatile uint64_t sink = run_turns((uint64_t)(atof(argv[2]) * 1e9));
    (void)sink;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    uint64_t cpu = (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
                   (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u;
    FILE *out = fopen(argv[1], "w");
    if (!out) return 1;
    fprintf(out,
            "{\"cpu_ns\":%llu,\"functions\":{\"burn_major\":%llu,\"burn_minor\":%llu,"
            "\"burn_rare\":%llu}}\n",
            (unsigned long long)cpu, (unsigned long long)spent_major,
            (unsigned long long)spent_minor, (unsigned long long)spent_rare);
    return fclose(out) == 0 ? 0 : 1;
}
