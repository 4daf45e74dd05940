/* Threads that wait for ever, and eight that nap now and then. Usage: parked THREADS SECONDS */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void *waits(void *unused) { for (;;) pause(); return unused; }
static void *naps(void *unused) {
    for (;;) { struct timespec t = {0, 5000000}; nanosleep(&t, 0); }
    return unused;
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < atoi(arguments[1]) + 8; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, i < 8 ? naps : waits, 0)) return 1;
    }
    sleep(atoi(arguments[2]));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("0 %.3f\n", usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                          (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    return 0;
}
