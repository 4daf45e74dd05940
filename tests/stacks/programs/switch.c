/* Half of the time on another stack by assembly, half in a fiber of the C library. */
#include <stdlib.h>
#include <ucontext.h>
#include "spin.h"

void on_stack(char *top, void (*function)(void));
static ucontext_t program, fiber;
NOINLINE static void on_other_stack(void) { spin(500); STAY; }
NOINLINE static void in_fiber(void) { spin(500); STAY; }
NOINLINE static void switches(char *stack) { on_stack(stack, on_other_stack); STAY; }
int main(void) {
    char *stack = malloc(1 << 18);
    switches(stack + (1 << 17));
    getcontext(&fiber);
    fiber.uc_stack.ss_sp = stack;
    fiber.uc_stack.ss_size = 1 << 18;
    fiber.uc_link = &program;
    makecontext(&fiber, in_fiber, 0);
    swapcontext(&program, &fiber);
    return 0;
}
