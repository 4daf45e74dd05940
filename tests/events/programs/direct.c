/* Writes and reads blocks past the cache, one at a time, and measures how long each took. Writes the bytes and
 * nanoseconds of both; ends with 3 where the file system cannot do that. Usage: direct COUNT FILE TRUTH */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64 << 10 };
static long long spent[2];
static char *block;

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

#define OUT __attribute__((noinline, noclone))
OUT void write_one(int file, int at) {
    long long began = now();
    if (pwrite(file, block, SIZE, (off_t)at * SIZE) != SIZE) exit(3);
    spent[0] += now() - began;
}
OUT void read_one(int file, int at) {
    long long began = now();
    if (pread(file, block, SIZE, (off_t)at * SIZE) != SIZE) exit(3);
    spent[1] += now() - began;
}

int main(int count, char **arguments) {
    if (count < 4 || posix_memalign((void **)&block, 4096, SIZE)) return 2;
    memset(block, 1, SIZE);
    int many = atoi(arguments[1]);
    /* Without holes, or the first write of each block is another one of the file system's own. */
    int plain = open(arguments[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < many; i++) if (write(plain, block, SIZE) != SIZE) return 2;
    if (fsync(plain)) return 2;
    int file = open(arguments[2], O_RDWR | O_DIRECT);
    if (file < 0) return 3;
    /* A sample of each is wanted, which take their room until they are read. */
    for (int i = 0; i < many; i++) write_one(file, i), usleep(1000);
    for (int i = 0; i < many; i++) read_one(file, i), usleep(1000);
    FILE *out = fopen(arguments[3], "w");
    if (!out) return 2;
    fprintf(out, "bytes %lld\nwritten %lld\nread %lld\n", (long long)many * SIZE, spent[0], spent[1]);
    return fclose(out) != 0;
}
