/* Allocates and frees blocks, of which 64 are there at a time; prints picoseconds of a pair, the median of blocks
 * of 20,000, and the CPU seconds of the program. Usage: pairs MILLIONS SIZE */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { BLOCK = 20000, MOST = 100000, KEPT = 64 };

static int ascending(const void *a, const void *b) { double d = *(double *)a - *(double *)b; return (d > 0) - (d < 0); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    long blocks = atol(arguments[1]) * 1000000 / BLOCK;
    size_t size = atol(arguments[2]);
    static double times[MOST];
    static void *volatile kept[KEPT];
    if (blocks > MOST) blocks = MOST;
    for (long i = 0; i < blocks; i++) {
        double began = now();
        for (int j = 0; j < BLOCK; j++) {
            void *volatile *place = &kept[j % KEPT];
            free(*place);
            *place = malloc(size);
        }
        times[i] = (now() - began) / BLOCK;
    }
    qsort(times, blocks, sizeof *times, ascending);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("%.0f %.3f\n", 1000 * times[blocks / 2], cpu);
}
