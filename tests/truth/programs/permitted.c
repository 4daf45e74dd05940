/* Asks the kernel whether an unprivileged sampler may work at all: opens a CPU-clock event on this
 * very process, with user stacks, and tells the refusal. Exit 0: permitted. */
#include <linux/perf_event.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_CPU_CLOCK;
    attr.sample_period = 10000000;
    attr.exclude_kernel = 1;
    if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0) {
        printf("perf_event_open: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
