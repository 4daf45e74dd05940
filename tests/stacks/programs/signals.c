/* A function is interrupted by a signal whose handler uses the CPU; with an argument on a stack of its own. */
#include <signal.h>
#include <stdlib.h>
#include "spin.h"

NOINLINE static void leaf(void) { spin(200); }
NOINLINE static void handler(int number) { (void)number; leaf(); STAY; }
NOINLINE static void interrupted(void) { raise(SIGUSR1); STAY; }

int main(int count, char **arguments) {
    (void)arguments;
    struct sigaction action = {.sa_handler = handler};
    if (count > 1) {
        stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
        sigaltstack(&stack, 0);
        action.sa_flags = SA_ONSTACK;
    }
    sigaction(SIGUSR1, &action, 0);
    for (int i = 0; i < 5; i++) interrupted();
    return 0;
}
