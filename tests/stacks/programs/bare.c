/* Calls assembly without rules. */
#include "spin.h"

void bare(long turns);
NOINLINE static void caller(void) { bare(20000000); STAY; }
int main(void) {
    double end = cpu_ms() + 1000;
    while (cpu_ms() < end) caller();
    return 0;
}
