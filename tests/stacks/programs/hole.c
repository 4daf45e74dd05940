/* A frame with pages that were never touched: what the kernel copies of a stack ends there. */
#include "spin.h"

NOINLINE static void leaf(void) { spin(1000); STAY; }
NOINLINE static void large(void) {
    volatile char room[200000];
    room[0] = 1;
    leaf();
    STAY;
}
int main(void) { large(); STAY; return 0; }
