/* Code of many shapes for ever: callbacks through the C library, recursion, frames of unknown size, many
   arguments, tail calls, signal handlers, printing, sorting, long jumps. */
#include <alloca.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
static volatile unsigned long sum;
static jmp_buf back;

NOINLINE static void work(int turns) {
    for (int i = 0; i < turns; i++) sum += i * 2654435761UL;
}
NOINLINE static int compare(const void *a, const void *b) {
    work(20);
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}
NOINLINE static void sorts(void) {
    int numbers[300];
    for (int i = 0; i < 300; i++) numbers[i] = rand();
    qsort(numbers, 300, sizeof *numbers, compare);
    sum += numbers[7];
}
NOINLINE static int recurses(int depth, double x) {
    char room[depth % 7 * 16 + 8];
    memset(room, depth, sizeof room);
    if (depth == 0) {
        work(300);
        return (int)x;
    }
    return recurses(depth - 1, x * 1.1) + room[3];
}
NOINLINE static long many(long a, long b, long c, long d, long e, long f, long g, long h, long i) {
    work(50);
    return a * b + c * d + e * f + g * h + i;
}
NOINLINE static void calls_many(void) {
    for (long i = 0; i < 20; i++) sum += many(i, 2, 3, 4, 5, 6, 7, 8, 9) + many(1, i, 3, 4, 5, 6, 7, 8, i);
}
NOINLINE static void prints(const char *format, ...) {
    char line[200];
    va_list list;
    va_start(list, format);
    sum += vsnprintf(line, sizeof line, format, list);
    va_end(list);
}
NOINLINE static void allocates(int size) {
    char *room = alloca(size);
    char aligned[96] __attribute__((aligned(64)));
    memset(room, size, size);
    memcpy(aligned, room, size < 96 ? size : 96);
    work(200);
    sum += aligned[size % 90];
}
NOINLINE static void handler(int number) {
    work(2000 + number);
}
NOINLINE static void jumps(int depth) {
    work(100);
    if (depth == 0) longjmp(back, 1);
    jumps(depth - 1);
    sum++;
}
NOINLINE static void heap(void) {
    void *all[100];
    for (int i = 0; i < 100; i++) all[i] = malloc(rand() % 3000);
    for (int i = 0; i < 100; i++) free(all[i]);
}

int main(void) {
    signal(SIGUSR1, handler);
    for (unsigned turn = 0;; turn++) {
        sorts();
        sum += recurses(turn % 30, 1.5);
        calls_many();
        prints("%d %s %g %lx\n", turn, "text", turn * 0.1, sum);
        allocates(turn % 500 + 1);
        if (turn % 8 == 0) raise(SIGUSR1);
        if (setjmp(back) == 0) jumps(turn % 10);
        heap();
    }
}
