/* Threads and a child that call functions, and count how often. One begins with a push, one calls itself, one
 * is called through a pointer, one begins with nothing that the kernel emulates, and one has a probe that knows
 * whether somebody listens. Prints the counts. Usage: calls ROUNDS FILE */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct counts { _Atomic long parse, recurse, pointed, plain, sold, heard; };
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
/* Begins with nothing that the kernel emulates. */
OUT long plain(long n) {
    __asm__ volatile("mov %0, %0\n\tadd $3, %0" : "+r"(n));
    return n;
}

/* A probe as <sys/sdt.h> writes it, with a semaphore. */
unsigned short sold_semaphore __attribute__((section(".probes")));
OUT void sell(void) {
    if (*(volatile unsigned short *)&sold_semaphore) counts->heard++;
    counts->sold++;
    __asm__ volatile(
        "990: nop\n"
        ".pushsection .note.stapsdt,\"\",\"note\"\n"
        ".balign 4\n"
        ".4byte 992f-991f, 994f-993f, 3\n"
        "991: .asciz \"stapsdt\"\n"
        "992: .balign 4\n"
        "993: .8byte 990b\n"
        ".8byte _.stapsdt.base\n"
        ".8byte sold_semaphore\n"
        ".asciz \"shop\"\n"
        ".asciz \"sold\"\n"
        ".asciz \"\"\n"
        "994: .balign 4\n"
        ".popsection\n"
        ".ifndef _.stapsdt.base\n"
        ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
        ".weak _.stapsdt.base\n"
        ".hidden _.stapsdt.base\n"
        "_.stapsdt.base: .space 1\n"
        ".size _.stapsdt.base,1\n"
        ".popsection\n"
        ".endif\n");
}

static void *work(void *rounds) {
    for (long i = 0; i < (long)rounds; i++) {
        parse(i);
        if (i % 10 == 0) recurse(3);
        pointer(i);
        if (i % 10 == 5) counts->plain++, plain(i);
        if (i % 3 == 0) sell();
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
    fprintf(out, "parse %ld\nrecurse %ld\npointed %ld\nplain %ld\nsold %ld\nheard %ld\n", counts->parse,
            counts->recurse, counts->pointed, counts->plain, counts->sold, counts->heard);
    return fclose(out) != 0;
}
