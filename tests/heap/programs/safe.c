// Does all that programs do with memory and processes, and checks that it is done as without a profiler.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "line %d: %s\n", __LINE__, #what); abort(); } } while (0)

static void fill(unsigned char *block, size_t size, int seed) {
    for (size_t i = 0; i < size; i++) block[i] = (unsigned char)(seed + i * 7);
}

static void check(unsigned char *block, size_t size, int seed) {
    for (size_t i = 0; i < size; i++) CHECK(block[i] == (unsigned char)(seed + i * 7));
}

static void functions(int seed) {
    void *block;
    for (size_t size = 1; size < 40000; size = size * 4 + 1) {
        unsigned char *grown = malloc(size);
        fill(grown, size, seed);
        CHECK(malloc_usable_size(grown) >= size);
        grown = realloc(grown, size * 2);
        check(grown, size, seed);
        grown = reallocarray(grown, 3, size);
        check(grown, size, seed);
        grown = realloc(grown, size / 2 + 1);
        check(grown, size / 2 + 1, seed);
        free(grown);
        unsigned char *zeroed = calloc(size, 3);
        for (size_t i = 0; i < 3 * size; i++) CHECK(zeroed[i] == 0);
        memset(zeroed, 255, 3 * size);
        free(zeroed);
        for (size_t alignment = 16; alignment <= 65536; alignment *= 16) {
            CHECK(posix_memalign(&block, alignment, size) == 0 && (uintptr_t)block % alignment == 0);
            fill(block, size, seed);
            free(block);
            block = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
            CHECK((uintptr_t)block % alignment == 0);
            fill(block, size, seed);
            free(block);
            block = memalign(alignment, size);
            CHECK((uintptr_t)block % alignment == 0);
            block = realloc(block, size + 100);
            fill(block, size + 100, seed);
            free(block);
        }
        block = valloc(size);
        CHECK((uintptr_t)block % 4096 == 0);
        free(block);
        block = pvalloc(size);
        CHECK((uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= 4096);
        free(block);
    }
    free(NULL);
    free(malloc(0));
    free(realloc(NULL, 100));
    volatile size_t huge = PTRDIFF_MAX;
    errno = 0;
    CHECK(malloc(huge) == NULL && errno == ENOMEM);
    CHECK(calloc(huge, huge) == NULL);
    CHECK(posix_memalign(&block, 3, 10) == EINVAL);
    unsigned char *kept = malloc(100);
    fill(kept, 100, 1);
    CHECK(realloc(kept, huge) == NULL);
    check(kept, 100, 1);
    errno = 77;
    free(kept);
    CHECK(errno == 77);
}

static pthread_key_t key;
static void at_exit_of_thread(void *block) { free(block); free(malloc(5000)); }

static void *thread(void *argument) {
    pthread_setspecific(key, malloc(3000));
    functions((int)(intptr_t)argument);
    return malloc(777);
}

static volatile sig_atomic_t is_allocating, handled;
static void handler(int signal) {
    (void)signal;
    if (is_allocating) return;
    void *volatile block = malloc(2000);
    free(block);
    handled++;
}

static void signals(void) {
    signal(SIGALRM, handler);
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; handled < 200; i++) {
        is_allocating = 1;
        void *volatile block = malloc(100 + i % 1000);
        free(block);
        is_allocating = 0;
        for (volatile int j = 0; j < 1000; j++) {}
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

static void forks(int depth) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        functions(depth);
        if (depth > 0) forks(depth - 1);
        _exit(7);
    }
    functions(3);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    child = vfork();
    if (child == 0) _exit(9);
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 9);
}

static void *forking(void *argument) { forks(1); return argument; }

static void loads(const char *library) {
    for (int i = 0; i < 20; i++) {
        void *loaded = dlopen(library, RTLD_NOW);
        CHECK(loaded);
        int (*allocate)(void) = (int (*)(void))dlsym(loaded, "allocate");
        CHECK(allocate && allocate() == 3);
        CHECK(dlclose(loaded) == 0);
        CHECK(!dlopen("/nowhere.so", RTLD_NOW) && dlerror());
    }
}

// Usage: safe LIBRARY [again]
int main(int count, char **arguments) {
    pthread_key_create(&key, at_exit_of_thread);
    functions(1);
    signals();
    loads(arguments[1]);
    for (int round = 0; round < 1; round++) {
        pthread_t threads[100];
        for (int i = 0; i < 100; i++) {
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            // Little room: what a sample needs of the stack must fit.
            pthread_attr_setstacksize(&attributes, 64 << 10);
            CHECK(pthread_create(&threads[i], &attributes, i % 10 ? thread : forking, (void *)(intptr_t)i) == 0);
        }
        for (int i = 0; i < 100; i++) {
            void *block;
            pthread_join(threads[i], &block);
            if (i % 10) free(block);
        }
    }
    if (count == 2) {
        char *again[] = {arguments[0], arguments[1], "again", NULL};
        execv("/proc/self/exe", again);
        abort();
    }
    puts("as it should be");
    return 3;
}
