/* Threads and a child that call functions, and count how often. One begins with a push, one calls itself, one
 * is called through a pointer. Prints the counts. Usage: calls ROUNDS FILE */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct counts { _Atomic long parse, recurse, pointed; };
static struct counts *counts;

#define OUT __attribute__((noinline, noclone))
OUT long parse(long n) {
    counts->parse++;
    volatile long sum = 0;
    for (int i = 0; i < 200; i++) sum += i * n;
    return sum;
}
OUT long recurse(int n) {
    counts->recurse++;
    return n <= 0 ? 1 : recurse(n - 1) + parse(n);
}
OUT long pointed(long n) {
    counts->pointed++;
    return n + 1;
}
static long (*volatile pointer)(long) = pointed;

static void *work(void *rounds) {
    for (long i = 0; i < (long)rounds; i++) {
        parse(i);
        if (i % 10 == 0) recurse(3);
        pointer(i);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    counts = mmap(0, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *rounds = (void *)atol(arguments[1]);
    pid_t child = fork();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) if (pthread_create(&threads[i], 0, work, rounds)) return 3;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    if (child == 0) return 0;
    waitpid(child, 0, 0);
    FILE *out = fopen(arguments[2], "w");
    if (!out) return 2;
    fprintf(out, "parse %ld\nrecurse %ld\npointed %ld\n", counts->parse, counts->recurse, counts->pointed);
    return fclose(out) != 0;
}
