// Allocates in functions of different kinds, from several threads, and writes down what each has allocated and
// what is left of it: bytes, blocks, and the variance of what is to be found of them where a block of n bytes is
// sampled with the probability p = 1 - exp(-n / interval) and stands for n / p bytes and 1 / p blocks.
//
// Usage: heap ROUNDS INTERVAL TRUTH THREADS
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER_INLINED __attribute__((noinline))
enum { SMALL, MIDDLE, LARGE, ZEROED, GROWN, ALIGNED, LEAKED, KINDS };
static const char *names[KINDS] = {"small", "middle", "large", "zeroed", "grown", "aligned", "leaked"};

struct sums { double bytes, blocks, bytes_variance, blocks_variance; };
struct counts { struct sums all[KINDS], left[KINDS]; };
static double interval;
static long rounds;

static void add(struct sums *sums, double size) {
    double chance = -expm1(-size / interval);
    sums->bytes += size;
    sums->blocks += 1;
    sums->bytes_variance += size * size * (1 - chance) / chance;
    // A block stands for a whole number of blocks, which is the right one in the mean.
    double rest = 1 / chance - floor(1 / chance);
    sums->blocks_variance += (1 - chance) / chance + chance * rest * (1 - rest);
}

static void touch(void *volatile block) { *(volatile char *)block = 1; }

NEVER_INLINED void small(struct counts *counts) {
    for (int i = 0; i < 500; i++) {
        size_t size = 24 + 8 * (i % 20);
        void *volatile block = malloc(size);
        touch(block);
        free(block);
        add(&counts->all[SMALL], size);
    }
}

NEVER_INLINED void middle(struct counts *counts) {
    for (int i = 0; i < 10; i++) {
        void *volatile block = malloc(3000);
        touch(block);
        free(block);
        add(&counts->all[MIDDLE], 3000);
    }
}

NEVER_INLINED void large(struct counts *counts) {
    void *volatile block = malloc(64 << 10);
    touch(block);
    free(block);
    add(&counts->all[LARGE], 64 << 10);
}

NEVER_INLINED void zeroed(struct counts *counts) {
    for (int i = 0; i < 40; i++) {
        void *volatile block = calloc(25, 40);
        touch(block);
        free(block);
        add(&counts->all[ZEROED], 1000);
    }
}

NEVER_INLINED void grown(struct counts *counts) {
    void *volatile block = NULL;
    for (size_t size = 64; size <= 16 << 10; size *= 2) {
        block = realloc(block, size);
        touch(block);
        add(&counts->all[GROWN], size);
    }
    free(block);
}

NEVER_INLINED void aligned(struct counts *counts) {
    void *block = NULL;
    for (int i = 0; i < 20; i++) {
        if (posix_memalign(&block, 256, 2000)) abort();
        touch(block);
        free(block);
        add(&counts->all[ALIGNED], 2000);
    }
}

NEVER_INLINED void leaked(struct counts *counts) {
    static __thread void *volatile last;
    for (int i = 0; i < 10; i++) {
        last = malloc(700);
        touch(last);
        add(&counts->all[LEAKED], 700);
        add(&counts->left[LEAKED], 700);
    }
}

static void *work(void *argument) {
    for (long i = 0; i < rounds; i++) {
        small(argument);
        middle(argument);
        large(argument);
        zeroed(argument);
        grown(argument);
        aligned(argument);
        leaked(argument);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    rounds = atol(arguments[1]);
    interval = atof(arguments[2]);
    int threads = atoi(arguments[4]);
    struct counts *counts = calloc(threads, sizeof *counts);
    pthread_t ids[64];
    for (int i = 1; i < threads; i++) pthread_create(&ids[i], NULL, work, &counts[i]);
    work(&counts[0]);
    for (int i = 1; i < threads; i++) pthread_join(ids[i], NULL);
    FILE *truth = fopen(arguments[3], "w");
    for (int kind = 0; kind < KINDS; kind++) {
        struct sums all = {0}, left = {0};
        for (int i = 0; i < threads; i++) {
            struct sums *of[2] = {&counts[i].all[kind], &counts[i].left[kind]}, *to[2] = {&all, &left};
            for (int j = 0; j < 2; j++) {
                to[j]->bytes += of[j]->bytes;
                to[j]->blocks += of[j]->blocks;
                to[j]->bytes_variance += of[j]->bytes_variance;
                to[j]->blocks_variance += of[j]->blocks_variance;
            }
        }
        fprintf(truth, "%s.alloc_space %.0f\n%s.alloc_space.variance %.0f\n", names[kind], all.bytes, names[kind], all.bytes_variance);
        fprintf(truth, "%s.alloc_objects %.0f\n%s.alloc_objects.variance %.0f\n", names[kind], all.blocks, names[kind], all.blocks_variance);
        fprintf(truth, "%s.inuse_space %.0f\n%s.inuse_space.variance %.0f\n", names[kind], left.bytes, names[kind], left.bytes_variance);
        fprintf(truth, "%s.inuse_objects %.0f\n%s.inuse_objects.variance %.0f\n", names[kind], left.blocks, names[kind], left.blocks_variance);
    }
    return fclose(truth);
}
