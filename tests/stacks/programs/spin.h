/* Uses CPU time: milliseconds of this thread's clock. */
#include <time.h>

static volatile unsigned long spun;

static inline double cpu_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static inline __attribute__((always_inline)) void spin(double ms) {
    double end = cpu_ms() + ms;
    do
        for (int i = 0; i < 50000; i++) spun += i;
    while (cpu_ms() < end);
}

#define NOINLINE __attribute__((noinline, noclone))
/* Keeps a call from becoming a jump. */
#define STAY __asm__ volatile("")
