/* Touches pages that are not there in cycles of 64: 40 in one function, 20 in a second, 4 in a third.
 * Writes how many page faults the kernel counted of it, and prints its CPU time in milliseconds and in
 * seconds. Usage: touches CYCLES FILE */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { PAGE = 4096, CYCLE = 64, CYCLES_AT_ONCE = 64 };

#define OUT __attribute__((noinline, noclone))
static void touch(char *from, int pages) { for (int i = 0; i < pages; i++) ((volatile char *)from)[i * PAGE] = 1; }
OUT void touch_forty(char *from) { touch(from, 40); __asm__ volatile(""); }
OUT void touch_twenty(char *from) { touch(from, 20); __asm__ volatile(""); }
OUT void touch_four(char *from) { touch(from, 4); __asm__ volatile(""); }

int main(int count, char **arguments) {
    if (count < 3) return 2;
    size_t size = (size_t)PAGE * CYCLE * CYCLES_AT_ONCE;
    char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 2;
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (int cycle = 0; cycle < atoi(arguments[1]); cycle++) {
        char *at = memory + (size_t)(cycle % CYCLES_AT_ONCE) * CYCLE * PAGE;
        if (cycle % CYCLES_AT_ONCE == 0 && cycle) madvise(memory, size, MADV_DONTNEED);
        touch_forty(at);
        touch_twenty(at + 40 * PAGE);
        touch_four(at + 60 * PAGE);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                     (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("%.1f %.4f\n", seconds * 1000, seconds);
    FILE *out = fopen(arguments[2], "w");
    if (!out) return 2;
    fprintf(out, "faults %ld\n", usage.ru_minflt + usage.ru_majflt);
    return fclose(out) != 0;
}
