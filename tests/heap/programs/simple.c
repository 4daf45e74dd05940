// Allocates 200 times 1,000,000 bytes in a function, and keeps 20 of them. With an argument so often again.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) void allocate(int i) {
    static void *volatile kept;
    void *volatile block = malloc(1000000);
    *(volatile char *)block = 1;
    if (i % 10) free(block); else kept = block;
}
int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : 1;
    for (int i = 0; i < rounds * 200; i++) allocate(i);
    puts("done");
}
